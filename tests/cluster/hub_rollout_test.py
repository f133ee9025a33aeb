"""The hub at work on a real API server: from an EdgeModel to orders at the right sites, and back."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from edgefleet.core import names
from support import hub, hub_chart
from support.cluster import admin, condition
from support.hub import Fleet, Operator, Shelf

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    with hub.shelf(tmp_path_factory.mktemp("shelf")) as made:
        yield made


@pytest.fixture(scope="module")
def operator(api_server: Path, shelf: Shelf, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """One operator for all tests of this module, with the rights of the chart."""
    folder = tmp_path_factory.mktemp("operator")
    kubeconfig = asyncio.run(hub_chart.install(api_server, folder))
    made = Operator(kubeconfig, shelf, folder / "operator.log")
    made.start()
    asyncio.run(made.ready())
    yield made
    made.stop()


@pytest.fixture
async def fleet(api_server: Path, operator: Operator) -> AsyncIterator[Fleet]:
    async with admin(api_server) as api, Fleet(api) as made:
        yield made


def digest(bundle: str) -> str:
    return bundle.rpartition("@")[2]


async def test_a_model_reaches_every_site_its_placement_selects_and_no_other(
    fleet: Fleet, shelf: Shelf
) -> None:
    await fleet.join("paris", labels={"country": "fr"})
    await fleet.join("rome", labels={"country": "it"})
    bundle = await shelf.bundle()
    selector = {"matchLabels": {"test": fleet.id, "country": "fr"}}
    await fleet.apply("digits", bundle, placement={"siteSelector": selector})

    model = await fleet.ready("digits")

    order = await fleet.order("paris", "digits")
    assert order is not None
    assert order["spec"]["bundle"] == bundle
    assert order["spec"]["image"] == hub.POD_IMAGE
    assert order["metadata"]["labels"][names.SITE] == fleet.name("paris")
    assert await fleet.order("rome", "digits") is None
    assert model["status"]["sites"] == {
        "desired": 1,
        "updated": 1,
        "healthy": 1,
        "unreachable": 0,
        "failed": 0,
        "blocked": 0,
    }
    assert model["status"]["currentBundle"] == digest(bundle)
    assert condition(model, "Accepted")["status"] == "True"
    (rollout,) = await fleet.rollouts("digits")
    assert rollout["status"]["outcome"] == "Complete"
    assert rollout["metadata"]["ownerReferences"][0]["uid"] == model["metadata"]["uid"]
