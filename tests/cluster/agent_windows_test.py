"""Windows and bandwidth of a site, on real API servers and a real registry: by the hub, without it, across restarts.

Windows are an hour long and either around now or six hours away, so that no test waits for a clock.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from edgefleet.core.order import Mode, to_wire
from edgefleet.kube import kinds
from edgefleet.kube.client import Object
from support.agents import SiteLab, order
from support.cluster import eventually
from support.hub import Shelf

pytestmark = pytest.mark.cluster
_QUIET = 5.0
"""Seconds in which nothing must happen: several passes."""


@pytest.fixture
async def lab(api_server: Path, site_api_server: Path, shelf: Shelf) -> AsyncIterator[SiteLab]:
    async with SiteLab.open(api_server, site_api_server, shelf) as made:
        made.agent.start()
        await made.joined()
        yield made


def away() -> list[Object]:
    """A window that opens in six hours."""
    opens = datetime.now(UTC) + timedelta(hours=6)
    return [{"schedule": f"{opens.minute} {opens.hour} * * *", "duration": "1h", "timeZone": "UTC"}]


def parts(lab: SiteLab) -> int:
    """Bytes of models in the site's store, whole or in part."""
    return sum(
        item.stat().st_size
        for item in (lab.folder / "store").rglob("*")
        if item.is_file() and item.name != "journal.json"
    )


async def here(lab: SiteLab, stage: str, reason: str) -> Object:
    """Wait for a stage as the site's own API server shows it, with or without a hub."""

    async def told() -> Object | None:
        found = (await lab.mirror()).get("status") or {}
        return found if (found.get("stage"), found.get("reason")) == (stage, reason) else None

    found: Object = await eventually(told, f"{stage} {reason}", seconds=60)
    return found


async def test_a_model_is_staged_and_waits_for_the_update_window_also_offline_and_after_a_restart(
    lab: SiteLab,
) -> None:
    noted = await lab.policy(windows={"update": away()})
    assert noted["status"]["windows"] == {"download": True, "update": False}
    wanted = order(await lab.shelf.bundle())
    await lab.hub.give(wanted)

    report = await lab.hub.reported("Staged", "WindowClosed")
    assert report["message"].startswith("the update window opens at 20")
    assert report["download"]["done"] == report["download"]["total"] > 0
    await eventually(lambda: _mirrored(lab), "the policy is mirrored", seconds=60)

    lab.cable.cut()
    lab.agent.kill()
    lab.agent.start()
    await asyncio.sleep(_QUIET)
    await here(lab, "Staged", "WindowClosed")
    assert await lab.deployments() == []
    assert await lab.site_api.list(kinds.JOB, lab.models) == []

    lab.cable.heal()
    await lab.policy(windows=None)
    await lab.hub.reported("Serving", "Serving", seconds=60)
    assert await lab.selected() == wanted.revision
    await eventually(lambda: _mirrored(lab, there=False), "the mirror has no windows either", seconds=60)


async def _mirrored(lab: SiteLab, *, there: bool = True) -> bool:
    """Whether the site's own API server shows windows, or that there are none any more."""
    found = await lab.site_api.get(kinds.EDGE_AGENT, lab.models, "site")
    return ("windows" in found["spec"]) is there


async def test_a_lost_journal_finds_its_windows_in_the_mirror(lab: SiteLab) -> None:
    await lab.policy(windows={"download": away()})
    await lab.hub.give(order(await lab.shelf.bundle()))
    await lab.hub.reported("Waiting", "WindowClosed")
    assert parts(lab) == 0
    await eventually(lambda: _mirrored(lab), "the policy is mirrored", seconds=60)
    lab.cable.cut()
    lab.agent.kill()
    (lab.folder / "store" / "journal.json").unlink()
    lab.agent.start()

    await eventually(lambda: _journal_has_windows(lab), "the journal has the windows again", seconds=40)
    await asyncio.sleep(_QUIET)
    await here(lab, "Waiting", "WindowClosed")
    assert parts(lab) == 0


async def _journal_has_windows(lab: SiteLab) -> bool:
    path = lab.folder / "store" / "journal.json"
    return path.exists() and bool(lab.journal.get("policy", {}).get("spec", {}).get("windows"))


async def test_going_back_waits_for_no_window(lab: SiteLab) -> None:
    first = await lab.served()
    second = await lab.served(mode=Mode.DIRECT)
    await lab.policy(windows={"download": away(), "update": away()})

    await lab.hub.give(
        order(
            first.bundle,
            revision=first.revision,
            mode=Mode.DIRECT,
            replaces=second.bundle.split("@")[1],
            go_back=True,
        )
    )

    await lab.hub.reported("Serving", "Serving", seconds=60)
    assert await lab.selected() == first.revision


async def test_a_download_is_as_slow_as_its_limit_stops_with_its_window_and_goes_on_where_it_was(
    lab: SiteLab,
) -> None:
    """4 MiB at 64 KiB a second are more than a minute; without a limit they are nothing."""
    await lab.policy(bandwidthLimit="64Ki")
    wanted = order(await lab.shelf.bundle(size=4 << 20))
    await lab.hub.give(wanted)
    report = await lab.hub.reported("Downloading", "Downloading")
    assert report["message"] == "at most 64Ki bytes per second"

    await eventually(lambda: _arrived(lab, 128 << 10), "something has arrived", seconds=30)
    await lab.policy(windows={"download": away()})
    report = await lab.hub.reported("Waiting", "WindowClosed")
    there = parts(lab)
    assert 0 < there < 3 << 20, "a limit of 64 KiB a second let more through than it may"
    assert report["download"]["total"] > 4 << 20

    lab.agent.kill()
    lab.agent.start()
    await asyncio.sleep(_QUIET)
    assert parts(lab) == there, "what was fetched is kept, and nothing is fetched"

    await lab.policy(windows=None)
    await eventually(lambda: _arrived(lab, there + 1), "it goes on", seconds=40)
    await lab.policy(bandwidthLimit=None)
    await lab.hub.reported("Serving", "Serving", seconds=60)
    assert await lab.selected() == wanted.revision
    asked = [line for line in lab.shelf.server.requests() if line.startswith("GET") and "/blobs/" in line]
    assert asked


async def _arrived(lab: SiteLab, size: int) -> bool:
    return parts(lab) >= size


async def test_a_box_without_a_hub_obeys_the_windows_of_its_own_edge_agent(
    api_server: Path, site_api_server: Path, shelf: Shelf
) -> None:
    async with SiteLab.open(api_server, site_api_server, shelf) as lab:
        hub = ("EDGEFLEET_HUB", "EDGEFLEET_SITE", "EDGEFLEET_JOIN")
        settings = lab.agent.environment.items()
        lab.agent.environment = {key: value for key, value in settings if not key.startswith(hub)}
        lab.agent.start()
        await lab.says("Joined", "False", "NoHub")
        await lab.site_api.merge_patch(
            kinds.EDGE_AGENT, lab.models, "site", {"spec": {"windows": {"update": away()}}}
        )
        await eventually(lambda: _journal_has_windows(lab), "the journal has the windows", seconds=60)
        wanted = order(await shelf.bundle())
        body = {"metadata": {"name": "team.digits"}, "spec": to_wire(wanted)}
        await lab.site_api.create(kinds.EDGE_DEPLOYMENT, lab.models, body)
        await here(lab, "Staged", "WindowClosed")

        await lab.site_api.merge_patch(kinds.EDGE_AGENT, lab.models, "site", {"spec": {"windows": None}})
        await here(lab, "Serving", "Serving")
        assert await lab.selected() == wanted.revision
