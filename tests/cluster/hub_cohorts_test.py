"""Cohorts and the rate on a real API server: who is held, who goes on, and what is said of it."""

import asyncio

import pytest
from edgefleet.cli import attempts
from edgefleet.cli.attempts import Attempt
from edgefleet.kube import kinds
from edgefleet.kube.client import Object
from support.cluster import condition, eventually
from support.fake_agent import FakeAgent, Plan
from support.hub import Fleet, Operator, Shelf, digest

pytestmark = pytest.mark.cluster

BY_SOC: Object = {"waves": [{"name": "all"}], "cohorts": {"by": ["soc"], "minSites": 2}}


async def boards(fleet: Fleet, bad: str = "", **counts: int) -> None:
    """So many sites whose inventory names each SoC; a bundle of that digest fails on `rk`."""
    plans = {
        f"{soc}{number}": Plan(
            inventory={"soc": soc}, fails={bad: "GoldenDisagrees"} if soc == "rk" and bad else {}
        )
        for soc, count in counts.items()
        for number in range(count)
    }
    await asyncio.gather(*(fleet.join(name, plan=plan) for name, plan in plans.items()))


async def test_a_bad_board_is_held_and_the_others_go_on(
    fleet: Fleet, shelf: Shelf, operator: Operator
) -> None:
    first, second = await shelf.bundle(), await shelf.bundle()
    await boards(fleet, digest(second), rk=2, nuc=3)
    await fleet.apply("digits", first, rollout=BY_SOC)
    await fleet.ready("digits")

    await fleet.apply("digits", second, rollout=BY_SOC)
    model = await fleet.ready("digits")

    assert "CohortHeld: soc=rk (2 sites)" in condition(model, "Ready")["message"]
    rollout = (await fleet.rollouts("digits"))[-1]
    assert rollout["status"]["outcome"] == "Complete"
    (hold,) = rollout["status"]["holds"]
    assert (hold["cohort"], hold["failed"], hold["seen"]) == ("soc=rk", 2, 2)
    assert {tuple(one["cohorts"]) for one in rollout["status"]["failures"]} == {("soc=rk",)}
    for name in ("rk0", "rk1"):
        back = await fleet.offered(name, "digits", first)
        assert (back["spec"]["mode"], back["spec"]["replaces"]) == ("Direct", digest(second))
    for name in ("nuc0", "nuc1", "nuc2"):
        await fleet.offered(name, "digits", second)
    page = attempts.described(Attempt(rollout, model))
    assert "CohortHeld: 2 sites do without this revision" in page
    assert "soc=rk" in page

    async def counted() -> bool:
        sites = (await fleet.model("digits"))["status"]["sites"]
        return bool((sites["held"], sites["updated"]) == (2, 3))

    await eventually(counted, "the held sites are counted")
    await _a_new_board_is_held_too_by_an_operator_who_was_not_there(fleet, operator, first)


async def _a_new_board_is_held_too_by_an_operator_who_was_not_there(
    fleet: Fleet, operator: Operator, first: str
) -> None:
    operator.kill()
    operator.start()
    await operator.ready()
    late: FakeAgent = await fleet.join("rk9", plan=Plan(inventory={"soc": "rk"}))
    await fleet.offered("rk9", "digits", first)

    async def obeyed() -> bool:
        return bool(late.obeyed)

    await eventually(obeyed, "the late board has its order")
    assert {order.bundle for order in late.obeyed} == {first}


async def test_a_label_makes_a_cohort_and_relabelling_its_sites_erases_no_failure(
    fleet: Fleet, shelf: Shelf
) -> None:
    first, second = await shelf.bundle(), await shelf.bundle()
    policy = {"waves": [{"name": "all"}], "cohorts": {"by": ["example.com/board"], "minSites": 2}}
    bad = Plan(fails={digest(second): "GateErrorRate"})
    for number in range(2):
        await fleet.join(f"old{number}", labels={"example.com/board": "old"}, plan=bad)
    for number in range(3):
        await fleet.join(f"new{number}", labels={"example.com/board": "new"})
    await fleet.apply("digits", first, rollout=policy)
    await fleet.ready("digits")
    await fleet.apply("digits", second, rollout=policy)
    await fleet.ready("digits")

    label = {"metadata": {"labels": {"example.com/board": "new"}}}
    await fleet.api.merge_patch(kinds.EDGE_SITE, None, fleet.name("old0"), label)
    await asyncio.sleep(2.5)  # two passes and a half
    status = (await fleet.rollouts("digits"))[-1]["status"]
    assert status["holds"][0]["cohort"] == "example.com/board=old"
    assert (status["holds"][0]["failed"], status["counts"]["failed"]) == (2, 2)
    order = await fleet.order("old0", "digits")
    assert order is not None
    assert order["spec"]["bundle"] == first, "what failed there is not tried again there"


async def test_a_majority_is_taken_back(fleet: Fleet, shelf: Shelf) -> None:
    first, second = await shelf.bundle(), await shelf.bundle()
    await boards(fleet, digest(second), rk=3, nuc=2)
    await fleet.apply("digits", first, rollout=BY_SOC)
    await fleet.ready("digits")
    await fleet.apply("digits", second, rollout=BY_SOC)
    await fleet.until("digits", "Stalled", "True", "RolledBack")
    rollout = (await fleet.rollouts("digits"))[-1]
    assert rollout["status"].get("holds", []) == []


async def test_offers_keep_the_rate_until_a_person_says_finish(fleet: Fleet, shelf: Shelf) -> None:
    first, second = await shelf.bundle(), await shelf.bundle()
    agents = await fleet.joined("a", "b", "c", "d")
    await fleet.apply("digits", first)
    await fleet.ready("digits")
    for agent in agents:
        agent.plan.silent.add(digest(second))
    await fleet.apply("digits", second, rollout={"rate": {"perMinute": 2}})

    async def limited() -> Object | None:
        ready = condition(await fleet.model("digits"), "Ready")
        return ready if "RateLimited to 2 offers a minute" in ready.get("message", "") else None

    said = await eventually(limited, "the rate is named")
    assert said["reason"] == "WaveRunning"
    await asyncio.sleep(2.5)  # two passes and a half
    assert await _offered(fleet, second) == 2

    name = (await fleet.rollouts("digits"))[-1]["metadata"]["name"]
    await fleet.api.merge_patch(kinds.EDGE_ROLLOUT, fleet.namespace, name, {"spec": {"finish": True}})

    async def all_offered() -> bool:
        return await _offered(fleet, second) == 4

    await eventually(all_offered, "everybody has the offer")


async def _offered(fleet: Fleet, bundle: str) -> int:
    orders = [await fleet.order(name, "digits") for name in fleet.agents]
    return sum(order is not None and order["spec"]["bundle"] == bundle for order in orders)
