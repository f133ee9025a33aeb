"""Orders are written for a while, then looked at again: a pass over ten thousand sites must not be deaf meanwhile."""

import asyncio
import time
from typing import Any, cast

import pytest
from edgefleet.handlers import carrying
from edgefleet.handlers.carrying import Carrier
from edgefleet.kube import errors
from edgefleet.kube.apply import Write
from edgefleet.kube.cache import Key

nothing = cast(Any, None)


def carrier() -> Carrier:
    return Carrier(nothing, nothing, nothing, nothing, Key("vision", "digits"), None, {})


def writes(count: int, seconds: float, done: list[int]) -> list[Write]:
    async def one(number: int) -> None:
        await asyncio.sleep(seconds)
        done.append(number)

    return [Write(f"order {number}", lambda number=number: one(number)) for number in range(count)]  # type: ignore[misc]


async def test_what_is_soon_written_is_written_whole() -> None:
    done: list[int] = []
    mine = carrier()
    assert await mine._many(writes(40, 0.0, done)) == ([], True)
    assert sorted(done) == list(range(40))
    assert mine._again == []


async def test_a_pass_begins_no_more_orders_after_a_while_and_is_called_again_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(carrying, "_ORDERS_FOR", 0.2)
    done: list[int] = []
    mine = carrier()
    failed, whole = await mine._many(writes(2000, 0.05, done))
    assert (failed, whole) == ([], False)
    assert 0 < len(done) < 2000
    assert done[:16] == list(range(16)), "in the order in which they were decided"
    assert mine._again == [0.0]


async def test_a_pass_that_took_long_to_decide_writes_longer() -> None:
    done: list[int] = []
    mine = Carrier(
        nothing, nothing, nothing, nothing, Key("vision", "digits"), None, {}, began=time.monotonic() - 1
    )
    failed, whole = await mine._many(writes(16 * 6, 0.5, done))
    assert (failed, whole) == ([], True), "three seconds of writes after one of looking"


async def test_refused_orders_keep_back_no_others() -> None:
    done: list[int] = []

    async def refused() -> None:
        raise errors.Invalid("no")

    mine = carrier()
    failed, whole = await mine._many([Write("bad", refused), *writes(30, 0.0, done)])
    assert whole
    assert [what for what, _ in failed] == ["bad"]
    assert len(done) == 30
