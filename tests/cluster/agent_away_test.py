"""A site without its hub: it finishes what it began, loses nothing, and comes back by itself.

The way to the hub is a TCP proxy that can be cut. Pods: see support.agents.Kubelet.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from edgefleet.core import names
from edgefleet.kube import kinds
from support.agents import Behaviour, SiteLab, order
from support.cluster import eventually
from support.hub import Shelf

pytestmark = pytest.mark.cluster


@pytest.fixture
async def lab(api_server: Path, site_api_server: Path, shelf: Shelf) -> AsyncIterator[SiteLab]:
    async with SiteLab.open(api_server, site_api_server, shelf) as made:
        made.agent.start()
        yield made


async def started(lab: SiteLab, revision: str) -> None:
    async def there() -> bool:
        return revision in await lab.deployments()

    await eventually(there, f"{revision} is started", seconds=40)


async def test_an_order_taken_up_is_finished_without_the_hub_and_reported_afterwards(lab: SiteLab) -> None:
    await lab.served()
    wanted = order(await lab.shelf.bundle())
    await lab.hub.give(wanted)
    await started(lab, wanted.revision)
    lab.cable.cut()

    await eventually(lambda: lab.only(wanted.revision), "it is promoted", seconds=60)
    assert (await lab.hub.order())["status"]["stage"] != "Serving"
    lab.cable.heal()
    assert (await lab.hub.reported("Serving", "Serving"))["activeRevision"] == wanted.revision


async def test_a_bad_canary_goes_back_without_the_hub_and_is_remembered_over_a_restart(lab: SiteLab) -> None:
    good = await lab.served()
    bad = order(await lab.shelf.bundle())
    lab.kubelet.behaviours[bad.revision] = Behaviour(errors=0.5)
    await lab.hub.give(bad)
    await started(lab, bad.revision)
    lab.cable.cut()
    lab.agent.kill()
    lab.agent.start()

    await eventually(lambda: lab.only(good.revision), "it went back", seconds=60)
    lab.cable.heal()
    report = await lab.hub.reported("RolledBack", "ErrorRateTooHigh")
    assert report["refused"][0]["revision"] == bad.revision


async def test_what_was_ordered_while_it_was_away_is_taken_up_on_return(lab: SiteLab) -> None:
    first = await lab.served()
    lab.cable.cut()
    await asyncio.sleep(2)
    skipped, latest = order(await lab.shelf.bundle()), order(await lab.shelf.bundle())
    await lab.hub.give(skipped)
    await lab.hub.give(latest)
    await asyncio.sleep(2)
    assert await lab.selected() == first.revision
    lab.cable.heal()
    await lab.hub.reported("Serving", "Serving", seconds=60)
    assert await lab.selected() == latest.revision


async def test_orders_that_vanish_from_the_hub_change_nothing_and_are_named(lab: SiteLab) -> None:
    wanted = await lab.served()
    await lab.hub.api.delete(kinds.EDGE_DEPLOYMENT, lab.hub.namespace, "team.digits", uid=None)

    async def named() -> bool:
        live = await lab.hub.api.get(kinds.EDGE_AGENT, lab.hub.namespace, names.AGENT)
        return bool(live["status"].get("orphans") == ["team.digits"])

    await eventually(named, "the orphan is reported", seconds=30)
    assert await lab.deployments() == [wanted.revision]
    assert await lab.selected() == wanted.revision


async def test_an_order_made_anew_on_the_hub_is_reported_under_its_new_uid(lab: SiteLab) -> None:
    wanted = await lab.served()
    await lab.hub.api.delete(kinds.EDGE_DEPLOYMENT, lab.hub.namespace, "team.digits", uid=None)
    await lab.hub.give(wanted)
    report = await lab.hub.reported("Serving", "Serving")
    assert report["order"]["uid"] == (await lab.hub.order())["metadata"]["uid"]


async def test_a_beat_finds_an_order_that_the_watch_missed(lab: SiteLab) -> None:
    """The hub's fingerprint differs from what is held here: the agent lists again within a beat."""
    await lab.served()
    mark = {"metadata": {"annotations": {names.FINGERPRINT: "0" * 16}}}
    await lab.hub.api.merge_patch(kinds.LEASE, lab.hub.namespace, names.LEASE, mark)
    policy = {"spec": {"heartbeatInterval": "2s"}}
    await lab.hub.api.merge_patch(kinds.EDGE_AGENT, lab.hub.namespace, names.AGENT, policy)

    async def taken() -> bool:
        return bool(lab.journal["policy"]["spec"]["heartbeatInterval"] == "2s")

    await eventually(taken, "the new policy is in the journal")


async def test_the_beat_is_stamped_by_the_hub_under_the_agent_s_name(lab: SiteLab) -> None:
    await lab.joined()
    lease: dict[str, Any] = {}

    async def stamped() -> bool:
        nonlocal lease
        lease = await lab.hub.api.get(kinds.LEASE, lab.hub.namespace, names.LEASE)
        fields = lease["metadata"].get("managedFields", ())
        return any(item["manager"] == names.AGENT_MANAGER for item in fields)

    await eventually(stamped, "the hub's API server has stamped a beat")
    assert lease["spec"]["holderIdentity"] == lab.hub.site
