"""Journal, mirrors and orders given at the site itself, on a real API server (pods: see support.agents.Kubelet)."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from edgefleet.core import names
from edgefleet.core.order import Mode, State, to_wire
from edgefleet.kube import kinds
from edgefleet.kube.client import Object
from support.agents import SiteLab, order
from support.cluster import condition, eventually
from support.hub import Shelf

pytestmark = pytest.mark.cluster

NAME = "team.digits"


@pytest.fixture
async def lab(api_server: Path, site_api_server: Path, shelf: Shelf) -> AsyncIterator[SiteLab]:
    async with SiteLab.open(api_server, site_api_server, shelf) as made:
        made.agent.start()
        yield made


async def deployment_uid(lab: SiteLab) -> str:
    (found,) = await lab.site_api.list(kinds.DEPLOYMENT, lab.models)
    return str(found["metadata"]["uid"])


async def test_an_order_is_mirrored_and_its_report_stands_beside_it(lab: SiteLab) -> None:
    wanted = await lab.served()
    live, mirror = await lab.hub.order(), await lab.mirror()
    assert mirror["metadata"]["labels"][names.ORIGIN] == names.ORIGIN_HUB
    mark = f"{live['metadata']['uid']}/{live['metadata']['generation']}"
    assert mirror["metadata"]["annotations"][names.HUB_ORDER] == mark
    assert mirror["spec"] == live["spec"]
    assert mirror["status"]["activeRevision"] == wanted.revision
    assert mirror["status"]["observedGeneration"] == mirror["metadata"]["generation"]


async def test_an_edited_mirror_is_written_back_and_nothing_that_runs_is_touched(lab: SiteLab) -> None:
    wanted = await lab.served()
    before = await deployment_uid(lab)
    edit = {"spec": {"state": "Remove", "serving": {"replicas": 3}}, "metadata": {"annotations": None}}
    await lab.site_api.merge_patch(kinds.EDGE_DEPLOYMENT, lab.models, NAME, edit)

    async def back() -> bool:
        return bool((await lab.mirror())["spec"] == to_wire(wanted))

    await eventually(back, "the mirror is written back")
    await asyncio.sleep(1)
    assert await deployment_uid(lab) == before


async def test_a_model_at_rest_is_not_written_to(lab: SiteLab) -> None:
    await lab.served()
    await asyncio.sleep(2)
    before = (
        (await lab.mirror())["metadata"]["resourceVersion"],
        (await lab.hub.order())["metadata"]["resourceVersion"],
    )
    for _ in range(5):
        await lab.site_api.merge_patch(
            kinds.SERVICE, lab.models, "team-digits", {"metadata": {"annotations": {"a": str(_)}}}
        )
        await asyncio.sleep(0.5)
    after = (
        (await lab.mirror())["metadata"]["resourceVersion"],
        (await lab.hub.order())["metadata"]["resourceVersion"],
    )
    assert after == before


async def test_callers_alone_start_no_pass(lab: SiteLab) -> None:
    await lab.served()
    lab.kubelet.callers = 1000.0
    await asyncio.sleep(2)  # the last steps of the installation have been seen
    before = lab.agent.passes()
    await asyncio.sleep(5)
    assert lab.agent.passes() - before <= 2


async def test_a_deleted_mirror_comes_back_also_without_the_hub(lab: SiteLab) -> None:
    wanted = await lab.served()
    before = await deployment_uid(lab)
    lab.cable.cut()
    await lab.site_api.delete(kinds.EDGE_DEPLOYMENT, lab.models, NAME, uid=None)

    async def back() -> bool:
        mirror = await lab.mirror()
        return bool((mirror.get("status") or {}).get("activeRevision") == wanted.revision)

    await eventually(back, "the mirror is there again")
    assert await deployment_uid(lab) == before


async def test_a_lost_journal_is_read_back_from_the_mirrors_and_what_serves_serves_on(lab: SiteLab) -> None:
    wanted = await lab.served()
    before = await deployment_uid(lab)
    lab.agent.kill()
    lab.cable.cut()
    (lab.folder / "store" / "journal.json").write_text("{ not a journal")
    lab.agent.start()
    said = await lab.says("Stalled", "True", "JournalLost")
    assert "journal.broken" in said["message"]

    async def known() -> bool:
        return bool(lab.journal["models"].get(NAME, {}).get("served"))

    await eventually(known, "what serves is in the journal again")
    assert await deployment_uid(lab) == before
    assert await lab.selected() == wanted.revision


# -- orders of the future --------------------------------------------------------------------------------
@pytest.fixture
async def newer_hub(lab: SiteLab) -> AsyncIterator[None]:
    """The hub's CRD knows a gate that the site's agent and CRD do not."""
    crd = await lab.hub.api.get(kinds.CRD, None, "edgedeployments.edgefleet.dev")
    newer = json.loads(json.dumps(crd))
    gates = _properties(newer)["canary"]["properties"]["gates"]["properties"]
    gates["minRecall"] = {"type": "string"}
    await lab.hub.api.replace(kinds.CRD, None, crd["metadata"]["name"], newer)
    await asyncio.sleep(1)
    yield
    live = await lab.hub.api.get(kinds.CRD, None, crd["metadata"]["name"])
    del _properties(live)["canary"]["properties"]["gates"]["properties"]["minRecall"]
    await lab.hub.api.replace(kinds.CRD, None, crd["metadata"]["name"], live)


def _properties(crd: Object) -> dict[str, Any]:
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    found: dict[str, Any] = schema["properties"]["spec"]["properties"]
    return found


@pytest.mark.usefixtures("newer_hub")
async def test_an_order_with_a_field_the_agent_does_not_know_is_rejected_and_not_obeyed_in_part(
    lab: SiteLab,
) -> None:
    first = await lab.served()
    spec = to_wire(order(await lab.shelf.bundle()))
    spec["canary"]["gates"]["minRecall"] = "90%"  # type: ignore[index]
    await lab.hub.give(spec)

    report = await lab.hub.reported("Rejected", "AgentTooOld")

    assert "minRecall" in report["message"]
    assert report["activeRevision"] == first.revision
    assert await lab.deployments() == [first.revision]
    mirror = await lab.mirror()  # the site's CRD cannot even hold it
    assert mirror["spec"] == to_wire(first)
    assert mirror["status"]["reason"] == "AgentTooOld"
    better = await lab.served()
    assert await lab.selected() == better.revision


# -- orders given here -----------------------------------------------------------------------------------------
async def apply_here(lab: SiteLab, spec: Object) -> None:
    body = {"metadata": {"name": NAME}, "spec": spec}
    await lab.site_api.create(kinds.EDGE_DEPLOYMENT, lab.models, body)


async def test_an_order_given_at_the_site_is_obeyed_without_a_hub(lab: SiteLab) -> None:
    wanted = order(await lab.shelf.bundle(), mode=Mode.DIRECT)
    await apply_here(lab, to_wire(wanted))

    async def ready() -> bool:
        return condition(await lab.mirror(), "Ready").get("status") == "True"

    await eventually(ready, "it serves", seconds=40)
    assert await lab.selected() == wanted.revision
    assert (await lab.mirror())["status"]["activeRevision"] == wanted.revision


async def test_an_order_given_at_the_site_that_is_deleted_leaves_what_serves(lab: SiteLab) -> None:
    wanted = order(await lab.shelf.bundle(), mode=Mode.DIRECT)
    await apply_here(lab, to_wire(wanted))
    await eventually(lambda: lab.only(wanted.revision), "it starts", seconds=40)
    await lab.site_api.delete(kinds.EDGE_DEPLOYMENT, lab.models, NAME, uid=None)
    await asyncio.sleep(3)
    assert await lab.deployments() == [wanted.revision]


async def test_where_hub_and_site_give_an_order_of_one_name_the_hub_s_is_obeyed(lab: SiteLab) -> None:
    await lab.joined()
    here = order(await lab.shelf.bundle(), mode=Mode.DIRECT)
    await apply_here(lab, to_wire(here))
    await eventually(lambda: lab.only(here.revision), "the local one starts", seconds=40)
    wanted = await lab.served()

    async def conflict() -> bool:
        return bool((await lab.mirror()).get("status", {}).get("reason") == "Conflict")

    await eventually(conflict, "the local order says so")
    assert await lab.selected() == wanted.revision


async def test_removal_takes_all_away_and_the_model_is_forgotten_once_the_hub_lets_go(lab: SiteLab) -> None:
    wanted = await lab.served()
    await lab.hub.give(order(wanted.bundle, revision=wanted.revision, state=State.REMOVE))
    await lab.hub.reported("Removed", "Removed")
    assert await lab.deployments() == []
    await lab.hub.api.delete(kinds.EDGE_DEPLOYMENT, lab.hub.namespace, NAME, uid=None)

    async def forgotten() -> bool:
        return NAME not in lab.journal.get("models", {})

    await eventually(forgotten, "the journal forgets it")
    assert await lab.site_api.list(kinds.EDGE_DEPLOYMENT, lab.models) == []
