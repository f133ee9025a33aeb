"""How a fleet comes back to a server that was away: by and by, and it knows that it was deaf."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from edgefleet.agent import link
from edgefleet.kube import errors, kinds, watching
from edgefleet.kube.transport import OPENED
from edgefleet.kube.watching import Pace, Watcher
from support import virtual

FLEET = 60


class Server:
    """An API server that can be away, and has then forgotten where its clients were."""

    def __init__(self) -> None:
        self.away = False
        self.version = 1
        self.lists: list[float] = []
        self._broken = asyncio.Event()

    def cut(self) -> None:
        self.away = True
        self._broken.set()

    def heal(self, *, forgets: bool) -> None:
        self.away, self.version = False, self.version + forgets
        self._broken = asyncio.Event()

    async def pages(self, *_: Any, **__: Any) -> AsyncIterator[tuple[list[Any], str]]:
        if self.away:
            raise errors.Unreachable("refused")
        self.lists.append(asyncio.get_running_loop().time())
        yield [], str(self.version)

    async def watch(self, *_: Any, version: str, seconds: float, **__: Any) -> AsyncIterator[Any]:
        if self.away:
            raise errors.Unreachable("refused")
        yield OPENED, {}
        if version != str(self.version):
            raise errors.Gone("too old")
        try:
            async with asyncio.timeout(seconds):
                await self._broken.wait()
        except TimeoutError:
            return
        raise errors.Unreachable("reset")


async def returns(pace: Pace, absence: float) -> tuple[Server, list[float]]:
    """Let a fleet lose its hub for a time; when each of them lists again, in seconds after its return."""
    random.seed(7)  # the same draws each time
    server = Server()
    fleet = [Watcher(server, kinds.EDGE_DEPLOYMENT, lambda *_: None, pace=pace) for _ in range(FLEET)]  # type: ignore[arg-type]
    tasks = [asyncio.create_task(item.run()) for item in fleet]
    await asyncio.sleep(10)
    server.cut()
    await asyncio.sleep(absence)
    server.heal(forgets=True)
    server.lists.clear()
    back = asyncio.get_running_loop().time()
    await asyncio.sleep(120)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return server, [time - back for time in server.lists]


def busiest(times: list[float]) -> int:
    """Most of them within one second."""
    return max(sum(start <= time < start + 1 for time in times) for start in times)


def test_agents_that_come_back_together_list_over_half_a_minute_and_each_once() -> None:
    _, times = virtual.run(returns(link._WATCH, 600))
    assert len(times) == FLEET
    # twenty seconds until the last one tries, thirty to spread
    assert 25 < max(times) < 51
    assert busiest(times) < FLEET / 5


def test_a_moments_absence_costs_no_time() -> None:
    _, times = virtual.run(returns(link._WATCH, 3))
    assert max(times) < 10


@pytest.mark.parametrize(("absence", "most"), [(1.0, 0.1), (60.0, 6.0), (86400.0, 30.0)])
def test_the_spread_grows_with_the_absence_and_is_bounded(absence: float, most: float) -> None:
    drawn = [watching.spread(absence, 30.0) for _ in range(500)]
    assert max(drawn) <= most
    assert max(drawn) - min(drawn) > most / 2


def test_a_watcher_knows_since_when_it_hears() -> None:
    async def listen() -> None:
        server = Server()
        watcher = Watcher(server, kinds.LEASE, lambda *_: None)  # type: ignore[arg-type]
        assert watcher.hearing_since is None
        task = asyncio.create_task(watcher.run())
        await asyncio.sleep(60)
        first = watcher.hearing_since
        assert first is not None
        server.cut()
        await asyncio.sleep(watching.GAP / 6)
        assert watcher.hearing_since == first, "no absence worth speaking of"
        server.heal(forgets=False)
        await asyncio.sleep(60)
        assert watcher.hearing_since == first
        server.cut()
        await asyncio.sleep(watching.GAP * 4)
        assert watcher.hearing_since is None
        server.heal(forgets=False)
        await asyncio.sleep(60)
        again = watcher.hearing_since
        assert again is not None
        assert again > first
        task.cancel()

    virtual.run(listen())
