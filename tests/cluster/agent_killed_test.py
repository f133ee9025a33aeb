"""The agent dies by SIGKILL right before and right after each kind of write it makes; the end is the same.

The writes are found by watching requests and files moved into place, see support/mortal.py. Pods: see
support.agents.Kubelet.
"""

from pathlib import Path

import pytest
from support.agents import Behaviour, SiteLab, order
from support.cluster import eventually
from support.hub import Shelf

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

REPORTS_AND_JOINING = r"/status|edgeagents|secrets|certificatesigningrequests"
NONE = ""


@pytest.mark.parametrize(
    "spared",
    [
        pytest.param(REPORTS_AND_JOINING, id="writes-to-workloads-mirrors-journal-and-store"),
        pytest.param(NONE, id="all-writes", marks=pytest.mark.soak),
    ],
)
async def test_an_agent_killed_before_and_after_each_write_ends_where_an_undisturbed_one_does(
    api_server: Path, site_api_server: Path, shelf: Shelf, spared: str
) -> None:
    async with SiteLab.open(api_server, site_api_server, shelf, mortal=True) as lab:
        lab.agent.environment = {**lab.agent.environment, "SPARED": spared}
        lab.agent.start()
        first = order(await shelf.bundle())
        await lab.hub.give(first)
        await lab.hub.reported("Serving", "Serving", seconds=480)
        second = order(await shelf.bundle())
        await lab.hub.give(second)
        await lab.hub.reported("Serving", "Serving", seconds=480)
        bad = order(await shelf.bundle())
        lab.kubelet.behaviours[bad.revision] = Behaviour(errors=0.5)
        await lab.hub.give(bad)
        report = await lab.hub.reported("RolledBack", "ErrorRateTooHigh", seconds=480)

        await eventually(lambda: lab.only(second.revision), "only the second one is left", seconds=60)
        assert await lab.selected() == second.revision
        assert report["activeRevision"] == second.revision
        record = lab.journal["models"]["team.digits"]
        assert [item["revision"] for item in record["refused"]] == [bad.revision]
        assert [item["order"]["revision"] for item in record["served"]] == [first.revision, second.revision]
        deaths = lab.agent.deaths
        print(f"{len(deaths)} deaths: {deaths}")
        for write in (
            "POST deployments",
            "POST jobs",
            "POST services",
            "PATCH services",
            "DELETE deployments",
            "file journal",
        ):
            assert [point for point in deaths if write in point], f"it never died at {write}"
