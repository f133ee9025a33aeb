"""The agent at a real API server: from an order of the hub to a Service that selects it, and back.

No kubelet runs here; `support.agents.Kubelet` sets pods ready through the API and answers for them.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.agents import Behaviour, SiteLab, order
from support.cluster import eventually
from support.hub import Shelf

pytestmark = pytest.mark.cluster


@pytest.fixture
async def lab(api_server: Path, site_api_server: Path, shelf: Shelf) -> AsyncIterator[SiteLab]:
    async with SiteLab.open(api_server, site_api_server, shelf) as made:
        made.agent.start()
        yield made


async def test_a_first_order_is_served_and_reported(lab: SiteLab) -> None:
    agent = await lab.joined()
    wanted = await lab.served()

    assert await lab.selected() == wanted.revision
    assert await lab.deployments() == [wanted.revision]
    report = await lab.hub.reported("Serving")
    assert report["activeRevision"] == wanted.revision
    assert report["activeBundle"] == wanted.bundle.split("@")[1]
    assert report["selfTest"]["passed"] is True
    assert agent["status"]["understands"] == [1]
    assert agent["status"]["inventory"]["memoryBytes"] > 0


async def test_a_second_revision_passes_its_canary_and_the_first_one_is_deleted_last(lab: SiteLab) -> None:
    first = await lab.served()
    second = await lab.served()

    assert await lab.selected() == second.revision
    assert await lab.deployments() == [second.revision]
    report = await lab.hub.reported("Serving")
    assert report["previousRevision"] == first.revision
    assert [item["order"]["revision"] for item in lab.journal["models"]["team.digits"]["served"]] == [
        first.revision,
        second.revision,
    ]


async def test_a_canary_that_fails_under_traffic_goes_back_and_is_not_tried_again(lab: SiteLab) -> None:
    good = await lab.served()
    bad = order(await lab.shelf.bundle())
    lab.kubelet.behaviours[bad.revision] = Behaviour(errors=0.5)
    await lab.hub.give(bad)

    report = await lab.hub.reported("RolledBack", "ErrorRateTooHigh")

    assert report["activeRevision"] == good.revision
    assert report["refused"][0]["revision"] == bad.revision
    assert await lab.selected() == good.revision
    await eventually(lambda: lab.only(good.revision), "the canary is gone")
    lab.agent.kill()
    lab.agent.start()
    await lab.hub.give(bad)
    await asyncio.sleep(3)
    assert await lab.deployments() == [good.revision]
