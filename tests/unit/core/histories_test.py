"""Random histories of a simulated fleet, searched for one in which the hub breaks a promise.

Sites accept orders, succeed, fail, are blocked, cut off, relabelled, cordoned, deleted and come back; people edit,
pause, abort, approve, retry; the operator is killed between any two writes. The invariants are those of the design.
"""

import os
import pickle
from typing import Any

import hypothesis.strategies as st
import pytest
from edgefleet.core import liveness, model_pass, parse, units
from edgefleet.core.order import Mode, State
from edgefleet.core.types import Connectivity, ModelDecision, Outcome, RolloutObject, WaveStatus
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from support.fleet import Hub, Raw, Site, bundle, changes, model_raw, shuffled

SITES = ("a", "b", "c", "d", "e")
BUNDLES = tuple(bundle(number) for number in range(1, 6))
RINGS = st.sampled_from(("0", "1", "2"))
POLICIES: tuple[dict[str, Any], ...] = (
    {},
    {"waves": [{"name": "canary", "siteSelector": {"matchLabels": {"ring": "0"}}, "soak": "60s"}]},
    {"waves": [{"name": "first", "limit": 1, "minSuccess": "100%"}, {"name": "all", "maxConcurrency": 1}]},
    {
        "waves": [
            {"name": "half", "limit": "50%", "maxFailures": 1, "soak": "10m"},
            {"name": "all", "approval": True},
        ]
    },
    {"waves": [{"name": "all", "maxFailures": "100%", "maxConcurrency": 2}], "failureStrategy": "Pause"},
)
WHOLE = 10**6
BANNED = ("RolledBack", "Aborted")


class Fleet(RuleBasedStateMachine):
    """A hub, its sites, and all that may happen to them."""

    def __init__(self) -> None:
        super().__init__()
        self.hub = Hub()
        self.sims: dict[str, Site] = {}
        self.labels: dict[str, str] = {}
        self.failed: dict[str, int] = {}
        self.consented = False

    @initialize(
        policy=st.sampled_from(POLICIES), rings=st.lists(RINGS, min_size=2, max_size=5), bad=st.data()
    )
    def begin(self, policy: dict[str, Any], rings: list[str], bad: st.DataObject) -> None:
        """A fleet of two to five sites, some of which do not take some bundles."""
        self.hub = Hub(model=model_raw(1, rollout=policy))
        for name, ring in zip(SITES, rings, strict=False):
            self.hub.join(name, {"ring": ring})
            failing = bad.draw(st.sets(st.sampled_from(BUNDLES[1:]), max_size=2))
            self.sims[name] = Site(name, self.hub, bad=failing)

    # -- the operator ---------------------------------------------------------------------------------

    @rule(writes=st.sampled_from((WHOLE, WHOLE, WHOLE, 0, 1, 2, 3, 4)), seed=st.integers(0, 3))
    def look(self, writes: int, seed: int) -> None:
        """One pass, perhaps killed half-way; a killed operator starts again."""
        before: Hub = pickle.loads(pickle.dumps(self.hub))  # five times as quick as deepcopy
        seen = before.seen()
        decision = self.hub.look(writes)
        if seed == 1:
            assert model_pass.decide_model(shuffled(seen, seed), before.now) == decision, "I9"
        if writes < WHOLE:
            self.hub.started = self.hub.now
        check(before, decision)
        if writes == WHOLE:
            self._nothing_banned_is_ordered()

    @rule()
    def several(self) -> None:
        """The everyday: passes, beats and work in turn."""
        for _ in range(4):
            self.look(WHOLE, 1 if self.hub.now.second == 0 else 0)
            self.hub.tick(5)
            for site in self.sims.values():
                site.sync()
                site.work()
                site.sync()

    def _nothing_banned_is_ordered(self) -> None:
        banned = {
            (raw["spec"]["revision"], attempt)
            for raw in self.hub.rollouts.values()
            if raw["status"].get("outcome") in BANNED
            for attempt in range(1, raw["spec"]["attempt"] + 1)
        }
        for name, raw in self.hub.orders.items():
            spec = raw["spec"]
            if spec["state"] == "Run":
                assert (spec["revision"], spec["attempt"]) not in banned, (
                    f"I4: {name} is ordered to run a banned revision"
                )

    # -- sites ------------------------------------------------------------------------------------------

    @rule(name=st.sampled_from(SITES))
    def sync(self, name: str) -> None:
        """A beat with its report."""
        if name in self.sims:
            self.sims[name].sync()

    @rule(name=st.sampled_from(SITES), times=st.integers(1, 3))
    def work(self, name: str, times: int) -> None:
        """A site goes on, with or without its link."""
        for _ in range(times):
            if name in self.sims:
                self.sims[name].work()

    @rule(name=st.sampled_from(SITES), linked=st.booleans())
    def link(self, name: str, linked: bool) -> None:
        """The link is cut or healed."""
        if name in self.sims:
            self.sims[name].linked = linked

    @rule(name=st.sampled_from(SITES), blocked=st.booleans())
    def block(self, name: str, blocked: bool) -> None:
        """A disk fills up or is cleared."""
        if name in self.sims:
            self.sims[name].blocked = blocked

    @rule(name=st.sampled_from(SITES), ring=RINGS)
    def relabel(self, name: str, ring: str) -> None:
        """A person changes a label."""
        if name in self.hub.sites:
            self.hub.sites[name]["metadata"]["labels"] = {"ring": ring}

    @rule(name=st.sampled_from(SITES), cordoned=st.booleans())
    def cordon(self, name: str, cordoned: bool) -> None:
        """A person sets a site aside."""
        if name in self.hub.sites:
            self.hub.sites[name]["spec"]["cordoned"] = cordoned

    @rule(name=st.sampled_from(SITES))
    def delete_site(self, name: str) -> None:
        """The EdgeSite goes, its namespace and orders stay."""
        self.hub.sites.pop(name, None)

    @rule(name=st.sampled_from(SITES), ring=RINGS)
    def create_site(self, name: str, ring: str) -> None:
        """A site joins, or the same box comes back."""
        if name not in self.hub.sites:
            self.hub.join(name, {"ring": ring})
            self.sims.setdefault(name, Site(name, self.hub))

    # -- people -----------------------------------------------------------------------------------------

    @rule(number=st.integers(1, 5))
    def apply(self, number: int) -> None:
        """Another bundle, or one of before."""
        self.hub.edit(bundle=bundle(number))

    @rule(policy=st.sampled_from(POLICIES))
    def change_policy(self, policy: dict[str, Any]) -> None:
        """Waves are policy, read live."""
        self.hub.edit(rollout=policy)

    @rule(rings=st.sampled_from(((), ("0",), ("0", "1"), ("0", "1", "2"))))
    def place(self, rings: tuple[str, ...]) -> None:
        """Another selector; the empty tuple stands for every site."""
        values = [{"key": "ring", "operator": "In", "values": list(rings)}] if rings else []
        self.hub.edit(placement={"siteSelector": {"matchExpressions": values}})

    @rule(paused=st.booleans())
    def pause(self, paused: bool) -> None:
        """The model is paused or goes on."""
        self.hub.edit(paused=paused)

    @rule(replicas=st.integers(1, 3))
    def scale(self, replicas: int) -> None:
        """Replicas make no revision."""
        self.hub.edit(serving={"replicas": replicas})

    @rule(value=st.sampled_from(("1", "2", "3")))
    def retry(self, value: str) -> None:
        """A person asks for another attempt."""
        self.hub.annotate(value)

    @rule(seconds=st.sampled_from((1, 30, 61, 400, 700, 3600, 700000)))
    def wait(self, seconds: int) -> None:
        """Time passes."""
        self.hub.tick(seconds)

    @precondition(lambda self: self.hub.rollouts)
    @rule(
        verb=st.sampled_from(
            (
                {"desired": "Paused"},
                {"desired": "Run"},
                {"desired": "Aborted"},
                {"finish": True},
                {"direct": True},
            )
        )
    )
    def verb(self, verb: dict[str, Any]) -> None:
        """A person sets a verb of the newest rollout."""
        newest = self._newest()
        if newest["spec"]["desired"] != "Aborted":
            self.hub.verb(newest["metadata"]["name"], **verb)

    @precondition(lambda self: self.hub.rollouts)
    @rule(wave=st.sampled_from(("all", "consent")))
    def approve(self, wave: str) -> None:
        """A person approves a wave, or a removal."""
        newest, model = self._newest(), self.hub.model
        if wave == "consent" and model is not None:
            wave = f"removal-{model['metadata']['generation']}"
        known = newest["spec"].get("approvals", [])
        if all(item["wave"] != wave for item in known):
            self.hub.verb(newest["metadata"]["name"], approvals=[*known, {"wave": wave, "by": "ann"}])

    def _newest(self) -> Raw:
        return max(self.hub.rollouts.values(), key=lambda raw: raw["spec"]["number"])

    # -- what always holds --------------------------------------------------------------------------------

    @invariant()
    def failures_are_never_forgotten(self) -> None:
        """I8."""
        for name, raw in self.hub.rollouts.items():
            failed = raw["status"].get("counts", {}).get("failed", 0)
            assert failed >= self.failed.get(name, 0), f"I8: {name} forgot a failure"
            self.failed[name] = failed

    def teardown(self) -> None:
        """Whatever happened, it comes to rest and says so."""
        if self.sims:
            comes_to_rest(self.hub, self.sims)


def check(hub: Hub, decision: ModelDecision) -> None:
    """The invariants of one pass, recomputed from the objects it saw by other means than its own."""
    rollouts = [item for raw in hub.rollouts.values() if (item := parse.rollout(raw)) is not None]
    newest = max(rollouts, key=lambda item: item.spec.number, default=None)
    statuses = {patch.name: patch.status for patch in decision.patch_rollouts if patch.status is not None}
    banned = _banned(rollouts, statuses)
    for write in decision.orders:
        if write.order.state is not State.RUN:
            continue
        said = hub.orders.get(write.site, {}).get("status", {})
        refused = {(item["revision"], item["attempt"]) for item in said.get("refused", ())}
        key = (write.order.revision, write.order.attempt)
        assert key not in refused, f"I1: {write.site} is offered what it refused"
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
    if decision.status is not None:
        assert decision.status.sites.healthy <= sum(_healthy(raw) for raw in hub.orders.values()), "I7"


def _banned(rollouts: list[RolloutObject], statuses: dict[str, Any]) -> set[tuple[str, int]]:
    found = set()
    for item in rollouts:
        status = statuses.get(item.meta.name, item.status)
        if status.outcome in (Outcome.ROLLED_BACK, Outcome.ABORTED) or item.spec.desired.value == "Aborted":
            found |= {(item.spec.revision, attempt) for attempt in range(1, item.spec.attempt + 1)}
    return found


def _online(hub: Hub, name: str) -> bool:
    site = parse.site(hub.sites[name], hub.leases.get(name), hub.agents.get(name))
    return liveness.judge(site, hub.started, hub.now).connectivity is Connectivity.ONLINE


def _matching(raw: Raw) -> bool:
    head = raw["metadata"]
    return bool(raw["status"].get("order") == {"uid": head["uid"], "generation": head["generation"]})


def _healthy(raw: Raw) -> bool:
    said = raw["status"]
    return (
        _matching(raw)
        and said.get("stage") == "Serving"
        and said["activeRevision"] == raw["spec"]["revision"]
    )


def _offers_fit(hub: Hub, newest: RolloutObject, decision: ModelDecision) -> None:
    """I2: no new offer while as many are in flight as may be."""
    new = [write for write in decision.orders if write.reason == "Admitted"]
    if not new or hub.model is None:
        return
    waves = {wave["name"]: wave for wave in hub.model["spec"].get("rollout", {}).get("waves", ())}
    most = waves.get(new[0].order.wave, {}).get("maxConcurrency", 100)
    in_flight = 0
    for name, raw in hub.orders.items():
        spec, said = raw["spec"], raw["status"]
        if spec["state"] != "Run" or spec["rollout"] != newest.meta.name or name not in hub.sites:
            continue
        site = hub.sites[name]
        failed = any(item["revision"] == spec["revision"] for item in said.get("refused", ()))
        silent = (hub.now - units.instant(spec["offeredAt"])).total_seconds() > 600 and not _matching(raw)
        standing = _matching(raw) and said.get("stage") in ("Blocked", "Rejected", "RolledBack")
        set_aside = site["spec"].get("cordoned") or not _placed(hub, name)
        busy = _online(hub, name) and not (_healthy(raw) or failed or silent or standing or set_aside)
        in_flight += busy
    assert in_flight + len(new) <= most, f"I2: {len(new)} offers while {in_flight} are in flight, {most} may"
    assert not hub.model["spec"].get("paused"), "an offer while paused"


def _placed(hub: Hub, name: str) -> bool:
    if hub.model is None:
        return False
    expressions = hub.model["spec"]["placement"]["siteSelector"].get("matchExpressions", ())
    ring = hub.sites[name]["metadata"]["labels"].get("ring")
    return all(ring in item["values"] for item in expressions)


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
        and _healthy(raw)
        and _online(hub, name)
    ]
    if wave.admitted == 0:
        assert wave.healthy == 0
        return
    need = units.at_least(policy.get("minSuccess", "50%"), wave.admitted)
    assert need <= wave.healthy <= len(good), f"I3: {wave} with {good} healthy"
    if policy.get("soak") and not newest.spec.finish:
        assert wave.soak_started_at is not None, f"I3: {wave.name} did not soak"
        since = units.instant(wave.soak_started_at)
        heard = [name for name in good if parse.heartbeat(hub.leases[name]).heard >= since]  # type: ignore[operator]
        assert len(heard) >= need, f"I3: {wave.name} completed by sites not heard since {since}"
        assert (hub.now - since).total_seconds() >= units.duration(policy["soak"]), "I3: soak was cut short"


def _removals_are_meant(hub: Hub, decision: ModelDecision) -> None:
    """I6: only sites that left the placement lose the model, and never many without consent."""
    gone = [write for write in decision.orders if write.order.state is State.REMOVE]
    assert all(not _placed(hub, write.site) for write in gone), "I6: a placed site is told to remove"
    assert all(write.site in hub.sites for write in gone), "I6: a deleted site is told to remove"
    having = [name for name, raw in hub.orders.items() if name in hub.sites and raw["spec"]["state"] == "Run"]
    if len(gone) > max(1, len(having) // 10) and hub.model is not None:
        asked = f"removal-{hub.model['metadata']['generation']}"
        approved = [
            item["wave"] for raw in hub.rollouts.values() for item in raw["spec"].get("approvals", ())
        ]
        assert asked in approved, f"I6: {len(gone)} of {len(having)} sites lose the model without consent"


def comes_to_rest(hub: Hub, sims: dict[str, Site]) -> None:
    """I11: with every site reachable and nobody touching anything it ends, or names who must act."""
    for site in sims.values():
        site.linked, site.blocked = True, False
    calm = 0
    for _ in range(60):
        decision = hub.look()
        check_again = changes(decision)
        hub.tick(61)
        for site in sims.values():
            site.sync()
            site.work()
            site.sync()
        calm = 0 if check_again else calm + 1
        if calm >= 12:
            break
    assert calm >= 12, f"I11: no rest: {check_again}"
    reason = hub.condition("Ready")
    if reason[0] == "True":
        _all_serve_what_they_should(hub, sims)
        return
    stalled, reconciling = hub.condition("Stalled"), hub.condition("Reconciling")
    waiting = ("Paused", "WaitingApproval", "NotEnoughSites")
    assert stalled[0] == "True" or reconciling[1] in waiting, f"I11: {reason} names nobody: {hub.message()}"
    assert hub.message(), "a hold says why"


def _all_serve_what_they_should(hub: Hub, sims: dict[str, Site]) -> None:
    """P4: who is reachable, placed and not set aside runs what its order says, the newest good one it did not refuse."""
    for name, site in sims.items():
        if name not in hub.sites or not _placed(hub, name) or hub.sites[name]["spec"].get("cordoned"):
            continue
        if hub.model is None or hub.model["spec"].get("paused"):
            continue
        newest = max(hub.rollouts.values(), key=lambda raw: raw["spec"]["number"])
        if newest["spec"]["desired"] == "Paused":
            continue
        good = sorted(
            (raw for raw in hub.rollouts.values() if raw["status"].get("outcome") == "Complete"),
            key=lambda raw: -raw["spec"]["number"],
        )
        refused = {(item["revision"], item["attempt"]) for item in site.refused}
        best = next(
            (raw for raw in good if (raw["spec"]["revision"], raw["spec"]["attempt"]) not in refused), None
        )
        if best is not None:
            assert site.active is not None, f"P4: {name} serves nothing"


def test_no_history_breaks_a_promise() -> None:
    """The same histories each time, within seconds."""
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Fleet,
        settings=settings(
            max_examples=int(os.environ.get("HISTORIES", "60")),
            stateful_step_count=40,
            derandomize=True,
            phases=[Phase.explicit, Phase.generate],  # a history is short enough as it is found
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_no_long_history_breaks_a_promise() -> None:
    """Other histories each time: HISTORIES of them (default 5000), longer ones."""
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Fleet,
        settings=settings(
            max_examples=int(os.environ.get("HISTORIES", "5000")),
            stateful_step_count=80,
            deadline=None,
            phases=list(Phase) if os.environ.get("SHRINK", "1") == "1" else [Phase.generate],
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
