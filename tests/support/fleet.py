"""A hub's objects as the API server would hold them, for tests of its decisions: raw dicts, parsed by the real door.

`Hub` applies decisions write by write, as the operator does, and can be killed between two writes. It refuses what
an API server would refuse: a stale resource version, another uid, a name that is taken, a change of what is immutable.
"""

import copy
import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from edgefleet.core import model_pass, names, parse, units
from edgefleet.core.types import (
    BundleCheck,
    Finalizer,
    ModelDecision,
    ModelSeen,
    OrderWrite,
    RolloutCreate,
    RolloutPatch,
)

Raw = dict[str, Any]

START = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
NAMESPACE = "vision"
MODEL = "digits"
IMAGE = "registry.example/edgepod@sha256:" + "e" * 64
VERBS = frozenset({"desired", "approvals", "finish", "direct"})


def bundle(number: int) -> str:
    """The reference of a bundle; its digest starts with its number."""
    return f"oci://registry.example/vision/digits@sha256:{number:x}".ljust(
        len("oci://registry.example/vision/digits@sha256:") + 64, "0"
    )


def version_of(reference: str) -> int:
    """The version of a bundle made by `bundle`."""
    return int(reference.rpartition(":")[2][0], 16)


def model_raw(number: int = 1, **spec: Any) -> Raw:
    """An EdgeModel as the API server returns it."""
    return {
        "metadata": {
            "name": MODEL,
            "namespace": NAMESPACE,
            "uid": "model-1",
            "generation": 1,
            "annotations": {},
            "finalizers": [],
        },
        "spec": {"bundle": bundle(number), "placement": {"siteSelector": {}}, **spec},
        "status": {"observedGeneration": -1},
    }


def site_raw(name: str, labels: dict[str, str] | None = None, **spec: Any) -> Raw:
    """An EdgeSite."""
    return {
        "metadata": {"name": name, "uid": f"uid-{name}", "generation": 1, "labels": labels or {}},
        "spec": spec,
        "status": {"observedGeneration": -1},
    }


def lease_raw(heard: datetime | None, renewed: datetime | None = None) -> Raw:
    """A heartbeat Lease; the hub's API server stamped the last beat at `heard`."""
    fields = []
    if heard is not None:
        fields = [{"manager": names.AGENT_MANAGER, "time": units.timestamp(heard)}]
    spec = {"renewTime": units.timestamp(renewed)} if renewed else {}
    return {"metadata": {"name": names.LEASE, "managedFields": fields}, "spec": spec}


def agent_raw(understands: tuple[int, ...] = (names.ORDER_VERSION,)) -> Raw:
    """An EdgeAgent whose policy is delivered."""
    return {
        "metadata": {"name": names.AGENT, "generation": 1},
        "spec": {"heartbeatInterval": "120s", "cordoned": False},
        "status": {"observedGeneration": 1, "understands": list(understands)},
    }


class RefusedError(Exception):
    """The API server would answer 404, 409 or 422."""


@dataclass
class Hub:
    """The API server of a hub with one EdgeModel."""

    model: Raw | None = field(default_factory=model_raw)
    rollouts: dict[str, Raw] = field(default_factory=dict)
    orders: dict[str, Raw] = field(default_factory=dict)
    """By site."""
    sites: dict[str, Raw] = field(default_factory=dict)
    leases: dict[str, Raw] = field(default_factory=dict)
    agents: dict[str, Raw] = field(default_factory=dict)
    now: datetime = START
    started: datetime = START - timedelta(days=1)
    check: BundleCheck | None = None
    """None: every bundle is found and signed."""
    crd_deleting: bool = False
    pod_image: str = IMAGE
    versions: Iterator[int] = field(default_factory=lambda: iter(range(1, 10**9)))

    # -- what people and sites do -------------------------------------------------------------------

    def join(self, name: str, labels: dict[str, str] | None = None, **spec: Any) -> None:
        """Add a site that has joined and is heard."""
        self.sites[name] = site_raw(name, labels, **spec)
        self.agents[name] = agent_raw()
        self.beat(name)

    def beat(self, name: str) -> None:
        """A beat arrives."""
        self.leases[name] = lease_raw(self.now)

    def edit(self, **spec: Any) -> None:
        """Change fields of the model's spec."""
        if self.model is None:
            raise AssertionError("there is no EdgeModel to edit")
        before = copy.deepcopy(self.model["spec"])
        self.model["spec"].update(spec)
        if self.model["spec"] != before:
            self.model["metadata"]["generation"] += 1

    def annotate(self, retry: str) -> None:
        """Ask for another attempt."""
        if self.model is None:
            raise AssertionError("there is no EdgeModel to annotate")
        self.model["metadata"]["annotations"][names.RETRY] = retry

    def verb(self, rollout: str, **spec: Any) -> None:
        """Set a verb of a rollout."""
        unknown = set(spec) - VERBS
        if unknown:
            raise RefusedError(f"{unknown} is immutable")
        raw = self.rollouts[rollout]
        if {**raw["spec"], **spec} != raw["spec"]:
            raw["spec"].update(spec)
            raw["metadata"]["generation"] += 1

    def tick(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)

    # -- one pass of the operator -------------------------------------------------------------------

    def seen(self) -> ModelSeen:
        """All that the operator sees."""
        parsed = [parse.rollout(raw) for raw in self.rollouts.values()]
        return ModelSeen(
            namespace=NAMESPACE,
            name=MODEL,
            model=parse.model(self.model) if self.model is not None else None,
            rollouts=tuple(item for item in parsed if item is not None),
            orders=tuple(parse.deployment(raw) for raw in self.orders.values()),
            sites=tuple(
                parse.site(raw, self.leases.get(name), self.agents.get(name))
                for name, raw in self.sites.items()
            ),
            bundle=self.check or self._found(),
            pod_image=self.pod_image,
            operator_started=self.started,
            crd_deleting=self.crd_deleting,
        )

    def decide(self) -> ModelDecision:
        """What the operator would do now."""
        return model_pass.decide_model(self.seen(), self.now)

    def look(self, writes: int | None = None) -> ModelDecision:
        """One pass, killed after so many writes. The decision it came from is returned."""
        decision = self.decide()
        for number, write in enumerate(self._writes(decision)):
            if number == writes:
                break
            write()
        return decision

    def settle(self, passes: int = 20) -> ModelDecision:
        """Pass after pass until there is nothing to do."""
        for _ in range(passes):
            decision = self.look()
            if not changes(decision):
                return decision
        raise AssertionError(f"still something to do after {passes} passes: {changes(decision)}")

    def _found(self) -> BundleCheck | None:
        if self.model is None:
            return None
        reference = self.model["spec"]["bundle"]
        return BundleCheck(
            bundle=reference, ok=True, version=version_of(reference), variants=("int8", "fp32")
        )

    def _writes(self, decision: ModelDecision) -> list[Any]:
        """The writes of a decision in the order the operator makes them."""
        model = self.model
        found: list[Any] = []
        if decision.finalizer is Finalizer.ADD and model is not None:
            found.append(lambda: model["metadata"].update(finalizers=[names.MODEL_FINALIZER]))
        found += [lambda c=c: self._create(c) for c in decision.create_rollouts]
        for patch in decision.patch_rollouts:
            found += self._patches(patch)
        found += [lambda w=w: self._order(w) for w in decision.orders]
        found += [lambda d=d: self._delete(self.orders, d.site, d.uid) for d in decision.delete_orders]
        found += [lambda d=d: self._delete(self.rollouts, d.name, d.uid) for d in decision.delete_rollouts]
        if decision.status is not None and model is not None:
            found.append(lambda: model.update(status=raw(decision.status)))
        if decision.finalizer is Finalizer.DROP:
            found.append(self._drop)
        return found

    def _drop(self) -> None:
        if self.model is not None and self.model["metadata"].get("deletionTimestamp"):
            self.model, self.rollouts = None, {}

    def _create(self, create: RolloutCreate) -> None:
        if create.name in self.rollouts:
            return
        self.rollouts[create.name] = {
            "metadata": {
                "name": create.name,
                "namespace": NAMESPACE,
                "uid": f"rollout-{next(self.versions)}",
                "generation": 1,
                "labels": dict(create.labels),
                "annotations": dict(create.annotations),
            },
            "spec": raw(create.spec),
            "status": {"observedGeneration": -1},
        }

    def _patches(self, patch: RolloutPatch) -> list[Any]:
        live = self.rollouts[patch.name]
        found: list[Any] = []
        if patch.annotations is not None:
            found.append(lambda: live["metadata"]["annotations"].update(patch.annotations))
        if patch.status is not None:
            found.append(lambda: live.update(status=raw(patch.status)))
        return found

    def _order(self, write: OrderWrite) -> None:
        live = self.orders.get(write.site)
        if bool(write.uid) != (live is not None):
            raise RefusedError(f"order of {write.site}: create and change are mixed up")
        if live is None:
            head = {
                "name": write.name,
                "namespace": names.site_namespace(write.site),
                "uid": f"order-{next(self.versions)}",
                "generation": 1,
            }
            live = self.orders[write.site] = {"metadata": head, "spec": raw(write.order), "status": {}}
        elif (
            write.uid != live["metadata"]["uid"]
            or write.resource_version != live["metadata"]["resourceVersion"]
        ):
            raise RefusedError(f"order of {write.site}: stale")
        elif live["spec"] == raw(write.order):
            raise RefusedError(f"order of {write.site}: a write that changes nothing")
        else:
            live["spec"] = raw(write.order)
            live["metadata"]["generation"] += 1
        live["metadata"]["labels"] = dict(write.labels)
        live["metadata"]["resourceVersion"] = str(next(self.versions))

    @staticmethod
    def _delete(objects: dict[str, Raw], name: str, uid: str) -> None:
        if objects[name]["metadata"]["uid"] != uid:
            raise RefusedError(f"{name}: another uid")
        del objects[name]

    # -- what a test asks -----------------------------------------------------------------------------

    def condition(self, kind: str) -> tuple[str, str]:
        """Status and reason of a condition of the model."""
        found = {item["type"]: item for item in (self.model or {})["status"].get("conditions", ())}
        return (found[kind]["status"], found[kind]["reason"])

    def message(self, kind: str = "Ready") -> str:
        """Message of a condition of the model."""
        found = {item["type"]: item for item in (self.model or {})["status"]["conditions"]}
        return str(found[kind]["message"])

    def rollout(self, number: int) -> Raw:
        """An EdgeRollout by its number."""
        return self.rollouts[f"{MODEL}-{number}"]

    def revision(self, number: int) -> str:
        """The revision of a rollout."""
        return str(self.rollout(number)["spec"]["revision"])


def raw(value: object) -> Any:
    """A struct as the API server would hold it: absent for None."""
    return _lean(msgspec.to_builtins(value))


def _lean(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _lean(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_lean(item) for item in value]
    return value


def changes(decision: ModelDecision) -> list[object]:
    """All that a decision changes but the model's own status."""
    found: list[object] = [*decision.create_rollouts, *decision.patch_rollouts, *decision.orders]
    found += [*decision.delete_orders, *decision.delete_rollouts]
    return found + ([decision.finalizer] if decision.finalizer is not Finalizer.LEAVE else [])


def shuffled(seen: ModelSeen, seed: int) -> ModelSeen:
    """The same things in another order."""
    dice = random.Random(seed)
    lists = {name: list(getattr(seen, name)) for name in ("rollouts", "orders", "sites")}
    for items in lists.values():
        dice.shuffle(items)
    return replace(seen, **{name: tuple(items) for name, items in lists.items()})


# -- sites ----------------------------------------------------------------------------------------------


@dataclass
class Site:
    """A site as the hub meets it: it fetches orders, works on them, and reports; also while it is cut off."""

    name: str
    hub: Hub
    bad: set[str] = field(default_factory=set)
    """Bundles that fail here."""
    blocked: bool = False
    linked: bool = True
    identity: Raw | None = None
    order: Raw | None = None
    active: Raw | None = None
    """The order whose revision serves."""
    previous: str = ""
    refused: list[Raw] = field(default_factory=list)
    progress: int = 0
    steps: int = 2
    """Steps of work a revision takes here."""

    def sync(self) -> None:
        """A beat, the report up, the order down; nothing without a link."""
        if not self.linked or self.name not in self.hub.sites:
            return
        self.hub.beat(self.name)
        live = self.hub.orders.get(self.name)
        if live is None:
            return
        live["status"] = self.report()
        head = live["metadata"]
        # a write of the status is a new resource version, and only a difference is written
        head["resourceVersion"] = str(next(self.hub.versions))
        identity = {"uid": head["uid"], "generation": head["generation"]}
        if identity != self.identity:
            before = self.order
            self.identity, self.order = identity, copy.deepcopy(live["spec"])
            same = before is not None and all(before[k] == self.order[k] for k in ("revision", "attempt"))
            self.progress = self.progress if same else 0
            live["status"] = self.report()

    def work(self) -> None:
        """One step, with or without a link."""
        order = self.order
        if order is None or order["state"] != "Run":
            if order is not None and order["state"] == "Remove":
                self.active, self.previous = None, ""
            return
        if self.blocked or self._settled() or self._behind():
            return
        self.progress += 1
        if self.progress < self.steps:
            return
        if order["bundle"] in self.bad:
            self._refuse(order)
        else:
            self.previous = self.active["revision"] if self.active else ""
            self.active = copy.deepcopy(order)
        self.progress = 0

    def report(self) -> Raw:
        """What it says now."""
        stage, reason = self._stage()
        ready = "True" if stage == "Serving" else "False"
        found: Raw = {
            "stage": stage,
            "reason": reason,
            "activeRevision": self.active["revision"] if self.active else "",
            "activeBundle": self.active["bundle"].rpartition("@")[2] if self.active else "",
            "previousRevision": self.previous,
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
            return ("Serving", "Serving")
        if self.blocked:
            return ("Blocked", "DiskFull")
        if self._behind():
            return ("Rejected", "HubBehind")
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
