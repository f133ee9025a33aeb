"""`surge: Preferred` at a real API server: two revisions that do not fit beside each other, and an agent that dies."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from edgefleet.core.order import Canary, Gates, Surge
from edgepod.contract import SelfTestReport
from support.agents import STEPS, Behaviour, SiteLab, order
from support.cluster import eventually
from support.hub import Shelf

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

PREFERRED = Canary(steps=STEPS, gates=Gates(min_requests=20), surge=Surge.PREFERRED)


@pytest.fixture
async def lab(api_server: Path, site_api_server: Path, shelf: Shelf) -> AsyncIterator[SiteLab]:
    """A site that has room for the one pod that serves."""
    async with SiteLab.open(api_server, site_api_server, shelf) as made:
        made.agent.start()
        await made.served()
        made.kubelet.room = 1
        yield made


async def test_the_old_one_goes_the_new_one_comes_and_the_hub_reads_how_long_nobody_served(
    lab: SiteLab,
) -> None:
    wanted = order(await lab.shelf.bundle(), canary=PREFERRED)
    await lab.hub.give(wanted)
    await lab.hub.reported("Blocked", "InsufficientMemory")

    async def declared() -> bool:
        return "swap" in lab.journal["models"]["team.digits"]

    await eventually(declared, "the journal declares the swap", seconds=60)
    lab.agent.kill()
    lab.agent.start()
    report = await lab.hub.reported("Serving", "Serving", seconds=120)
    assert await lab.selected() == wanted.revision
    assert await lab.deployments() == [wanted.revision]
    assert (report["swap"]["revision"], report["swap"]["outcome"]) == (wanted.revision, "Swapped")
    assert report["swap"]["gapSeconds"] >= 0


async def test_a_newcomer_that_fails_in_the_place_made_gives_it_back(lab: SiteLab) -> None:
    (good,) = await lab.deployments()
    wanted = order(await lab.shelf.bundle(), canary=PREFERRED)
    failed = SelfTestReport(passed=False, reason="GoldenDisagrees")
    lab.kubelet.behaviours[wanted.revision] = Behaviour(selftest=failed, selftest_exit=1)
    await lab.hub.give(wanted)
    await lab.hub.reported("RolledBack", "GoldenDisagrees", seconds=120)

    async def back() -> bool:
        return "gapSeconds" in ((await lab.hub.order())["status"].get("swap") or {})

    await eventually(back, "the gap is over", seconds=60)
    report = await lab.hub.reported("RolledBack", "GoldenDisagrees")
    assert (report["activeRevision"], report["swap"]["outcome"]) == (good, "WentBack")
    assert await lab.deployments() == [good]
