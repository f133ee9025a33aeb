"""What may happen to the sites of a random history: each a rule of the search in tests/unit/core/histories_test.py."""

from typing import Any

import hypothesis.strategies as st
from edgefleet.core import quarantine, units
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from support.fleet import Site
from support.hubs import Hub, Raw, bundle
from support.timely import hourly

SITES = ("a", "b", "c", "d", "e", "f", "g", "h")
NAMES = st.sampled_from(SITES)
SOME = st.one_of(st.just(frozenset(SITES)), st.frozensets(NAMES, max_size=4))
SOCS = st.sampled_from(("x", "y", "z", ""))
LABELS = st.one_of(
    st.builds(lambda ring: {"ring": ring}, st.sampled_from(("0", "1", "2"))),
    st.builds(lambda ring, soc: {"ring": ring, "soc": soc}, st.sampled_from(("0", "1", "2")), SOCS),
)
"""A label `soc` wins over what the inventory says."""
BUNDLES = tuple(bundle(number) for number in range(1, 6))
WINDOWS: tuple[dict[str, list[Raw]], ...] = (
    {},
    {"download": hourly(0, 10)},
    {"update": hourly(30, 20)},
    {"download": hourly(15, 40), "update": hourly(0, 15)},
    {"download": [*hourly(5, 5), *hourly(40, 5)], "update": hourly(50, 50)},
)
WHOLE = 10**6
QUARANTINE = quarantine.Policy(failures=1, max_share="50%")


class Happenings(RuleBasedStateMachine):
    """A hub, its sites, and all that may happen to them."""

    def __init__(self) -> None:
        super().__init__()
        self.hub = Hub()
        self.sims: dict[str, Site] = {}
        self.kinds: dict[str, set[str]] = {}
        """Bundles that fail on a SoC."""
        self.windowed = False
        """Whether sites of this history may have windows."""

    def join(self, name: str, labels: dict[str, str], draw: st.DataObject) -> None:
        """A box joins under a name, one that was there before or a new one."""
        soc, firmware = draw.draw(SOCS), draw.draw(st.sampled_from(("1", "1", "2")))
        self.hub.join(name, labels, inventory={"soc": soc, "firmware": firmware})
        failing = self.kinds.get(labels.get("soc", soc), set())
        failing = failing | draw.draw(st.sets(st.sampled_from(BUNDLES[1:]), max_size=1))
        variants = dict.fromkeys(BUNDLES, draw.draw(st.sampled_from(("int8", "fp32"))))
        variants[BUNDLES[0]] = "fp32"
        self.sims.setdefault(name, Site(name, self.hub, bad=failing, variants=variants))
        simple = self.sims[name].simple
        self.hub.agents[name]["status"] |= {} if simple else {"windows": {}}
        if self.windowed:
            self.hub.sites[name]["spec"]["windows"] = draw.draw(st.sampled_from(WINDOWS))
            self.hub.deliver(name)

    # -- what a site does -------------------------------------------------------------------------------

    @rule(names=SOME, does=st.sampled_from(("sync", "tell", "work", "work")))
    def alone(self, names: frozenset[str], does: str) -> None:
        """A beat with its report, a report of one that has not heard the latest, or work, with or without a link."""
        for name in sorted(names & set(self.sims)):
            getattr(self.sims[name], does)()

    @rule(names=SOME)
    def relapse(self, names: frozenset[str]) -> None:
        """What was promoted stops working, and the sites go back by themselves."""
        for name in names & set(self.sims):
            self.sims[name].relapse()

    @rule(
        names=SOME,
        what=st.sampled_from(("linked", "linked", "blocked", "broken", "quiet", "clock")),
        so=st.booleans(),
    )
    def trouble(self, names: frozenset[str], what: str, so: bool) -> None:
        """Links are cut, disks fill up, pods stumble, callers go home, batteries run empty; or all is well again."""
        for name in names & set(self.sims):
            setattr(self.sims[name], what, so)

    @rule(name=NAMES)
    def muddle(self, name: str) -> None:
        """A report that names the live order and tells of what served before it."""
        live, site = self.hub.orders.get(name), self.sims.get(name)
        if live is not None and site is not None and site.active is not None and site.linked:
            head, said = live["metadata"], site.report()
            said |= {"stage": "Serving", "reason": "Serving"}
            said["conditions"][0] |= {"status": "True"}
            live["status"] = said | {"order": {"uid": head["uid"], "generation": head["generation"]}}
            head["resourceVersion"] = str(next(self.hub.versions))

    # -- what happens to a site ---------------------------------------------------------------------------

    @rule(
        name=NAMES,
        what=st.sampled_from(
            ("relabel", "relabel", "refit", "move", "equip", "cordon", "cordon", "flap", "release")
        ),
        draw=st.data(),
    )
    def change(self, name: str, what: str, draw: st.DataObject) -> None:
        """A person or a screwdriver changes what a site is."""
        if name in self.hub.sites:
            getattr(self, what)(name, draw)

    def relabel(self, name: str, draw: st.DataObject) -> None:
        """Other labels."""
        self.hub.sites[name]["metadata"]["labels"] = draw.draw(LABELS)

    def refit(self, name: str, draw: st.DataObject) -> None:
        """Another board, or another firmware on it."""
        found = {"soc": draw.draw(SOCS), "firmware": draw.draw(st.sampled_from(("1", "2", "")))}
        self.hub.agents[name]["status"].setdefault("inventory", {}).update(found)

    def move(self, name: str, draw: st.DataObject) -> None:
        """A person says under whose law a site is."""
        self.hub.sites[name]["spec"]["jurisdiction"] = draw.draw(st.sampled_from(("EU", "US", "")))

    def equip(self, name: str, draw: st.DataObject) -> None:
        """Another box: with what the newer bundles need, or without."""
        found = self.hub.agents[name]["status"].setdefault("inventory", {})
        found["cpuFeatures"] = ["avx2", *(["avx512_vnni"] if draw.draw(st.booleans()) else [])]

    def cordon(self, name: str, draw: st.DataObject) -> None:
        """A person sets a site aside, or no longer."""
        self.hub.sites[name]["spec"]["cordoned"] = draw.draw(st.booleans())

    def flap(self, name: str, _draw: st.DataObject) -> None:
        """A site comes and goes until it is too much."""
        stamp = units.timestamp(self.hub.now)
        flaps = [{"time": stamp, "of": "Connectivity", "mark": str(index)} for index in range(6)]
        self.hub.sites[name]["status"]["flaps"] = flaps

    def release(self, name: str, _draw: st.DataObject) -> None:
        """A person releases a site."""
        self.hub.release(name)

    @rule(name=NAMES, draw=st.data())
    def come_or_go(self, name: str, draw: st.DataObject) -> None:
        """An EdgeSite goes, while its namespace and orders stay; or a site joins, or the same box comes back."""
        if name in self.hub.sites:
            del self.hub.sites[name]
        else:
            self.join(name, draw.draw(LABELS), draw)

    @rule(
        name=NAMES,
        then=st.sampled_from(("stays", "relabelled", "cordoned", "deleted", "erased", "replaced")),
        heard=st.booleans(),
        draw=st.data(),
    )
    def fail(self, name: str, then: str, heard: bool, draw: st.DataObject) -> None:
        """A site fails, and what it is changes before or after the hub has heard of that."""
        site = self.sims.get(name)
        if site is None or name not in self.hub.sites:
            return
        site.relapse()
        if site.order is not None and not site.refused:
            site.bad.add(site.order["bundle"])
            for _ in range(site.steps):
                site.work()
        if heard:
            site.tell()
        if then == "relabelled":
            self.relabel(name, draw)
        elif then == "cordoned":
            self.hub.sites[name]["spec"]["cordoned"] = True
        elif then != "stays":
            del self.hub.sites[name]
        if then == "erased":  # with its namespace
            self.hub.orders.pop(name, None)
        if then == "replaced":
            del self.sims[name]
            self.join(name, draw.draw(LABELS), draw)

    def lose_orders(self, names: frozenset[str]) -> None:
        """Somebody deletes orders."""
        for name in names:
            self.hub.orders.pop(name, None)

    # -- windows --------------------------------------------------------------------------------------------

    @precondition(lambda self: self.windowed)
    @rule(
        name=NAMES,
        windows=st.sampled_from(WINDOWS),
        delivered=st.booleans(),
        simple=st.sampled_from((False, False, True)),
    )
    def give_windows(self, name: str, windows: dict[str, Any], delivered: bool, simple: bool) -> None:
        """A person changes the windows of a site; the policy goes down at once or later, to an agent that knows of windows or not."""
        if name not in self.hub.sites or name not in self.sims:
            return
        self.hub.sites[name]["spec"]["windows"] = windows
        self.sims[name].simple = simple
        self.hub.agents[name]["status"].pop("windows", None)
        self.hub.agents[name]["status"] |= {} if simple else {"windows": {}}
        if delivered:
            self.hub.deliver(name)
