"""A site obeys no order for another jurisdiction, whoever says where it is; what serves goes on."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from edgefleet.core import names
from edgefleet.kube import kinds
from edgefleet.kube.client import Object
from support.agents import SiteLab, order
from support.cluster import eventually
from support.hub import Shelf

pytestmark = pytest.mark.cluster


@pytest.fixture
async def lab(api_server: Path, site_api_server: Path, shelf: Shelf) -> AsyncIterator[SiteLab]:
    async with SiteLab.open(api_server, site_api_server, shelf) as made:
        yield made


async def policy(lab: SiteLab, jurisdiction: str | None) -> None:
    """The hub says where the site is, and the site has taken note."""
    live = await lab.hub.api.merge_patch(
        kinds.EDGE_AGENT, lab.hub.namespace, names.AGENT, {"spec": {"jurisdiction": jurisdiction}}
    )
    lease = {"metadata": {"annotations": {names.FINGERPRINT: f"changed-{jurisdiction}"}}}
    await lab.hub.api.merge_patch(kinds.LEASE, lab.hub.namespace, names.LEASE, lease)

    async def noted() -> bool:
        found = (await told(lab))["status"]
        return bool(found.get("observedGeneration") == live["metadata"]["generation"])

    await eventually(noted, "the site knows its policy", seconds=40)


async def told(lab: SiteLab) -> Object:
    return await lab.hub.api.get(kinds.EDGE_AGENT, lab.hub.namespace, names.AGENT)


def pulled(lab: SiteLab) -> list[str]:
    """Files in the site's store, whole or in part."""
    blobs = lab.folder / "store" / "blobs"
    return sorted(item.name for item in blobs.rglob("*") if item.is_file()) if blobs.exists() else []


async def test_the_site_s_own_word_wins_and_not_a_byte_is_pulled(lab: SiteLab) -> None:
    lab.agent.environment = {**lab.agent.environment, "EDGEFLEET_JURISDICTION": "US"}
    lab.agent.start()
    await lab.joined()
    await policy(lab, "EU")
    await lab.hub.give(order(await lab.shelf.bundle(), jurisdictions=("EU", "UK")))

    report = await lab.hub.reported("Rejected", "JurisdictionMismatch")

    assert report["message"] == "the order is for EU, UK only, this site is in US"
    assert report["refused"] == [] if "refused" in report else True
    assert (await told(lab))["status"]["jurisdiction"] == "US"
    assert pulled(lab) == []
    assert await lab.deployments() == []


async def test_a_policy_that_moves_the_site_stops_what_is_new_and_leaves_what_serves(lab: SiteLab) -> None:
    lab.agent.start()
    await lab.joined()
    await policy(lab, "EU")
    first = await lab.served(jurisdictions=("EU",))
    await policy(lab, "US")
    before = pulled(lab)

    await lab.hub.give(order(await lab.shelf.bundle(), jurisdictions=("EU",)))

    report = await lab.hub.reported("Rejected", "JurisdictionMismatch")
    assert report["activeRevision"] == first.revision
    assert await lab.selected() == first.revision
    assert pulled(lab) == before
    await policy(lab, "EU")
    report = await lab.hub.reported("Serving", "Serving")
    assert report["activeRevision"] != first.revision, "the order in the journal is obeyed when it may be"
