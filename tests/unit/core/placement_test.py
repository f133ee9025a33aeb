"""Why a site may be offered a model or not, and what becomes of the model when that changes."""

from typing import Any

import msgspec
import pytest
from edgefleet.core import parse, placement
from edgefleet.core.placement import Asked, Reason
from edgefleet.core.seen import BundleCheck, SiteObject
from edgefleet.core.specs import ModelSpec, Selector
from edgefleet.core.statuses import VariantNeeds
from support.fleet import World, served, world
from support.hubs import START, Raw, agent_raw, bundle, lease_raw, site_raw

MIB = 2**20
INT8 = VariantNeeds(name="int8", cpu_features=("avx512_vnni",), memory_bytes=100 * MIB, size_bytes=50 * MIB)
FP32 = VariantNeeds(name="fp32", memory_bytes=300 * MIB, size_bytes=200 * MIB)
ANYWHERE = Asked(selector=Selector())
BOTH = (INT8, FP32)


def site(
    labels: dict[str, str] | None = None,
    inventory: Raw | None = None,
    understands: tuple[int, ...] = (1,),
    joined: bool = True,
    **spec: Any,
) -> SiteObject:
    """A site that was seen."""
    agent = agent_raw(understands)
    agent["status"] |= {"inventory": inventory} if inventory is not None else {}
    found = (lease_raw(START), agent) if joined else (None, None)
    return parse.site(site_raw("paris", labels, **spec), *found)


def box(memory: int = 1024, disk: int = 10_000, features: tuple[str, ...] = ("avx2",)) -> Raw:
    """What a site is made of; memory and disk in MiB."""
    return {
        "arch": "amd64",
        "cpuFeatures": list(features),
        "cpus": 4,
        "memoryBytes": memory * MIB,
        "diskBytes": disk * MIB,
    }


@pytest.mark.parametrize(
    ("found", "ask", "reason", "words"),
    [
        pytest.param(site(), ANYWHERE, Reason.FITS, "", id="nothing is asked"),
        pytest.param(site(), placement.NOBODY, Reason.NOT_SELECTED, "siteSelector", id="nobody is meant"),
        pytest.param(
            site({"country": "fr"}),
            Asked(selector=Selector(match_labels={"country": "de"})),
            Reason.NOT_SELECTED,
            "siteSelector",
            id="other labels",
        ),
        pytest.param(
            site(jurisdiction="US"),
            Asked(selector=Selector(), jurisdictions=("EU", "UK")),
            Reason.JURISDICTION,
            "spec.jurisdiction is US, the model may run in EU, UK only",
            id="another jurisdiction",
        ),
        pytest.param(
            site(),
            Asked(selector=Selector(), jurisdictions=("EU",)),
            Reason.JURISDICTION,
            "it has no spec.jurisdiction",
            id="no jurisdiction",
        ),
        pytest.param(
            site(jurisdiction="EU"),
            Asked(selector=Selector(), jurisdictions=("EU", "UK")),
            Reason.FITS,
            "",
            id="one of the jurisdictions",
        ),
        pytest.param(
            site(jurisdiction=7),
            Asked(selector=Selector(), jurisdictions=("EU",)),
            Reason.INVALID_SPEC,
            "spec.jurisdiction",
            id="a jurisdiction nobody can read",
        ),
        pytest.param(site(joined=False), ANYWHERE, Reason.NOT_JOINED, "no box", id="nobody joined"),
        pytest.param(site(understands=()), ANYWHERE, Reason.NOT_JOINED, "not told", id="not heard of yet"),
        pytest.param(site(understands=(7, 8)), ANYWHERE, Reason.AGENT_TOO_OLD, "7, 8", id="another order"),
        pytest.param(site(cordoned=True), ANYWHERE, Reason.CORDONED, "cordoned", id="cordoned"),
        pytest.param(
            site(inventory=box()),
            Asked(selector=Selector(), variants=(INT8,)),
            Reason.NO_VARIANT_FITS,
            "int8 needs cpu feature avx512_vnni",
            id="no feature",
        ),
        pytest.param(
            site(inventory=box(memory=200)),
            Asked(selector=Selector(), variants=BOTH),
            Reason.NO_VARIANT_FITS,
            "int8 needs cpu feature avx512_vnni; fp32 needs 300 MiB of memory, 200 MiB are there",
            id="no memory for any variant",
        ),
        pytest.param(
            site(inventory=box(features=("avx512_vnni",))),
            Asked(selector=Selector(), variants=(INT8,), memory_limit=64 * MIB),
            Reason.NO_VARIANT_FITS,
            "int8 needs 100 MiB of memory, 64 MiB are its limit",
            id="a limit below what the variant needs",
        ),
        pytest.param(
            site(inventory=box()),
            Asked(selector=Selector(), variants=BOTH),
            Reason.FITS,
            "",
            id="one variant",
        ),
        pytest.param(
            site(inventory=box(features=())),
            Asked(selector=Selector(), variants=(INT8,)),
            Reason.FITS,
            "",
            id="features are not known",
        ),
        pytest.param(
            site(inventory=box(memory=1024)),
            Asked(selector=Selector(), memory_limit=400 * MIB, pods=3),
            Reason.INSUFFICIENT_MEMORY,
            "3 pods of 400 MiB",
            id="no room for one more pod",
        ),
        pytest.param(
            site(inventory=box(memory=1200)),
            Asked(selector=Selector(), memory_limit=400 * MIB, pods=3),
            Reason.FITS,
            "",
            id="just enough room",
        ),
        pytest.param(
            site(inventory=box(disk=199)),
            Asked(selector=Selector(), variants=BOTH),
            Reason.INSUFFICIENT_DISK,
            "fp32 needs 200 MiB of disk, 199 MiB are there",
            id="a small disk",
        ),
        pytest.param(
            site(), Asked(selector=Selector(), variants=BOTH), Reason.FITS, "", id="nothing known of the site"
        ),
    ],
)
def test_the_first_thing_that_speaks_against_a_site_is_named(
    found: SiteObject, ask: Asked, reason: Reason, words: str
) -> None:
    fit = placement.judge(found, ask)

    assert fit.reason is reason
    assert words in fit.message


def test_what_a_selector_misses_is_said_label_by_label() -> None:
    selector = Selector(
        match_labels={"country": "de", "ring": "0"},
    )

    told = placement.unmet(selector, {"country": "fr", "ring": "0"})

    assert told == "country=de is asked for, it has fr"


# -- what the hub does about it --------------------------------------------------------------------------


def knowing(made: World, *needs: VariantNeeds, number: int = 1) -> World:
    """The bundle asks for this."""
    made.hub.check = BundleCheck(
        bundle=bundle(number),
        ok=True,
        version=number,
        variants=tuple(item.name for item in needs),
        needs=needs,
    )
    return made


def equip(made: World, **boxes: Raw) -> World:
    """Sites say what they are made of."""
    for name, found in boxes.items():
        made.hub.agents[name]["status"]["inventory"] = found
    return made


def counts(made: World) -> dict[str, int]:
    """Numbers of sites in the model's status."""
    assert made.hub.model is not None
    found: dict[str, int] = made.hub.model["status"]["sites"]
    return found


def test_an_unfit_site_gets_no_offer_is_outside_the_counts_and_listed_once() -> None:
    made = equip(knowing(world("abc"), INT8), a=box(), b=box(features=("avx512_vnni",)))
    made.go(12)

    assert set(made.hub.orders) == {"b", "c"}, "of c nothing is known: it judges itself"
    assert made.hub.condition("Ready") == ("True", "Complete")
    assert (counts(made)["desired"], counts(made)["healthy"], counts(made)["unfit"]) == (2, 2, 1)


def test_when_all_selected_sites_are_unfit_it_says_so_and_why() -> None:
    made = equip(knowing(world("ab"), INT8), a=box(), b=box())
    made.go(3)

    assert made.hub.condition("Stalled") == ("True", "NoSitesMatch")
    assert "2 NoVariantFits (a: int8 needs cpu feature avx512_vnni" in made.hub.message()
    assert not made.hub.rollouts


def test_all_sites_outside_the_jurisdiction_are_named_as_such() -> None:
    made = world("ab", placement={"siteSelector": {}, "jurisdictions": ["EU"]})
    made.go(3)

    assert made.hub.condition("Stalled") == ("True", "NoSitesMatch")
    assert "2 JurisdictionMismatch" in made.hub.message()


def test_what_a_bundle_needs_outlives_the_operator_that_asked() -> None:
    made = equip(knowing(world("ab"), INT8), a=box())
    made.go(2)
    made.hub.check = BundleCheck(bundle=bundle(1), ok=False, environment=True, reason="RegistryUnreachable")
    made.go(8)

    assert set(made.hub.orders) == {"b"}
    assert counts(made)["unfit"] == 1


def test_a_site_that_serves_what_is_asked_is_fit_whatever_is_reckoned() -> None:
    made = served("ab")
    knowing(equip(made, a=box()), INT8)
    made.go(3)

    assert (counts(made)["desired"], counts(made)["unfit"]) == (2, 0)


def test_an_unfit_site_keeps_what_it_serves_and_stays_out_of_the_new_rollout() -> None:
    made = equip(served("ab"), a=box())
    made.hub.edit(bundle=bundle(2))
    knowing(made, INT8, number=2)
    made.go(10)

    assert made.hub.rollout(2)["status"]["outcome"] == "Complete"
    assert made.active() == {"a": made.hub.revision(1), "b": made.hub.revision(2)}
    assert counts(made)["unfit"] == 1


def test_orders_say_in_which_jurisdictions_they_may_be_obeyed() -> None:
    made = served("ab")
    assert "jurisdictions" not in made.hub.orders["a"]["spec"]
    for name in "ab":
        made.hub.sites[name]["spec"]["jurisdiction"] = "EU"
    made.hub.edit(placement={"siteSelector": {}, "jurisdictions": ["EU"]})
    made.go(3)

    assert [raw["spec"]["jurisdictions"] for raw in made.hub.orders.values()] == [["EU"], ["EU"]]
    assert made.hub.condition("Ready") == ("True", "Complete")
    assert len(made.hub.rollouts) == 1, "where it may run makes no revision"


@pytest.mark.parametrize("change", ["the model's list", "the sites' own"])
def test_a_jurisdiction_that_takes_the_model_from_many_sites_waits_for_consent(change: str) -> None:
    made = world("abc", placement={"siteSelector": {}, "jurisdictions": ["EU", "US"]})
    for name in "abc":
        made.hub.sites[name]["spec"]["jurisdiction"] = "EU"
    made.go(12)
    assert made.hub.condition("Ready") == ("True", "Complete")
    if change == "the model's list":
        made.hub.edit(placement={"siteSelector": {}, "jurisdictions": ["US"]})
    else:
        for name in "ab":
            made.hub.sites[name]["spec"]["jurisdiction"] = "UK"
    made.go(3)

    assert made.hub.condition("Stalled") == ("True", "RemovalNeedsApproval")
    assert {raw["spec"]["state"] for raw in made.hub.orders.values()} == {"Run"}


def test_one_site_that_moves_to_another_jurisdiction_loses_the_model() -> None:
    made = world("abc", placement={"siteSelector": {}, "jurisdictions": ["EU"]})
    for name in "abc":
        made.hub.sites[name]["spec"]["jurisdiction"] = "EU"
    made.go(12)
    made.hub.sites["a"]["spec"]["jurisdiction"] = "US"
    made.go(5)

    assert set(made.hub.orders) == {"b", "c"}
    assert made.active()["a"] == ""


def test_a_model_that_may_be_swapped_needs_no_room_for_one_more_pod() -> None:
    spec: dict[str, object] = {
        "bundle": f"oci://registry.example/a@sha256:{'0' * 64}",
        "placement": {"siteSelector": {}},
        "serving": {"resources": {"limits": {"memory": "600Mi"}}},
    }
    small = site(inventory=box(memory=1000))
    verdicts = []
    for surge in ("Required", "Preferred"):
        parsed = msgspec.convert({**spec, "canary": {"surge": surge}}, ModelSpec)
        verdicts.append(placement.judge(small, placement.asked(parsed, ())).reason)
    assert verdicts == [Reason.INSUFFICIENT_MEMORY, Reason.FITS]
