"""Operator and agent together, and both in one cluster: hub and site share an API server, told apart by namespace.

Pods: see support.agents.Kubelet.
"""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from edgefleet.core import names
from edgefleet.kube import kinds
from support.agents import Behaviour, SiteLab
from support.cluster import condition, eventually
from support.fake_agent import join_token
from support.hub import Fleet, Shelf

pytestmark = pytest.mark.cluster


@pytest.fixture
async def lab(api_server: Path, fleet: Fleet, shelf: Shelf) -> AsyncIterator[SiteLab]:
    """A site in the hub's own cluster. The operator approves and orders, the test does neither."""
    async with SiteLab.open(api_server, api_server, shelf, operator=True, name=fleet.name("shop")) as made:
        await fleet.site("shop")
        (made.folder / "token").write_text(await join_token(fleet.api, made.hub.site))
        made.agent.start()
        yield made


async def selected(lab: SiteLab, fleet: Fleet) -> str:
    service = await lab.site_api.get(
        kinds.SERVICE, lab.models, names.workload_name(fleet.namespace, "digits")
    )
    return str(service["spec"]["selector"][names.REVISION])


CANARY = {
    "steps": [{"shadow": 100, "duration": "1s"}, {"weight": 50, "duration": "1s"}],
    "gates": {"minRequests": 20},
}


async def test_hub_and_site_in_one_cluster_take_a_model_from_apply_to_ready_and_a_bad_one_back(
    lab: SiteLab, fleet: Fleet, shelf: Shelf
) -> None:
    await fleet.connectivity("shop", "Online")
    await fleet.apply("digits", await shelf.bundle(), canary=CANARY)
    model = await fleet.ready("digits", seconds=60)
    first = model["status"]["currentRevision"]
    assert await selected(lab, fleet) == first

    await fleet.apply("digits", await shelf.bundle(), canary=CANARY)
    model = await fleet.ready("digits", seconds=60)
    second = model["status"]["currentRevision"]
    assert second != first
    assert await selected(lab, fleet) == second
    mirror = await lab.site_api.get(kinds.EDGE_DEPLOYMENT, lab.models, f"{fleet.namespace}.digits")
    order = await fleet.order("shop", "digits")
    assert order is not None
    assert mirror["spec"] == order["spec"]
    assert mirror["metadata"]["uid"] != order["metadata"]["uid"]

    lab.kubelet.otherwise = Behaviour(errors=0.5)
    await fleet.apply("digits", await shelf.bundle(), canary=CANARY)
    model = await fleet.until("digits", "Stalled", "True", "RolledBack", seconds=60)
    assert model["status"]["currentRevision"] == second
    assert await selected(lab, fleet) == second


async def test_a_deleted_model_is_taken_away_and_nothing_stays_stuck(
    lab: SiteLab, fleet: Fleet, shelf: Shelf
) -> None:
    await fleet.apply("digits", await shelf.bundle(), canary=CANARY)
    await fleet.ready("digits", seconds=60)
    await fleet.api.delete(kinds.EDGE_MODEL, fleet.namespace, "digits", uid=None)

    async def gone() -> bool:
        left = [
            *await fleet.api.list(kinds.EDGE_MODEL, fleet.namespace),
            *await fleet.api.list(kinds.EDGE_DEPLOYMENT, lab.hub.namespace),
            *await lab.site_api.list(kinds.EDGE_DEPLOYMENT, lab.models),
            *await lab.site_api.list(kinds.DEPLOYMENT, lab.models),
            *await lab.site_api.list(kinds.SERVICE, lab.models),
        ]
        return not left

    await eventually(gone, "model, orders, mirrors and workloads are gone", seconds=60)


async def test_windows_of_an_edge_site_reach_the_site_and_are_obeyed(
    lab: SiteLab, fleet: Fleet, shelf: Shelf
) -> None:
    """A model comes in at once, is installed when the update window opens, and goes back outside of it."""
    opens = datetime.now(UTC) + timedelta(hours=6)
    away = [{"schedule": f"{opens.minute} {opens.hour} * * *", "duration": "1h"}]
    await fleet.connectivity("shop", "Online")
    await fleet.apply("digits", await shelf.bundle(), canary=CANARY)
    first = (await fleet.ready("digits", seconds=90))["status"]["currentRevision"]

    async def windows(found: object) -> None:
        site = fleet.name("shop")
        await fleet.api.merge_patch(kinds.EDGE_SITE, None, site, {"spec": {"windows": found}})

    await windows({"update": away})
    lab.kubelet.otherwise = Behaviour(errors=0.5)
    await fleet.apply("digits", await shelf.bundle(), canary=CANARY)

    async def told() -> bool:
        text = condition(await fleet.model("digits"), "Ready").get("message", "")
        return "1 waiting for its window, the next opens at 20" in text

    await eventually(told, "the model waits for the window", seconds=90)
    order = await fleet.order("shop", "digits")
    assert order is not None
    assert (order["status"]["stage"], order["status"]["reason"]) == ("Staged", "WindowClosed")
    assert await selected(lab, fleet) == first

    await windows(None)
    await fleet.until("digits", "Stalled", "True", "RolledBack", seconds=90)
    assert await selected(lab, fleet) == first
