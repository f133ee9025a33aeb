"""Sites that are set aside: by what they refuse and by how they come and go, on a real API server."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from edgefleet.kube import kinds
from edgefleet.kube.client import Object
from support import hub
from support.cluster import condition, eventually
from support.commands import Cluster
from support.fake_agent import Plan
from support.hub import Fleet, Operator, Shelf, digest

pytestmark = pytest.mark.cluster
POLICY = {
    "EDGEFLEET_QUARANTINE_FLAPS": "4",
    "EDGEFLEET_QUARANTINE_FLAPS_WITHIN": "10m",
    "EDGEFLEET_QUARANTINE_MAX_SHARE": "10%",
}
WAVES = {"waves": [{"name": "all", "maxFailures": 1}]}


@pytest.fixture(scope="module")
def operator(api_server: Path, shelf: Shelf, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """An operator that loses patience sooner."""
    with hub.running(api_server, shelf, tmp_path_factory.mktemp("operator"), POLICY) as made:
        yield made


async def says(fleet: Fleet, short: str, status: str, reason: str, *, seconds: float = 25) -> Object:
    """Wait for what is said of a site's quarantine."""

    async def holds() -> Object | None:
        raw = await fleet.api.get(kinds.EDGE_SITE, None, fleet.name(short))
        found = condition(raw, "Quarantined")
        return raw if (found.get("status"), found.get("reason")) == (status, reason) else None

    found: Object = await eventually(holds, f"{short} is {status} {reason}", seconds=seconds)
    return found


async def test_a_site_that_keeps_failing_is_set_aside_stays_so_over_a_restart_and_catches_up_when_released(
    fleet: Fleet, shelf: Shelf, operator: Operator, api_server: Path
) -> None:
    bad = [await shelf.bundle() for _ in range(3)]
    await fleet.joined("a", "b")
    await fleet.join("c", plan=Plan(fails=dict.fromkeys(map(digest, bad), "GoldenDisagrees")))
    await fleet.apply("digits", await shelf.bundle(), rollout=WAVES)
    await fleet.ready("digits")
    for bundle in bad:
        await fleet.apply("digits", bundle, rollout=WAVES)
        await fleet.ready("digits")
    held = await says(fleet, "c", "True", "RepeatedFailures")
    assert "refused 3 revisions" in condition(held, "Quarantined")["message"]

    operator.kill()
    operator.start()
    await operator.ready()
    latest = await shelf.bundle()
    await fleet.apply("digits", latest, rollout=WAVES)
    ready = await fleet.ready("digits")
    counts = {name: number for name, number in ready["status"]["sites"].items() if number}
    assert counts == {"desired": 2, "updated": 2, "healthy": 2, "quarantined": 1}
    order = await fleet.order("c", "digits")
    assert order is not None
    assert order["spec"]["bundle"] != latest
    again = await says(fleet, "c", "True", "RepeatedFailures")
    assert again["status"]["quarantine"] == held["status"]["quarantine"]

    shell = Cluster(api_server, fleet.namespace)
    done = await asyncio.to_thread(shell.edgefleet, "site", "release", fleet.name("c"))
    assert "set aside for RepeatedFailures" in done.output, done.output
    await says(fleet, "c", "False", "NotQuarantined")
    await fleet.offered("c", "digits", latest)

    async def all_three() -> bool:
        model = await fleet.model("digits")
        return bool(model["status"]["sites"]["healthy"] == 3)

    await eventually(all_three, "the released site serves the latest revision")


async def test_sites_that_come_and_go_are_set_aside_up_to_the_share_of_the_fleet(fleet: Fleet) -> None:
    calm = {"interval": "1s", "offlineAfter": "2s"}
    flapping = [await fleet.join(short, heartbeat=calm) for short in ("a", "b")]
    for _ in range(2):
        for agent, short in zip(flapping, ("a", "b"), strict=True):
            await agent.rest()
            await fleet.connectivity(short, "Away")
            await agent.wake()
            await fleet.connectivity(short, "Online")
    first = await says(fleet, "a", "True", "Flapping")
    assert [flap["mark"] for flap in first["status"]["flaps"]] == ["Away", "Online"] * 2
    second = await says(fleet, "b", "False", "QuarantineFull")
    assert "1 of 2 sites are set aside" in condition(second, "Quarantined")["message"]
    assert "quarantine" not in second["status"]
