"""Simulated sites and a hub moved on together, for tests of what the hub decides."""

import copy
from dataclasses import dataclass, field
from typing import Any

from edgefleet.core import units
from edgefleet.core.decisions import OrderWrite
from support.hubs import MODEL, START, Hub, Raw, bundle, model_raw, version_of


@dataclass
class Site:
    """A site as the hub meets it: it fetches orders, works on them, and reports; also while it is cut off."""

    name: str
    hub: Hub
    bad: set[str] = field(default_factory=set)
    """Bundles that fail here."""
    variants: dict[str, str] = field(default_factory=dict)
    """Variant this site takes of a bundle; none: it says nothing of it."""
    blocked: bool = False
    linked: bool = True
    broken: bool = False
    """What serves here is not ready."""
    quiet: bool = False
    """Nobody calls: a canary has nothing to be judged by."""
    clock: bool = True
    """Whether it is believed here."""
    windows: Raw | None = None
    """The policy as it was heard last; None: it has none, or its agent knows of none."""
    simple: bool = False
    """Its agent knows of no windows, and refuses orders that speak of going back."""
    identity: Raw | None = None
    order: Raw | None = None
    active: Raw | None = None
    """The order whose revision serves."""
    previous: str = ""
    served: Raw | None = None
    """The order whose revision served before."""
    refused: list[Raw] = field(default_factory=list)
    progress: int = 0
    steps: int = 2
    """Steps of work a revision takes here."""

    def sync(self) -> None:
        """A beat, the report up, policy and order down; nothing without a link."""
        if not self.tell():
            return
        policy = self.hub.agents.get(self.name)
        obeys = policy is not None and "windows" in policy["status"]
        self.windows = copy.deepcopy(policy["spec"].get("windows")) if policy and obeys else None
        live = self.hub.orders.get(self.name)
        if live is None:
            return
        head = live["metadata"]
        identity = {"uid": head["uid"], "generation": head["generation"]}
        if identity != self.identity:
            before = self.order
            self.identity, self.order = identity, copy.deepcopy(live["spec"])
            same = before is not None and all(before[k] == self.order[k] for k in ("revision", "attempt"))
            self.progress = self.progress if same else 0
            live["status"] = self.report()

    def tell(self) -> bool:
        """A beat and the report of what is known here; what is new at the hub is not heard yet. False: no link."""
        if not self.linked or self.name not in self.hub.sites:
            return False
        self.hub.beat(self.name)
        live = self.hub.orders.get(self.name)
        if live is not None:
            live["status"] = self.report()
            # a write of the status is a new resource version, and only a difference is written
            live["metadata"]["resourceVersion"] = str(next(self.hub.versions))
        return True

    def relapse(self) -> None:
        """What serves stops working long after its promotion, and the revision before serves again."""
        if self.active is None or self.order is None or not self._serves(self.order) or self.served is None:
            return
        self._refuse(self.order)
        self.active, self.previous, self.served = self.served, self.active["revision"], None

    def work(self) -> None:
        """One step, with or without a link."""
        order = self.order
        if order is None or order["state"] != "Run":
            if order is not None and order["state"] == "Remove":
                self.active, self.previous, self.served = None, "", None
            return
        if self.blocked or self._settled() or self._behind() or self._waits() or self._too_new():
            return
        if self._idle():
            return
        self.progress += 1
        if self.progress < self.steps:
            return
        if order["bundle"] in self.bad:
            self._refuse(order)
        else:
            self.previous, self.served = self.active["revision"] if self.active else "", self.active
            self.active, self.broken = copy.deepcopy(order), False
        self.progress = 0

    def report(self) -> Raw:
        """What it says now."""
        stage, reason = self._stage()
        ready = "True" if reason == "Serving" else "False"
        found: Raw = {
            "stage": stage,
            "reason": reason,
            "activeRevision": self.active["revision"] if self.active else "",
            "activeBundle": self.active["bundle"].rpartition("@")[2] if self.active else "",
            "previousRevision": self.previous,
            "variant": self.variants.get(self.active["bundle"], "") if self.active else "",
            "refused": copy.deepcopy(self.refused),
            "conditions": [
                {
                    "type": "Ready",
                    "status": ready,
                    "reason": stage,
                    "lastTransitionTime": units.timestamp(START),
                }
            ],
        }
        return found | ({"order": dict(self.identity)} if self.identity is not None else {})

    def _refuse(self, order: Raw) -> None:
        self.refused.append(
            {
                "revision": order["revision"],
                "attempt": order["attempt"],
                "reason": "GoldenDisagrees",
                "message": "12 % of the golden set agree, 95 % needed",
                "time": units.timestamp(self.hub.now),
                "variant": self.variants.get(order["bundle"], ""),
            }
        )

    def _settled(self) -> bool:
        order = self.order
        return order is not None and (self._refuses(order) or self._serves(order))

    def _serves(self, order: Raw) -> bool:
        return self.active is not None and self.active["revision"] == order["revision"]

    def _refuses(self, order: Raw) -> bool:
        return any(
            item["revision"] == order["revision"] and item["attempt"] >= order["attempt"]
            for item in self.refused
        )

    def _waits(self) -> str:
        """Why it begins nothing yet: it has fetched nothing, or begun nothing with what it has, and has no window for that."""
        order = self.order
        if order is None or self.windows is None or self.progress > 1:
            return ""
        if order.get("goBack", False) or order["revision"] == self.previous:
            return ""
        if not self.windows.get("download" if self.progress == 0 else "update"):
            return ""
        now = self.hub.windows(self.windows)
        window = now.download if self.progress == 0 else now.update
        return "ClockUntrusted" if not self.clock else "" if window.open else "WindowClosed"

    def _too_new(self) -> bool:
        """An order this agent does not understand."""
        return self.simple and self.order is not None and self.order.get("goBack", False)

    def _idle(self) -> bool:
        """A canary without callers."""
        return self.quiet and self.progress == 1 and self.order is not None and self.order["mode"] == "Canary"

    def _behind(self) -> bool:
        """A lower bundle version without the digest to leave."""
        if self.active is None or self.order is None:
            return False
        lower = version_of(self.order["bundle"]) < version_of(self.active["bundle"])
        return lower and self.order.get("replaces", "") != self.active["bundle"].rpartition("@")[2]

    def _stage(self) -> tuple[str, str]:
        order = self.order
        if order is None:
            return ("Pending", "")
        if order["state"] == "Remove":
            return ("Removing", "") if self.active else ("Removed", "Removed")
        if order["state"] == "Keep":
            return ("Removed", "Kept")
        if self._refuses(order):
            return ("RolledBack", "GoldenDisagrees")
        if self._serves(order):
            return ("Serving", "NotReady" if self.broken else "Serving")
        if self._too_new():
            return ("Rejected", "AgentTooOld")
        if self.blocked:
            return ("Blocked", "DiskFull")
        if self._behind():
            return ("Rejected", "HubBehind")
        if why := self._waits():
            return ("Waiting" if self.progress == 0 else "Staged", why)
        if self._idle():
            return ("Held", "NoTraffic")
        return ("Downloading", "") if self.progress == 0 else ("Canary", "")


@dataclass
class World:
    """A hub with its sites, moved on together."""

    hub: Hub
    sites: dict[str, Site]

    def go(self, rounds: int = 8, seconds: float = 1.0) -> list[OrderWrite]:
        """Passes, beats and work in turn. Returns the orders written."""
        written: list[OrderWrite] = []
        for _ in range(rounds):
            written += self.hub.look().orders
            self.hub.tick(seconds)
            for site in self.sites.values():
                site.sync()
                site.work()
                site.sync()
        return written

    def fail(self, number: int, *names_: str) -> None:
        """Let a bundle fail at these sites; at all of them when none is named."""
        for name in names_ or tuple(self.sites):
            self.sites[name].bad.add(bundle(number))

    def active(self) -> dict[str, str]:
        """Revision that serves, by site; empty: none does."""
        return {name: site.active["revision"] if site.active else "" for name, site in self.sites.items()}

    def ordered(self) -> dict[str, str]:
        """Revision ordered, by site."""
        return {name: str(raw["spec"]["revision"]) for name, raw in self.hub.orders.items()}


def world(labels: dict[str, dict[str, str]] | str, **spec: Any) -> World:
    """Sites that joined, by name with their labels or as a string of one-letter names, and a model with bundle 1."""
    hub = Hub(model=model_raw(1, **spec))
    known = labels if isinstance(labels, dict) else {name: {} for name in labels}
    for name, own in known.items():
        hub.join(name, own)
    return World(hub, {name: Site(name, hub) for name in known})


def served(labels: dict[str, dict[str, str]] | str, **spec: Any) -> World:
    """A world in which bundle 1 serves everywhere and its rollout is complete, whatever its waves would wait for."""
    made = world(labels, **spec)
    made.go(3)
    if made.hub.condition("Ready")[0] != "True":
        made.hub.verb(f"{MODEL}-1", finish=True)
    made.go(9)
    if made.hub.condition("Ready") != ("True", "Complete"):
        raise AssertionError(f"bundle 1 did not come to serve: {made.hub.message()}")
    return made
