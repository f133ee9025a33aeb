"""The hub at work on a real API server: from an EdgeModel to orders at the right sites, and back."""

import asyncio
from typing import Any

import pytest
from edgefleet.core import names
from edgefleet.kube import errors, kinds
from edgefleet.kube.client import Object
from support import hub
from support.cluster import condition, eventually
from support.hub import Fleet, Operator, Shelf, digest

pytestmark = pytest.mark.cluster

LAB_FIRST: Object = {"waves": [{"name": "lab", "siteSelector": {"matchLabels": {"site": "lab"}}}]}


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
    assert model["status"]["currentBundle"].endswith(digest(bundle))
    assert condition(model, "Accepted")["status"] == "True"
    (rollout,) = await fleet.rollouts("digits")
    assert rollout["status"]["outcome"] == "Complete"
    assert rollout["metadata"]["ownerReferences"][0]["uid"] == model["metadata"]["uid"]

    async def counted() -> bool:  # figures alone may come a few seconds later
        sites = (await fleet.model("digits"))["status"]["sites"]
        return [sites[key] for key in ("desired", "updated", "healthy", "failed")] == [1, 1, 1, 0]

    await eventually(counted, "the site is counted")


async def test_a_second_wave_waits_until_the_first_is_healthy(fleet: Fleet, shelf: Shelf) -> None:
    first = await shelf.bundle()
    lab, _shop = await fleet.joined("lab", "shop")
    await fleet.apply("digits", first, rollout=LAB_FIRST)
    await fleet.ready("digits")

    second = await shelf.bundle()
    lab.plan.silent.add(digest(second))
    await fleet.apply("digits", second, rollout=LAB_FIRST)
    await fleet.offered("lab", "digits", second)
    await asyncio.sleep(2.5)  # two passes and a half
    shop_order = await fleet.order("shop", "digits")
    assert shop_order is not None
    assert shop_order["spec"]["bundle"] == first

    lab.plan.silent.clear()
    await fleet.offered("shop", "digits", second)
    model = await fleet.ready("digits")
    rollout = (await fleet.rollouts("digits"))[-1]
    assert [(w["name"], w["admitted"], w["healthy"]) for w in rollout["status"]["waves"]] == [
        ("lab", 1, 1),
        ("rest", 1, 1),
    ]
    assert model["status"]["currentBundle"].endswith(digest(second))


async def test_a_model_that_fails_in_its_wave_is_banned_and_every_order_goes_back(
    fleet: Fleet, shelf: Shelf
) -> None:
    good = await shelf.bundle()
    lab, shop = await fleet.joined("lab", "shop")
    await fleet.apply("digits", good, rollout=LAB_FIRST)
    await fleet.ready("digits")
    good_order = await fleet.order("lab", "digits")
    assert good_order is not None

    bad = await shelf.bundle()
    lab.plan.fails[digest(bad)] = "SelfTestFailed"
    await fleet.apply("digits", bad, rollout=LAB_FIRST)
    model = await fleet.until("digits", "Stalled", "True", "RolledBack")

    said = condition(model, "Stalled")["message"]
    assert digest(bad) in said
    assert digest(good) in said
    assert model["spec"]["bundle"] == bad, "the spec is the user's"
    assert model["status"]["currentBundle"].endswith(digest(good))
    back = await fleet.offered("lab", "digits", good)
    assert back["spec"]["revision"] == good_order["spec"]["revision"]
    assert back["spec"]["mode"] == "Direct"
    assert back["spec"]["replaces"] == digest(bad)
    rollout = (await fleet.rollouts("digits"))[-1]
    assert rollout["status"]["outcome"] == "RolledBack"
    (failure,) = rollout["status"]["failures"]
    assert failure["site"] == fleet.name("lab")
    assert failure["reason"] == "SelfTestFailed"
    assert bad not in {order.bundle for order in shop.obeyed}, "the second wave never saw it"


async def test_a_revision_that_failed_is_not_tried_again_until_somebody_says_so(
    fleet: Fleet, shelf: Shelf
) -> None:
    good, bad = await shelf.bundle(), await shelf.bundle()
    (lab,) = await fleet.joined("lab")
    await fleet.apply("digits", good)
    await fleet.ready("digits")
    lab.plan.fails[digest(bad)] = "GateErrorRate"
    await fleet.apply("digits", bad)
    await fleet.until("digits", "Stalled", "True", "RolledBack")

    await fleet.apply("digits", good)
    await fleet.ready("digits")
    await fleet.apply("digits", bad)
    await fleet.until("digits", "Stalled", "True")
    attempts = [r["spec"]["attempt"] for r in await fleet.rollouts("digits") if r["spec"]["bundle"] == bad]
    assert attempts == [1]

    lab.plan.fails.clear()
    retry = {"metadata": {"annotations": {names.RETRY: "1"}}}
    await fleet.api.merge_patch(kinds.EDGE_MODEL, fleet.namespace, "digits", retry)
    model = await fleet.ready("digits")
    assert model["status"]["currentBundle"].endswith(digest(bad))
    last = (await fleet.rollouts("digits"))[-1]
    assert (last["spec"]["attempt"], last["status"]["outcome"]) == (2, "Complete")


async def test_paused_makes_no_offers_and_goes_on_where_it_stood(fleet: Fleet, shelf: Shelf) -> None:
    first, second = await shelf.bundle(), await shelf.bundle()
    await fleet.joined("lab")
    await fleet.apply("digits", first)
    await fleet.ready("digits")
    await fleet.apply("digits", second, paused=True)
    await fleet.until("digits", "Reconciling", "True", "Paused")
    await asyncio.sleep(1.5)
    order = await fleet.order("lab", "digits")
    assert order is not None
    assert order["spec"]["bundle"] == first

    await fleet.apply("digits", second, paused=False)
    await fleet.offered("lab", "digits", second)
    await fleet.ready("digits")


@pytest.mark.parametrize(("policy", "state"), [("Remove", "Remove"), ("Keep", "Keep")])
async def test_deleting_a_model_tells_its_sites_what_to_do_and_waits_for_none(
    fleet: Fleet, shelf: Shelf, policy: str, state: str
) -> None:
    here, away = await fleet.joined("here", "away")
    await fleet.apply("digits", await shelf.bundle(), deletionPolicy=policy)
    model = await fleet.ready("digits")
    assert names.MODEL_FINALIZER in model["metadata"]["finalizers"]
    await away.rest()

    await fleet.api.delete(kinds.EDGE_MODEL, fleet.namespace, "digits", uid=model["metadata"]["uid"])

    async def gone() -> bool:
        try:
            await fleet.model("digits")
        except errors.NotFound:
            return True
        return False

    await eventually(gone, "the EdgeModel is gone though a site is away", seconds=10)
    order = await fleet.order("away", "digits")
    assert order is not None
    assert order["spec"]["state"] == state

    async def cleared() -> bool:
        return await fleet.order("here", "digits") is None

    await eventually(cleared, "the order of the site that carried it out is cleared away")
    assert here.obeyed[-1].state.value == state
    assert await fleet.order("away", "digits") is not None, "who is away still has to read it"
    await away.wake()

    async def all_cleared() -> bool:
        return await fleet.order("away", "digits") is None

    await eventually(all_cleared, "and is cleared away when it has")


async def test_a_site_that_was_away_gets_the_latest_good_revision_when_it_comes_back(
    fleet: Fleet, shelf: Shelf
) -> None:
    first, second = await shelf.bundle(), await shelf.bundle()
    _lab, shop = await fleet.joined("lab", "shop")
    await fleet.apply("digits", first)
    await fleet.ready("digits")
    await shop.rest()
    await fleet.connectivity("shop", "Away")

    await fleet.apply("digits", second, rollout={"waves": [{"name": "rest", "minSuccess": 1}]})
    model = await fleet.ready("digits", seconds=40)
    assert model["status"]["currentBundle"].endswith(digest(second))
    await shop.wake()
    await fleet.connectivity("shop", "Online")

    async def caught_up() -> bool:
        return shop.obeyed[-1].bundle == second

    await eventually(caught_up, "the shop has the second")
    assert len({order.revision for order in shop.obeyed}) == 2


async def test_a_new_site_is_served_at_once(fleet: Fleet, shelf: Shelf) -> None:
    bundle = await shelf.bundle()
    await fleet.joined("lab")
    await fleet.apply("digits", bundle)
    await fleet.ready("digits")
    late = await fleet.join("late")
    order = await fleet.offered("late", "digits", bundle)
    assert order["spec"]["mode"] == "Direct"

    async def serves() -> bool:
        return bool(late.obeyed)

    await eventually(serves, "the late site obeys")


async def test_a_cordoned_site_gets_no_offer(fleet: Fleet, shelf: Shelf) -> None:
    await fleet.joined("lab")
    await fleet.join("shut", cordoned=True)
    await fleet.apply("digits", await shelf.bundle())
    await fleet.ready("digits")
    assert await fleet.order("shut", "digits") is None


async def test_a_selector_that_matches_no_site_says_so(fleet: Fleet, shelf: Shelf) -> None:
    selector = {"matchLabels": {"test": fleet.id, "country": "nowhere"}}
    await fleet.apply("digits", await shelf.bundle(), placement={"siteSelector": selector})
    model = await fleet.until("digits", "Stalled", "True", "NoSitesMatch")
    assert condition(model, "Ready")["status"] == "False"
    assert await fleet.rollouts("digits") == []


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("stranger", "UntrustedKey"), ("missing", "NotFound"), ("registry", "RegistryUnreachable")],
)
async def test_a_bundle_that_cannot_be_accepted_is_named_before_any_site_is_asked(
    fleet: Fleet, shelf: Shelf, fault: str, reason: str
) -> None:
    await fleet.joined("lab")
    bundle = {
        "stranger": lambda: shelf.bundle(key="stranger.key"),
        "missing": shelf.missing,
        "registry": shelf.unreachable,
    }[fault]
    await fleet.apply("digits", await bundle())
    model = await fleet.until("digits", "Accepted", "False")
    told = [c["reason"] + c.get("message", "") for c in model["status"]["conditions"]]
    assert any(reason in text for text in told), told
    stalled = condition(model, "Stalled")["status"] == "True"
    assert stalled == (reason == "UntrustedKey"), "what may still come is waited for"
    assert await fleet.rollouts("digits") == []
    assert await fleet.order("lab", "digits") is None


async def test_a_bundle_that_is_pushed_after_its_model_is_found_without_a_hand(
    fleet: Fleet, shelf: Shelf
) -> None:
    await fleet.joined("lab")
    packed = shelf.packed()
    await fleet.apply("digits", shelf.reference(packed))
    await fleet.until("digits", "Accepted", "False", "NotFound")
    await shelf.push(packed)
    await fleet.ready("digits", seconds=40)


async def test_a_blocked_site_is_shown_and_not_counted_as_failed(fleet: Fleet, shelf: Shelf) -> None:
    bundle = await shelf.bundle()
    _lab, full = await fleet.joined("lab", "full")
    full.plan.blocked[digest(bundle)] = "InsufficientDisk"
    await fleet.apply("digits", bundle)
    await fleet.ready("digits")

    async def shown() -> Any:
        sites = (await fleet.model("digits"))["status"]["sites"]
        return (sites["blocked"], sites["failed"], sites["healthy"]) == (1, 0, 1)

    await eventually(shown, "one site is blocked, none failed")


async def test_an_approval_is_waited_for(fleet: Fleet, shelf: Shelf) -> None:
    first, second = await shelf.bundle(), await shelf.bundle()
    waves = {"waves": [{"name": "rest", "approval": True}]}
    await fleet.joined("lab")
    await fleet.apply("digits", first)
    await fleet.ready("digits")
    await fleet.apply("digits", second, rollout=waves)
    await fleet.until("digits", "Reconciling", "True", "WaitingApproval")
    order = await fleet.order("lab", "digits")
    assert order is not None
    assert order["spec"]["bundle"] == first

    name = (await fleet.rollouts("digits"))[-1]["metadata"]["name"]
    approval = {"spec": {"approvals": [{"wave": "rest", "by": "tester"}]}}
    await fleet.api.merge_patch(kinds.EDGE_ROLLOUT, fleet.namespace, name, approval)
    await fleet.offered("lab", "digits", second)
    await fleet.ready("digits")


async def test_an_aborted_rollout_goes_back(fleet: Fleet, shelf: Shelf) -> None:
    first, second = await shelf.bundle(), await shelf.bundle()
    lab, _shop = await fleet.joined("lab", "shop")
    await fleet.apply("digits", first, rollout=LAB_FIRST)
    await fleet.ready("digits")
    lab.plan.silent.add(digest(second))
    await fleet.apply("digits", second, rollout=LAB_FIRST)
    await fleet.offered("lab", "digits", second)

    name = (await fleet.rollouts("digits"))[-1]["metadata"]["name"]
    await fleet.api.merge_patch(kinds.EDGE_ROLLOUT, fleet.namespace, name, {"spec": {"desired": "Aborted"}})
    await fleet.offered("lab", "digits", first)
    await fleet.until("digits", "Stalled", "True", "Aborted")


async def test_an_order_that_somebody_deleted_is_given_again(fleet: Fleet, shelf: Shelf) -> None:
    bundle = await shelf.bundle()
    await fleet.joined("lab")
    await fleet.apply("digits", bundle)
    await fleet.ready("digits")
    order = await fleet.order("lab", "digits")
    assert order is not None
    await fleet.api.delete(
        kinds.EDGE_DEPLOYMENT, order["metadata"]["namespace"], order["metadata"]["name"], uid=None
    )
    again = await fleet.offered("lab", "digits", bundle)
    assert again["metadata"]["uid"] != order["metadata"]["uid"]


async def test_the_metrics_and_probes_speak(fleet: Fleet, shelf: Shelf, operator: Operator) -> None:
    await fleet.joined("lab")
    await fleet.apply("digits", await shelf.bundle())
    await fleet.ready("digits")
    page = await asyncio.to_thread(operator.page, "/metrics")
    assert 'edgefleet_passes_total{outcome="done",queue="model"}' in page
    assert 'edgefleet_orders_written_total{reason="Admitted"}' in page
    assert 'edgefleet_sites{connectivity="Online"}' in page
    assert await asyncio.to_thread(operator.page, "/healthz") == "ok\n"
