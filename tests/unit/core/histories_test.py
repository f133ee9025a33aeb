"""Random histories of a simulated fleet, searched for one in which the hub breaks a promise.

Sites accept orders, succeed, fail, are blocked, cut off, relabelled, cordoned, deleted and come back; people edit,
pause, abort, approve, retry; the operator is killed between any two writes. The invariants are those of the design.
"""

import os
import pickle
from typing import Any

import hypothesis.strategies as st
import pytest
from edgefleet.core import quarantine, units
from edgefleet.core.statuses import VariantNeeds
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from support.fleet import Site
from support.hubs import Hub, Raw, bundle, model_raw
from support.kinds import Offers, check_kinds, nobody_stays, note_offers, the_clock_holds_nobody
from support.promises import check, clocks_do_not_matter, comes_to_rest, order_does_not_matter

SITES = ("a", "b", "c", "d", "e", "f", "g", "h")
SOCS = st.sampled_from(("x", "y", "z", ""))
LABELS = st.one_of(
    st.builds(lambda ring: {"ring": ring}, st.sampled_from(("0", "1", "2"))),
    st.builds(lambda ring, soc: {"ring": ring, "soc": soc}, st.sampled_from(("0", "1", "2")), SOCS),
)
"""A label `soc` wins over what the inventory says."""
BUNDLES = tuple(bundle(number) for number in range(1, 6))
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
    {"cohorts": {"by": ["soc"], "minSites": 2}},
    {
        "waves": [{"name": "half", "limit": "50%", "maxConcurrency": 3}, {"name": "all", "maxFailures": 1}],
        "cohorts": {"by": ["firmware", "soc"], "minSites": 1, "maxFailures": 0},
        "rate": {"perMinute": 2, "every": 2},
    },
    {
        "waves": [{"name": "canary", "siteSelector": {"matchLabels": {"ring": "0"}}, "soak": "30s"}],
        "cohorts": {"by": ["ring", "variant", "soc"], "minSites": 3, "maxFailures": "40%"},
        "failureStrategy": "Pause",
    },
    {"rate": {"perMinute": 1, "factor": 3, "every": 1, "maxPerMinute": 4}},
)
NEEDS = (VariantNeeds(name="int8", cpu_features=("avx512_vnni",)),)
WHOLE = 10**6
QUARANTINE = quarantine.Policy(failures=1, max_share="50%")
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
        self.kinds: dict[str, set[str]] = {}
        """Bundles that fail on a SoC."""
        self.offers: Offers = {}

    @initialize(
        policy=st.sampled_from(POLICIES),
        labels=st.lists(LABELS, min_size=2, max_size=len(SITES)),
        draw=st.data(),
    )
    def begin(self, policy: dict[str, Any], labels: list[dict[str, str]], draw: st.DataObject) -> None:
        """A fleet of two to eight sites, some of which, and some kinds of which, do not take some bundles."""
        self.hub = Hub(model=model_raw(1, rollout=policy), needs=NEEDS)
        self.kinds = {soc: draw.draw(st.sets(st.sampled_from(BUNDLES), max_size=2)) for soc in "xy"}
        for name, own in zip(SITES, labels, strict=False):
            self._join(name, own, draw)

    def _join(self, name: str, labels: dict[str, str], draw: st.DataObject) -> None:
        soc, firmware = draw.draw(SOCS), draw.draw(st.sampled_from(("1", "1", "2")))
        self.hub.join(name, labels, inventory={"soc": soc, "firmware": firmware})
        failing = self.kinds.get(labels.get("soc", soc), set())
        failing = failing | draw.draw(st.sets(st.sampled_from(BUNDLES[1:]), max_size=1))
        variants = dict.fromkeys(BUNDLES, draw.draw(st.sampled_from(("int8", "fp32"))))
        variants[BUNDLES[0]] = "fp32"
        self.sims.setdefault(name, Site(name, self.hub, bad=failing, variants=variants))

    # -- the operator ---------------------------------------------------------------------------------

    @rule(writes=st.sampled_from((WHOLE, WHOLE, WHOLE, 0, 1, 2, 3, 4)), seed=st.integers(0, 3))
    def look(self, writes: int, seed: int) -> None:
        """One pass, perhaps killed half-way; a killed operator starts again."""
        before: Hub = pickle.loads(pickle.dumps(self.hub))  # five times as quick as deepcopy
        decision = self.hub.look(writes)
        if seed == 1:
            order_does_not_matter(before, decision)
        if seed == 2:
            clocks_do_not_matter(before, decision)
            the_clock_holds_nobody(before, decision)
        if writes < WHOLE:
            self.hub.started = self.hub.now
        check(before, decision)
        check_kinds(before, decision, self.offers)
        note_offers(self.hub, self.offers)
        if writes == WHOLE:
            self._nothing_banned_is_ordered()
            nobody_stays(self.hub)

    @rule(rounds=st.integers(1, 8))
    def several(self, rounds: int) -> None:
        """The everyday: passes, beats and work in turn."""
        for _ in range(rounds):
            self.look(WHOLE, self.hub.now.second // 5 % 6)
            self.hub.tick(5)
            for site in self.sims.values():
                site.sync()
                site.work()
                site.sync()

    @rule(number=st.integers(1, 5), rounds=st.integers(1, 6))
    def roll(self, number: int, rounds: int) -> None:
        """Another bundle, and some time for it."""
        self.apply(number)
        self.several(rounds)

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

    @rule(name=st.sampled_from(SITES), labels=LABELS)
    def relabel(self, name: str, labels: dict[str, str]) -> None:
        """A person changes labels."""
        if name in self.hub.sites:
            self.hub.sites[name]["metadata"]["labels"] = labels

    @rule(name=st.sampled_from(SITES), soc=SOCS, firmware=st.sampled_from(("1", "2", "")))
    def refit(self, name: str, soc: str, firmware: str) -> None:
        """Another board, or another firmware on it."""
        if name in self.hub.agents:
            self.hub.agents[name]["status"].setdefault("inventory", {}).update(soc=soc, firmware=firmware)

    @rule(name=st.sampled_from(SITES), jurisdiction=st.sampled_from(("EU", "US", "")))
    def move(self, name: str, jurisdiction: str) -> None:
        """A person says under whose law a site is."""
        if name in self.hub.sites:
            self.hub.sites[name]["spec"]["jurisdiction"] = jurisdiction

    @rule(name=st.sampled_from(SITES), feature=st.booleans())
    def equip(self, name: str, feature: bool) -> None:
        """Another box: with what the newer bundles need, or without."""
        if name in self.hub.agents:
            found = self.hub.agents[name]["status"].setdefault("inventory", {})
            found["cpuFeatures"] = ["avx2", *(["avx512_vnni"] if feature else [])]

    @rule(name=st.sampled_from(SITES), cordoned=st.booleans())
    def cordon(self, name: str, cordoned: bool) -> None:
        """A person sets a site aside."""
        if name in self.hub.sites:
            self.hub.sites[name]["spec"]["cordoned"] = cordoned

    @rule(name=st.sampled_from(SITES))
    def flap(self, name: str) -> None:
        """A site comes and goes until it is too much."""
        if name in self.hub.sites:
            stamp = units.timestamp(self.hub.now)
            flaps = [{"time": stamp, "of": "Connectivity", "mark": str(index)} for index in range(6)]
            self.hub.sites[name]["status"]["flaps"] = flaps

    @rule(name=st.sampled_from(SITES))
    def release(self, name: str) -> None:
        """A person releases a site."""
        if name in self.hub.sites:
            self.hub.release(name)

    @rule(writes=st.sampled_from((WHOLE, WHOLE, 0, 1)))
    def set_aside(self, writes: int) -> None:
        """The pass over the fleet, perhaps killed half-way: never more than the share, whoever was deleted since."""
        decision = self.hub.set_aside(QUARANTINE, writes)
        held = [name for name, raw in self.hub.sites.items() if "quarantine" in raw["status"]]
        if writes >= len(decision.releases):
            room = quarantine.capacity(QUARANTINE, len(self.hub.sites))
            assert len(held) <= room, f"{held} are set aside, {room} may be"

    @rule(name=st.sampled_from(SITES))
    def delete_site(self, name: str) -> None:
        """The EdgeSite goes, its namespace and orders stay."""
        self.hub.sites.pop(name, None)

    @rule(name=st.sampled_from(SITES), labels=LABELS, draw=st.data())
    def create_site(self, name: str, labels: dict[str, str], draw: st.DataObject) -> None:
        """A site joins, or the same box comes back."""
        if name not in self.hub.sites:
            self._join(name, labels, draw)

    # -- people -----------------------------------------------------------------------------------------

    @rule(number=st.integers(1, 5))
    def apply(self, number: int) -> None:
        """Another bundle, or one of before."""
        self.hub.edit(bundle=bundle(number))

    @rule(policy=st.sampled_from(POLICIES))
    def change_policy(self, policy: dict[str, Any]) -> None:
        """Waves are policy, read live."""
        self.hub.edit(rollout=policy)

    @rule(
        rings=st.sampled_from(((), ("0",), ("0", "1"), ("0", "1", "2"))),
        jurisdictions=st.sampled_from(((), (), (), ("EU",), ("EU", "US"))),
    )
    def place(self, rings: tuple[str, ...], jurisdictions: tuple[str, ...]) -> None:
        """Another selector; the empty tuple stands for every site, and for anywhere."""
        values = [{"key": "ring", "operator": "In", "values": list(rings)}] if rings else []
        placement = {"siteSelector": {"matchExpressions": values}}
        self.hub.edit(placement=placement | ({"jurisdictions": list(jurisdictions)} if jurisdictions else {}))

    @rule(paused=st.booleans())
    def pause(self, paused: bool) -> None:
        """The model is paused or goes on."""
        self.hub.edit(paused=paused)

    @rule(replicas=st.integers(1, 3))
    def scale(self, replicas: int) -> None:
        """Replicas make no revision."""
        self.hub.edit(serving={"replicas": replicas})

    @rule(replicas=st.sampled_from(("many", 1)))
    def misspell(self, replicas: int | str) -> None:
        """A spec that cannot be read, or can be again."""
        self.hub.edit(serving={"replicas": replicas})

    @precondition(lambda self: self.hub.rollouts)
    @rule(really=st.sampled_from((False, False, True)))
    def delete_rollout(self, really: bool) -> None:
        """A person deletes the newest EdgeRollout."""
        if really:
            name = self._newest()["metadata"]["name"]
            del self.hub.rollouts[name]
            self.failed.pop(name, None)

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
            said = raw["status"]
            counted = {f"{name}/{wave['name']}": wave.get("failed", 0) for wave in said.get("waves", ())}
            counted[name] = said.get("counts", {}).get("failed", 0)
            for what, failed in counted.items():
                assert failed >= self.failed.get(what, 0), f"I8: {what} forgot a failure"
            self.failed |= counted

    def teardown(self) -> None:
        """Whatever happened, it comes to rest and says so."""
        if self.sims:
            comes_to_rest(self.hub, self.sims)


@pytest.mark.timeout(400)
def test_no_history_breaks_a_promise() -> None:
    """The same histories each time, within seconds."""
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Fleet,
        settings=settings(
            max_examples=int(os.environ.get("HISTORIES", "40")),
            stateful_step_count=30,
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
