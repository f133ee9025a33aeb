"""What the hub promises of cohorts, holds and the rate, checked from raw objects by other means than its own decisions."""

from datetime import datetime, timedelta

from edgefleet.core import fleet, model_pass, units
from edgefleet.core.decisions import ModelDecision
from edgefleet.core.order import State
from edgefleet.core.specs import ModelSpec
from edgefleet.core.statuses import Outcome, RolloutStatus
from support import hubs
from support.hubs import Hub, Raw

FACTS = ("arch", "soc", "firmware")
Offers = dict[tuple[str, str], datetime]
"""When the order of a site first named a rollout, by both."""


def value(hub: Hub, name: str, key: str) -> str:
    """A site's value of a key, from its labels, its inventory, or its report."""
    labels = hub.sites[name]["metadata"]["labels"]
    if key in labels:
        return str(labels[key])
    if key in FACTS:
        return str(hub.agents[name]["status"].get("inventory", {}).get(key, ""))
    said = hub.orders.get(name, {}).get("status", {})
    return str(said.get("variant", "")) if key == "variant" else ""


def within(hub: Hub, name: str, cohort: str) -> bool:
    """Whether a site is in a cohort now."""
    key, _, wanted = cohort.partition("=")
    return name in hub.sites and value(hub, name, key) == wanted != ""


def withheld(hub: Hub, name: str, rollout: Raw) -> bool:
    """Whether a rollout's revision is withheld from a site by what it is now."""
    return any(within(hub, name, hold["cohort"]) for hold in rollout["status"].get("holds", ()))


def check_kinds(hub: Hub, decision: ModelDecision, offers: Offers) -> None:
    """The promises of one pass, from the objects it saw."""
    statuses = {p.name: p.status for p in decision.patch_rollouts if p.status is not None}
    for write in decision.orders:
        if write.order.state is not State.RUN:
            continue
        raw, fresh = hub.rollouts.get(write.order.rollout), statuses.get(write.order.rollout)
        held = {hold["cohort"] for hold in raw["status"].get("holds", ())} if raw is not None else set()
        held |= {hold.cohort for hold in fresh.holds} if fresh is not None else set()
        mine = [cohort for cohort in held if within(hub, write.site, cohort)]
        assert not mine, f"{write.site} is offered what is withheld from {mine}"
    for name, status in statuses.items():
        _holds_are_earned(hub, hub.rollouts[name]["status"], status)
        _counts_grow(hub.rollouts[name]["status"], status)
        _held_failures_end_nothing(hub.rollouts[name]["status"], status)
    for create in decision.create_rollouts:
        assert "status" not in hub.rollouts.get(create.name, {}), "a new attempt begins without holds"
    _rate_is_kept(hub, decision, offers)


def nobody_stays(hub: Hub) -> None:
    """After a whole pass no order names a revision that is withheld from its site, or that it refused."""
    for name, raw in hub.orders.items():
        spec = raw["spec"]
        rollout = hub.rollouts.get(spec["rollout"])
        if spec["state"] == "Run" and rollout is not None:
            assert not withheld(hub, name, rollout), f"{name} stays on what is withheld from it"
            refused = {
                (item["revision"], item["attempt"]) for item in raw.get("status", {}).get("refused", ())
            }
            assert (spec["revision"], spec["attempt"]) not in refused, f"I1: {name} stays on what it refused"


def note_offers(hub: Hub, offers: Offers) -> None:
    """Remember orders that name a rollout for the first time."""
    for name, raw in hub.orders.items():
        if raw["spec"]["state"] == "Run":
            offers.setdefault((raw["spec"]["rollout"], name), hub.now)


def _holds_are_earned(hub: Hub, before: Raw, status: RolloutStatus) -> None:
    """A cohort is held by two failures at least, enough sites seen, and no more than half of the fleet at a time."""
    known = {hold["cohort"] for hold in before.get("holds", ())}
    new = [hold for hold in status.holds if hold.cohort not in known]
    if not new or hub.model is None:
        return
    spec = hub.model["spec"]["rollout"]["cohorts"]
    for hold in new:
        failed = [item for item in status.failures if hold.cohort in item.cohorts]
        assert len(failed) == hold.failed >= 2, f"{hold} by {failed}"
        assert hold.seen >= max(2, spec.get("minSites", 3)), hold
        most = spec.get("maxFailures", "20%")
        allowed = most if isinstance(most, int) else int(float(most[:-1]) / 100 * hold.seen + 1e-9)
        assert hold.failed > allowed, f"{hold} with {allowed} allowed"
        assert hold.cohort.partition("=")[0] in spec["by"], hold
    seen = hub.seen()
    spec_now = seen.model.spec if seen.model is not None else None
    assert isinstance(spec_now, ModelSpec)
    counted = [view.name for view in fleet.survey(seen, spec_now, hub.now).counted]
    held = [name for name in counted if any(within(hub, name, hold.cohort) for hold in status.holds)]
    added = [name for name in counted if any(within(hub, name, hold.cohort) for hold in new)]
    assert not added or len(held) * 2 <= len(counted), f"{held} of {counted} are no minority"


def _counts_grow(before: Raw, status: RolloutStatus) -> None:
    held = {hold.cohort: hold for hold in status.holds}
    for hold in before.get("holds", ()):
        assert hold["cohort"] in held, f"{hold} was forgotten"
        now = held[hold["cohort"]]
        assert now.failed >= hold["failed"], f"{hold} lost a failure"
        assert now.seen >= hold["seen"], hold
    waves = {wave.name: wave for wave in status.waves}
    for wave in before.get("waves", ()):
        now_of = waves[wave["name"]]
        assert now_of.failed >= wave.get("failed", 0), f"{wave} lost a failure"
        assert now_of.failed >= now_of.held >= wave.get("held", 0), f"{now_of} was {wave}"
    listed = {item.site: set(item.cohorts) for item in status.failures}
    for item in before.get("failures", ()):
        assert set(item.get("cohorts", ())) <= listed[item["site"]], f"{item} left a cohort"


def _held_failures_end_nothing(before: Raw, status: RolloutStatus) -> None:
    """A rollout is not taken back by failures that are all accounted for."""
    if status.outcome is not Outcome.ROLLED_BACK or before.get("outcome") == "RolledBack":
        return
    holds = {hold.cohort for hold in status.holds}
    assert any(holds.isdisjoint(item.cohorts) for item in status.failures), (
        f"taken back by held sites: {status}"
    )


def _rate_is_kept(hub: Hub, decision: ModelDecision, offers: Offers) -> None:
    new = [write for write in decision.orders if write.reason == "Admitted"]
    rate = hub.model["spec"].get("rollout", {}).get("rate") if hub.model is not None else None
    if not new or rate is None:
        return
    rollout = hub.rollouts[new[0].order.rollout]
    if rollout["spec"]["finish"]:
        return
    name = rollout["metadata"]["name"]
    failed = {item["site"] for item in rollout["status"].get("failures", ())}
    recent = [
        site
        for (of, site), time in offers.items()
        if of == name
        and time > hub.now - timedelta(seconds=60)
        and (site in failed or hub.orders.get(site, {"spec": {"rollout": ""}})["spec"]["rollout"] == name)
    ]
    allowed = _per_minute(hub, rate, name)
    assert len(recent) + len(new) <= allowed, f"{new} after {recent}, {allowed} a minute"


def check_catching_up(hub: Hub, decision: ModelDecision) -> None:
    """Who catches up does so at the rate, and nobody does once too many failed at it."""
    new = [write for write in decision.orders if write.reason == "CatchUp"]
    policy = hub.model["spec"].get("rollout", {}) if hub.model is not None else {}
    if not new:
        return
    name = new[0].order.rollout
    fresh = next((p.status for p in decision.patch_rollouts if p.name == name and p.status is not None), None)
    before = hub.rollouts[name]["status"]
    held = {hold["cohort"] for hold in before.get("holds", ())}
    listed = before.get("failures", ())
    if fresh is not None:
        held, listed = {hold.cohort for hold in fresh.holds}, hubs.raw(fresh).get("failures", ())
    failed = [item for item in listed if not item.get("wave") and held.isdisjoint(item.get("cohorts", ()))]
    last = policy.get("waves", [{}])[-1]
    most = {} if {"siteSelector", "limit"} & set(last) else last
    allowed = units.at_most(most.get("maxFailures", 0), len(hub.sites))
    assert len(failed) <= allowed, f"{new} though {failed} failed at it, {allowed} may"
    rate = policy.get("rate")
    if rate is not None:
        since = units.timestamp(hub.now - timedelta(seconds=60))
        orders = [item["spec"] for item in hub.orders.values() if item["spec"]["state"] == "Run"]
        recent = [spec for spec in orders if not spec["wave"] and spec["offeredAt"] > since]
        allowed = _per_minute(hub, rate, name)
        assert len(recent) + len(new) <= allowed, f"{new} catch up after {recent}, {allowed} a minute"


def _per_minute(hub: Hub, rate: Raw, name: str) -> int:
    """Offers a minute, by the most sites that may be healthy."""
    healthy = sum(
        item["spec"]["rollout"] == name and item["status"].get("stage") == "Serving"
        for item in hub.orders.values()
    )
    grown = rate["perMinute"] * rate.get("factor", 2) ** (healthy // rate.get("every", 10))
    return int(min(grown, rate.get("maxPerMinute", 1000)))


def the_clock_holds_nobody(hub: Hub, decision: ModelDecision) -> None:
    """I12: a step of the hub's clock holds no cohort."""
    seen = hub.seen()
    for step in (timedelta(hours=-2), timedelta(minutes=9), timedelta(days=30)):
        stepped = model_pass.decide_model(seen, hub.now + step)
        assert _held(stepped) <= _held(decision) | {
            (name, hold["cohort"])
            for name, raw in hub.rollouts.items()
            for hold in raw["status"].get("holds", ())
        }, "I12: held by the clock"


def _held(decision: ModelDecision) -> set[tuple[str, str]]:
    statuses = [(patch.name, patch.status) for patch in decision.patch_rollouts if patch.status is not None]
    return {(name, hold.cohort) for name, status in statuses for hold in status.holds}
