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
SOME = st.sets(NAMES, max_size=4)
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

    @rule(name=NAMES)
    def sync(self, name: str) -> None:
        """A beat with its report."""
        if name in self.sims:
            self.sims[name].sync()

    @rule(names=SOME)
    def tell(self, names: set[str]) -> None:
        """Reports arrive, and what the hub has written since is not heard yet."""
        for name in names & set(self.sims):
            self.sims[name].tell()

    @rule(name=NAMES, times=st.integers(1, 3))
    def work(self, name: str, times: int) -> None:
        """A site goes on, with or without its link."""
        for _ in range(times):
            if name in self.sims:
                self.sims[name].work()

    @rule(names=SOME)
    def relapse(self, names: set[str]) -> None:
        """What was promoted stops working, and the sites go back by themselves."""
        for name in names & set(self.sims):
            self.sims[name].relapse()

    @rule(names=SOME, broken=st.booleans())
    def stumble(self, names: set[str], broken: bool) -> None:
        """What serves is not ready for a while."""
        for name in names & set(self.sims):
            self.sims[name].broken = broken

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

    @rule(names=SOME, linked=st.booleans())
    def link(self, names: set[str], linked: bool) -> None:
        """Links are cut or healed, of a whole town at times."""
        for name in names & set(self.sims):
            self.sims[name].linked = linked

    @rule(names=SOME, blocked=st.booleans())
    def block(self, names: set[str], blocked: bool) -> None:
        """Disks fill up or are cleared."""
        for name in names & set(self.sims):
            self.sims[name].blocked = blocked

    @rule(names=SOME, quiet=st.booleans())
    def hush(self, names: set[str], quiet: bool) -> None:
        """The callers of a site go home, or come back."""
        for name in names & set(self.sims):
            self.sims[name].quiet = quiet

    @rule(name=NAMES, labels=LABELS)
    def relabel(self, name: str, labels: dict[str, str]) -> None:
        """A person changes labels."""
        if name in self.hub.sites:
            self.hub.sites[name]["metadata"]["labels"] = labels

    @rule(name=NAMES, soc=SOCS, firmware=st.sampled_from(("1", "2", "")))
    def refit(self, name: str, soc: str, firmware: str) -> None:
        """Another board, or another firmware on it."""
        if name in self.hub.agents:
            self.hub.agents[name]["status"].setdefault("inventory", {}).update(soc=soc, firmware=firmware)

    @rule(name=NAMES, jurisdiction=st.sampled_from(("EU", "US", "")))
    def move(self, name: str, jurisdiction: str) -> None:
        """A person says under whose law a site is."""
        if name in self.hub.sites:
            self.hub.sites[name]["spec"]["jurisdiction"] = jurisdiction

    @rule(name=NAMES, feature=st.booleans())
    def equip(self, name: str, feature: bool) -> None:
        """Another box: with what the newer bundles need, or without."""
        if name in self.hub.agents:
            found = self.hub.agents[name]["status"].setdefault("inventory", {})
            found["cpuFeatures"] = ["avx2", *(["avx512_vnni"] if feature else [])]

    @rule(name=NAMES, cordoned=st.booleans())
    def cordon(self, name: str, cordoned: bool) -> None:
        """A person sets a site aside."""
        if name in self.hub.sites:
            self.hub.sites[name]["spec"]["cordoned"] = cordoned

    @rule(name=NAMES)
    def flap(self, name: str) -> None:
        """A site comes and goes until it is too much."""
        if name in self.hub.sites:
            stamp = units.timestamp(self.hub.now)
            flaps = [{"time": stamp, "of": "Connectivity", "mark": str(index)} for index in range(6)]
            self.hub.sites[name]["status"]["flaps"] = flaps

    @rule(name=NAMES)
    def release(self, name: str) -> None:
        """A person releases a site."""
        if name in self.hub.sites:
            self.hub.release(name)

    @rule(name=NAMES)
    def delete_site(self, name: str) -> None:
        """The EdgeSite goes, its namespace and orders stay."""
        self.hub.sites.pop(name, None)

    @rule(name=NAMES, labels=LABELS, draw=st.data())
    def create_site(self, name: str, labels: dict[str, str], draw: st.DataObject) -> None:
        """A site joins, or the same box comes back."""
        if name not in self.hub.sites:
            self.join(name, labels, draw)

    @precondition(lambda self: any(site.refused for site in self.sims.values()))
    @rule(
        what=st.sampled_from(("relabelled", "deleted", "deleted", "replaced")),
        heard=st.booleans(),
        draw=st.data(),
    )
    def one_that_failed(self, what: str, heard: bool, draw: st.DataObject) -> None:
        """A site that failed gets other labels, is deleted, or gets another box, before or after the hub hears of it."""
        name = draw.draw(st.sampled_from(sorted(name for name, site in self.sims.items() if site.refused)))
        if heard:
            self.sims[name].tell()
        if what == "relabelled":
            self.relabel(name, draw.draw(LABELS))
            return
        self.delete_site(name)
        if what == "replaced":
            del self.sims[name]
            self.create_site(name, draw.draw(LABELS), draw)

    @rule(name=NAMES)
    def lose_order(self, name: str) -> None:
        """Somebody deletes an order; the hub writes it anew, as another object."""
        self.hub.orders.pop(name, None)

    # -- windows --------------------------------------------------------------------------------------------

    @precondition(lambda self: self.windowed)
    @rule(name=NAMES, windows=st.sampled_from(WINDOWS), delivered=st.booleans())
    def give_windows(self, name: str, windows: dict[str, Any], delivered: bool) -> None:
        """A person changes the windows of a site; the policy goes down at once, or later."""
        if name in self.hub.sites:
            self.hub.sites[name]["spec"]["windows"] = windows
            if delivered:
                self.hub.deliver(name)

    @precondition(lambda self: self.windowed)
    @rule(name=NAMES, believed=st.booleans())
    def clock(self, name: str, believed: bool) -> None:
        """A battery is empty, or the time was set."""
        if name in self.sims:
            self.sims[name].clock = believed

    @precondition(lambda self: self.windowed)
    @rule(name=NAMES, simple=st.booleans())
    def swap_agent(self, name: str, simple: bool) -> None:
        """An agent that knows of no windows, or one that does."""
        if name in self.sims and name in self.hub.agents:
            self.sims[name].simple = simple
            self.hub.agents[name]["status"].pop("windows", None)
            self.hub.agents[name]["status"] |= {} if simple else {"windows": {}}
