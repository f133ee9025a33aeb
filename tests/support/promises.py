"""What the hub promises, checked from the objects it saw by other means than its own decisions.

The numbers I1 to I12 are those of the design's invariants; docs/develop.md says which check holds which.
"""

import pickle
from datetime import timedelta
from typing import Any

from edgefleet.core import fleet, model_pass, parse, units, verdict
from edgefleet.core.decisions import ModelDecision
from edgefleet.core.order import Mode, State
from edgefleet.core.seen import RolloutObject
from edgefleet.core.statuses import Outcome, WaveStatus
from edgefleet.core.verdict import Verdict
from support import facts, timely
from support.hubs import Hub, Raw, shuffled

_CUT_SHORT = (Outcome.ABORTED, Outcome.SUPERSEDED)


def check(hub: Hub, decision: ModelDecision) -> None:
    """The invariants of one pass, recomputed from the objects it saw by other means than its own."""
    rollouts = [item for raw in hub.rollouts.values() if (item := parse.rollout(raw)) is not None]
    newest = max(rollouts, key=lambda item: item.spec.number, default=None)
    statuses = {patch.name: patch.status for patch in decision.patch_rollouts if patch.status is not None}
    banned = facts.banned(rollouts, statuses)
    for write in decision.orders:
        if write.order.state is not State.RUN:
            continue
        said = hub.orders.get(write.site, {}).get("status", {})
        refused = {(item["revision"], item["attempt"]) for item in said.get("refused", ())}
        key = (write.order.revision, write.order.attempt)
        set_aside = "quarantine" in hub.sites.get(write.site, {}).get("status", {})
        assert not set_aside or write.reason not in ("Admitted", "CatchUp"), (
            f"{write.site} is in quarantine and offered {write.order.revision}"
        )
        assert key not in refused, f"I1: {write.site} is offered what it refused"
        remembered = {
            failure.site
            for item in rollouts
            for failure in item.status.failures
            if (item.spec.revision, item.spec.attempt) == key
        }
        assert write.site not in remembered, f"I8: {write.site} is offered what failed under its name"
        assert key not in banned, f"I4: {write.site} is offered a banned revision"
        leaves = {revision for revision, _ in banned} - {
            item.spec.revision for item in rollouts if (item.spec.revision, item.spec.attempt) not in banned
        }
        if write.reason == "GoBack" and said.get("activeRevision") in leaves:
            assert write.order.mode is Mode.DIRECT, f"I5: {write.site} is judged by the model it leaves"
    if newest is not None:
        _offers_fit(hub, newest, decision)
        fresh = statuses.get(newest.meta.name)
        for wave in fresh.waves if fresh is not None else ():
            _completion_is_earned(hub, newest, wave)
    _removals_are_meant(hub, decision)
    _only_matching_reports_count(hub, decision)
    _no_failure_is_missed(hub, rollouts, statuses)


def _only_matching_reports_count(hub: Hub, decision: ModelDecision) -> None:
    """I7: what is called healthy was reported for the order as it stands, by a site that is heard."""
    good = {
        name: raw["spec"]
        for name, raw in hub.orders.items()
        if facts.healthy(raw) and name in hub.sites and facts.online(hub, name)
    }
    unread = decision.status is not None and any(
        c.reason == "InvalidSpec" for c in decision.status.conditions
    )
    if decision.status is not None and not unread:  # of a spec that cannot be read the last figures stay
        counts = decision.status.sites
        right = [spec for spec in good.values() if spec["revision"] == decision.status.target_revision]
        assert counts.healthy <= len(good), f"I7: {counts.healthy} healthy, reports say {sorted(good)}"
        assert counts.updated <= len(right), "I7: more updated than reports say"
    newest = max((raw["spec"]["number"] for raw in hub.rollouts.values()), default=0)
    for patch in decision.patch_rollouts:
        if patch.status is None or hub.rollouts[patch.name]["spec"]["number"] != newest:
            continue
        if hub.rollouts[patch.name]["status"].get("outcome") or patch.status.outcome in _CUT_SHORT:
            continue  # it has ended: its figures are those of the last look at it
        mine = sum(spec["rollout"] == patch.name for spec in good.values())
        waves = (hub.model or {}).get("spec", {}).get("rollout", {}).get("waves", ())
        # of waves the spec has no more, and of those `finish` passes over, the last figures stay
        asked = {wave["name"] for wave in waves}
        asked |= set() if waves and not {"siteSelector", "limit"} & set(waves[-1]) else {"rest"}
        if hub.rollouts[patch.name]["spec"]["finish"]:
            asked = {wave.name for wave in patch.status.waves[-1:]}
        running = [
            wave.healthy for wave in patch.status.waves if wave.completed_at is None and wave.name in asked
        ]
        assert sum(running) <= mine, f"I7: {patch.name} counts {running} healthy of {mine}"


def _no_failure_is_missed(hub: Hub, rollouts: list[RolloutObject], statuses: dict[str, Any]) -> None:
    """I8: whoever reports a failure of the newest attempt is counted, placed, labelled, deleted or not."""
    newest = max(rollouts, key=lambda item: item.spec.number, default=None)
    if newest is None or newest.meta.name not in statuses:
        return
    attempt = (newest.spec.revision, newest.spec.attempt)
    said = {
        name
        for name, raw in hub.orders.items()
        if attempt in {(item["revision"], item["attempt"]) for item in raw["status"].get("refused", ())}
    }
    fresh = statuses[newest.meta.name]
    if fresh.outcome in (Outcome.NONE, Outcome.COMPLETE, Outcome.ROLLED_BACK) and newest.status.outcome in (
        Outcome.NONE,
        Outcome.COMPLETE,
    ):
        known = {failure.site for failure in fresh.failures}
        assert said <= known, f"I8: {newest.meta.name} does not count {said - known}"
        assert fresh.counts.failed == len(known), (
            f"I8: {newest.meta.name} counts {fresh.counts.failed} of {known}"
        )


# -- the same from other sides -------------------------------------------------------------------------


def order_does_not_matter(hub: Hub, decision: ModelDecision) -> None:
    """I9: equal things in another order give equal decisions."""
    for seed in (1, 2):
        assert model_pass.decide_model(shuffled(hub.seen(), seed), hub.now) == decision, "I9"


def clocks_do_not_matter(hub: Hub, decision: ModelDecision) -> None:
    """I12: what a site's clock says changes nothing; a step of the hub's own makes sites unheard at most."""
    other: Hub = pickle.loads(pickle.dumps(hub))
    for years, name in enumerate(sorted(other.leases), start=-1):
        moment = units.timestamp(hub.now + timedelta(days=365 * 20 * years))
        other.leases[name]["spec"]["renewTime"] = moment
        said = other.orders.get(name, {}).get("status", {})
        said["reportedAt"] = moment
        for item in (*said.get("conditions", ()), *said.get("refused", ())):
            item["lastTransitionTime" if "type" in item else "time"] = moment
    assert model_pass.decide_model(other.seen(), hub.now) == decision, "I12: a site's clock was believed"
    seen = hub.seen()
    before = {
        view.name: verdict.judge(view, hub.now)
        for view in fleet.survey(seen, None, hub.now).views
        if view.running
    }
    for step in (timedelta(hours=-2), timedelta(minutes=9), timedelta(days=30)):
        now = hub.now + step
        for view in fleet.survey(seen, None, now).views:
            if view.running is None:
                continue
            pair = {before[view.name], verdict.judge(view, now)}
            assert len(pair - {Verdict.UNREACHABLE}) <= 1, (
                f"I12: {view.name} goes from {pair} by the hub's clock"
            )
        withdrawn = {
            name for name, raw in hub.rollouts.items() if raw["status"].get("outcome") == "RolledBack"
        }
        withdrawn |= _withdrawn(decision)
        assert _withdrawn(model_pass.decide_model(seen, now)) <= withdrawn, "I12: taken back by the clock"


def _withdrawn(decision: ModelDecision) -> set[str]:
    return {
        patch.name
        for patch in decision.patch_rollouts
        if patch.status is not None and patch.status.outcome is Outcome.ROLLED_BACK
    }


def _offers_fit(hub: Hub, newest: RolloutObject, decision: ModelDecision) -> None:
    """I2: no new offer while as many are in flight as may be."""
    new = [write for write in decision.orders if write.reason == "Admitted"]
    if hub.model is None:
        return
    in_flight, patient = _at_work(hub, newest.meta.name)
    for patch in decision.patch_rollouts:
        if patch.name == newest.meta.name and patch.status is not None and not patch.status.outcome:
            said = patch.status.counts.in_flight
            assert said <= in_flight, f"I2: {said} slots are taken by {in_flight}: who waits gives his back"
    if not new:
        return
    waves = {wave["name"]: wave for wave in hub.model["spec"].get("rollout", {}).get("waves", ())}
    most = waves.get(new[0].order.wave, {}).get("maxConcurrency", 100)
    assert in_flight + len(new) <= most, f"I2: {len(new)} offers while {in_flight} are in flight, {most} may"
    later = any(timely.shut_for(hub, write.site, kind) for write in new for kind in ("download", "update"))
    assert not later or in_flight + patient + 1 <= most, f"{patient} wait for their windows and {new} too"
    assert not hub.model["spec"].get("paused"), "an offer while paused"


def _at_work(hub: Hub, rollout: str) -> tuple[int, int]:
    """Sites of a rollout that take a slot, and those that wait for their window and give it back."""
    in_flight, patient = 0, 0
    for name, raw in hub.orders.items():
        spec, said = raw["spec"], raw["status"]
        if spec["state"] != "Run" or spec["rollout"] != rollout or name not in hub.sites:
            continue
        matching = facts.matching(raw)
        key = (spec["revision"], spec["attempt"])
        refused = [(item["revision"], item["attempt"]) for item in said.get("refused", ())]
        failed = any(revision == key[0] and attempt >= key[1] for revision, attempt in refused)
        silent = (hub.now - units.instant(spec["offeredAt"])).total_seconds() > 600 and not matching
        standing = matching and said.get("stage") in ("Blocked", "Rejected", "RolledBack", "Held")
        meant = (
            facts.placed(hub, name) and not facts.set_aside(hub.sites[name]) and not facts.unfit(hub, name)
        )
        idle = matching and timely.waits(hub, name)
        done = facts.healthy(raw) or failed or silent or standing
        here = facts.online(hub, name) and meant and not done
        in_flight += here and not idle
        patient += here and idle and said["reason"] == "WindowClosed"
    return in_flight, patient


def _completion_is_earned(hub: Hub, newest: RolloutObject, wave: WaveStatus) -> None:
    """I3: a wave completes by healthy sites, heard since its soak began."""
    known = {item.name: item for item in newest.status.waves}
    done_before = wave.name in known and known[wave.name].completed_at is not None
    if wave.completed_at is None or done_before or hub.model is None:
        return
    policy = {item["name"]: item for item in hub.model["spec"].get("rollout", {}).get("waves", ())}.get(
        wave.name, {}
    )
    good = [
        name
        for name, raw in hub.orders.items()
        if name in hub.sites
        and raw["spec"]["state"] == "Run"
        and raw["spec"]["rollout"] == newest.meta.name
        and facts.healthy(raw)
        and facts.online(hub, name)
    ]
    if wave.admitted == 0:
        assert wave.healthy == 0
        return
    need = units.at_least(policy.get("minSuccess", "50%"), wave.admitted)
    assert need <= wave.healthy <= len(good), f"I3: {wave} with {good} healthy"
    if policy.get("soak") and not newest.spec.finish:
        assert wave.soak_started_at is not None, f"I3: {wave.name} did not soak"
        since = units.instant(wave.soak_started_at)
        heard = [name for name in good if parse.heartbeat(hub.leases[name]).heard > since]  # type: ignore[operator]
        assert len(heard) >= need, f"I3: {wave.name} completed by sites not heard since {since}"
        assert (hub.now - since).total_seconds() >= units.duration(policy["soak"]), "I3: soak was cut short"


def _removals_are_meant(hub: Hub, decision: ModelDecision) -> None:
    """I6: only sites that left the placement lose the model, and never many without consent."""
    gone = [write for write in decision.orders if write.order.state is State.REMOVE]
    assert all(not facts.placed(hub, write.site) for write in gone), "I6: a placed site is told to remove"
    assert all(write.site in hub.sites for write in gone), "I6: a deleted site is told to remove"
    having = [name for name, raw in hub.orders.items() if name in hub.sites and raw["spec"]["state"] == "Run"]
    told = [name for name, raw in hub.orders.items() if name in hub.sites and _leaves(hub, name, raw)]
    free = max(1, (len(having) + len(told)) // 10)
    if gone and len(gone) + len(told) > free and hub.model is not None:
        asked = f"removal-{hub.model['metadata']['generation']}"
        approved = [
            item["wave"] for raw in hub.rollouts.values() for item in raw["spec"].get("approvals", ())
        ]
        assert asked in approved, f"I6: {len(gone)} of {len(having)} sites lose the model without consent"


def _leaves(hub: Hub, name: str, raw: Raw) -> bool:
    """Whether a site was told of late to remove the model, and is not done."""
    spec = raw["spec"]
    late = hub.now - units.instant(spec["offeredAt"]) < timedelta(hours=24)
    return spec["state"] == "Remove" and late and not facts.placed(hub, name)
