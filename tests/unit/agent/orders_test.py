"""Orders and policy that come by two ways at once: the older answer is never what is left."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
from edgefleet.agent.clock import Clock
from edgefleet.agent.identity import Identity
from edgefleet.agent.journal import Journal
from edgefleet.agent.link import Link
from edgefleet.agent.mirror import Mirrors
from edgefleet.agent.orders import Orders
from edgefleet.agent.policy import SitePolicy
from edgefleet.core import names
from edgefleet.core.order import OrderIdentity, to_wire
from edgefleet.kube import kinds
from edgefleet.kube.client import Api, Explicit, Object
from support.little_api import LittleApi, little_api
from support.site import order

NAME = "team.digits"
MODELS = "edgefleet-models"


def item(generation: int) -> Object:
    """The hub's order, with another revision in each generation."""
    return {"metadata": {"uid": "u1", "generation": generation}, "spec": to_wire(order(f"{generation:010x}"))}


# -- orders ------------------------------------------------------------------------------------------------
@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Journals are written when it is set."""
    made, replace = threading.Event(), Journal._replace
    made.set()

    def slow(self: Journal, data: bytes) -> None:
        made.wait(10)
        replace(self, data)

    monkeypatch.setattr(Journal, "_replace", slow)
    return made


async def test_an_order_that_is_fetched_again_does_not_replace_a_newer_one_that_is_being_written(
    tmp_path: Path, gate: threading.Event
) -> None:
    journal = Journal(tmp_path)
    orders, held = Orders(journal), item(1)
    await orders.take(NAME, held)
    gate.clear()
    newest = asyncio.create_task(orders.take(NAME, item(3)))
    await asyncio.sleep(0.05)
    older = asyncio.create_task(orders.take_again(NAME, item(2), held))
    await asyncio.sleep(0.05)
    gate.set()
    await asyncio.gather(newest, older)
    assert journal.models[NAME].identity == OrderIdentity(uid="u1", generation=3)
    assert orders.live[NAME]["metadata"]["generation"] == 3


async def test_an_order_that_goes_while_it_is_fetched_again_stays_gone(
    tmp_path: Path, gate: threading.Event
) -> None:
    orders, held = Orders(Journal(tmp_path)), item(1)
    await orders.take(NAME, held)
    gate.clear()
    again = asyncio.create_task(orders.take_again(NAME, item(2), held))
    await asyncio.sleep(0.05)
    orders.gone(NAME)
    gate.set()
    await again
    assert not orders.live


async def test_an_order_that_is_fetched_again_counts_when_nothing_newer_came(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    orders, held = Orders(journal), item(1)
    await orders.take(NAME, held)
    await orders.take_again(NAME, item(2), held)
    assert journal.models[NAME].identity == OrderIdentity(uid="u1", generation=2)
    assert orders.live[NAME]["metadata"]["generation"] == 2


# -- the policy of the hub -----------------------------------------------------------------------------------
class SlowFirst:
    """An API server whose first answer is late: by then the EdgeAgent has changed."""

    def __init__(self) -> None:
        self.generation = 1
        self.asked = 0

    async def get(self, _kind: Any, _namespace: str, _name: str) -> Object:
        self.asked += 1
        found = {"metadata": {"generation": self.generation}, "spec": {"cordoned": self.generation > 1}}
        if self.asked == 1:
            self.generation = 2
            await asyncio.sleep(0.05)
        return found


async def test_of_two_answers_about_the_policy_the_older_is_not_written_last(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    async with little_api() as (server, api):
        link = Link(
            Identity(api, "agent", "shop", Explicit(server.url, b""), None), journal, "shop",
            policy=SitePolicy(journal, Clock()), ring=lambda _: None, back=lambda: None, changed=lambda: None,
            registry=lambda _: None, describe=_nothing,
        )  # fmt: skip
        hub = cast(Api, SlowFirst())
        await asyncio.gather(link._fetch_policy(hub), link._fetch_policy(hub))
    assert journal.policy.generation == 2
    assert journal.policy.spec == {"cordoned": True}


async def _nothing() -> dict[str, Any]:
    return {}


# -- the policy of a box without a hub -------------------------------------------------------------------------
@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[tuple[LittleApi, Journal, Mirrors]]:
    async with little_api() as (server, api):
        journal = Journal(tmp_path)
        yield server, journal, Mirrors(api, MODELS, journal)


async def test_a_policy_that_is_edited_at_the_box_while_it_is_looked_after_is_not_written_over(
    box: tuple[LittleApi, Journal, Mirrors],
) -> None:
    server, journal, mirrors = box
    await mirrors.obey()
    policy = server.objects[kinds.EDGE_AGENT.path(MODELS, names.AGENT)]
    policy["spec"] = {"heartbeatInterval": "120s", "bandwidthLimit": "2Mi"}
    policy["metadata"]["generation"] = 2
    await mirrors.tell({"observedGeneration": journal.policy.generation})
    assert policy["spec"]["bandwidthLimit"] == "2Mi"
    assert policy["status"]["observedGeneration"] == 1, "what was not read yet is not called observed"
    assert await mirrors.obey()
    assert journal.policy.spec["bandwidthLimit"] == "2Mi"
    assert not await mirrors.obey(), "the same again is no other policy"
