"""Who is heard, by whose clock; what the hub writes about it, and how often."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from edgefleet.core import names, units
from edgefleet.kube import kinds
from edgefleet.kube.client import Object
from support.cluster import condition, eventually
from support.fake_agent import FakeAgent
from support.hub import Fleet, Operator, Shelf

pytestmark = pytest.mark.cluster


def beat_of(lease: Object) -> Object:
    """Who wrote the lease's spec, and when the API server says it was."""
    entries = [e for e in lease["metadata"]["managedFields"] if e["manager"] == names.AGENT_MANAGER]
    assert len(entries) == 1, "one manager, one entry: beats do not pile up"
    found: Object = entries[0]
    return found


async def lease_of(agent: FakeAgent) -> Object:
    return await agent.api.get(kinds.LEASE, agent.namespace, names.LEASE)


@pytest.mark.parametrize("years", [-55, 73], ids=["a clock in 1971", "a clock in 2099"])
async def test_a_site_with_a_wrong_clock_is_heard_by_the_hubs_clock(fleet: Fleet, years: int) -> None:
    agent = await fleet.join("paris")
    await fleet.connectivity("paris", "Online")
    agent.clock_offset = timedelta(days=365 * years)
    await agent.beat()
    first = beat_of(await lease_of(agent))["time"]

    async def moved() -> str:
        latest: str = beat_of(await lease_of(agent))["time"]
        return latest if latest != first else ""

    later = await eventually(moved, "the server's time of the beat moves")
    assert abs((units.instant(later) - datetime.now(UTC)).total_seconds()) < 10

    async def noticed() -> bool:
        site = await fleet.api.get(kinds.EDGE_SITE, None, agent.site)
        return condition(site, "ClockSynced").get("status") == "False"

    await eventually(noticed, "the skew is said")
    assert (await fleet.connectivity("paris", "Online"))["status"]["connectivity"] == "Online"
    await agent.rest()
    await fleet.connectivity("paris", "Away")


async def test_a_silent_site_turns_away_then_offline_and_comes_back_at_its_first_beat(fleet: Fleet) -> None:
    agent = await fleet.join("paris", heartbeat={"interval": "1s", "offlineAfter": "3s"}, autonomy="6s")
    online = await fleet.connectivity("paris", "Online")
    await agent.rest()
    away = await fleet.connectivity("paris", "Away")
    assert condition(away, "Available")["status"] == "False"
    assert condition(away, "Ready")["status"] == condition(online, "Ready")["status"], (
        "reachability is Available's"
    )
    await fleet.connectivity("paris", "Offline")
    await agent.wake()
    back = await fleet.connectivity("paris", "Online")
    assert units.instant(back["status"]["lastSeen"]) > units.instant(away["status"]["lastSeen"])


async def test_beats_alone_write_nothing_to_the_site(fleet: Fleet) -> None:
    agent = await fleet.join("paris")
    await fleet.connectivity("paris", "Online")
    await asyncio.sleep(6)  # the last figures are written
    before = await fleet.api.get(kinds.EDGE_SITE, None, agent.site)
    beats = beat_of(await lease_of(agent))["time"]
    await asyncio.sleep(4)
    after = await fleet.api.get(kinds.EDGE_SITE, None, agent.site)
    assert beat_of(await lease_of(agent))["time"] != beats
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


async def test_the_answer_to_a_beat_tells_whether_anything_is_new(fleet: Fleet, shelf: Shelf) -> None:
    agent = await fleet.join("paris")

    async def agrees() -> bool:
        policy = await agent.api.get(kinds.EDGE_AGENT, agent.namespace, names.AGENT)
        await agent.beat()
        await agent.look()
        return agent.fingerprint == agent.expected_fingerprint(policy["metadata"]["generation"])

    await eventually(agrees, "hub and site compute the same fingerprint")
    empty = agent.fingerprint
    await fleet.apply("digits", await shelf.bundle())
    await fleet.ready("digits")
    await eventually(agrees, "also with an order")
    assert agent.fingerprint != empty


async def test_a_changed_policy_reaches_the_site(fleet: Fleet) -> None:
    agent = await fleet.join("paris")
    change = {"spec": {"cordoned": True, "heartbeat": {"interval": "2s"}}}
    await fleet.api.merge_patch(kinds.EDGE_SITE, None, agent.site, change)

    async def delivered() -> bool:
        policy = await agent.api.get(kinds.EDGE_AGENT, agent.namespace, names.AGENT)
        return policy["spec"] == {"heartbeatInterval": "2s", "cordoned": True}

    await eventually(delivered, "the EdgeAgent has the policy")


async def test_a_restart_loses_nothing_and_moves_nobody(
    fleet: Fleet, shelf: Shelf, operator: Operator, api_server: Path
) -> None:
    quiet, _loud = await fleet.joined("quiet", "loud")
    await fleet.apply("digits", await shelf.bundle())
    before = await fleet.ready("digits")
    orders = {short: await fleet.order(short, "digits") for short in ("quiet", "loud")}
    await quiet.rest()
    operator.kill()
    await asyncio.sleep(4.5)  # longer than offlineAfter: the silence is ours, not the site's
    operator.start()
    await operator.ready()
    await asyncio.sleep(1.5)
    site = await fleet.api.get(kinds.EDGE_SITE, None, quiet.site)
    assert site["status"]["connectivity"] == "Online"
    await fleet.connectivity("quiet", "Away")

    after = await fleet.ready("digits")
    assert after["status"]["rollout"] == before["status"]["rollout"]
    for short, order in orders.items():
        now = await fleet.order(short, "digits")
        assert now is not None
        assert order is not None
        assert now["metadata"]["uid"] == order["metadata"]["uid"]
        assert now["spec"] == order["spec"]


async def test_what_changed_while_the_operator_was_down_is_done_when_it_is_back(
    fleet: Fleet, shelf: Shelf, operator: Operator
) -> None:
    await fleet.joined("lab")
    await fleet.apply("old", await shelf.bundle())
    old = await fleet.ready("old")
    operator.kill()
    new = await shelf.bundle()
    await fleet.apply("new", new)
    await fleet.api.delete(kinds.EDGE_MODEL, fleet.namespace, "old", uid=old["metadata"]["uid"])
    operator.start()
    await operator.ready()
    await fleet.offered("lab", "new", new)
    await fleet.ready("new")

    async def gone() -> bool:
        return await fleet.order("lab", "old") is None

    await eventually(gone, "the order of the deleted model is carried out and cleared")
