"""A hub's objects as the API server would hold them, for tests of its decisions: raw dicts, parsed by the real door.

`Hub` applies decisions write by write, as the operator does, and can be killed between two writes. It refuses what
an API server would refuse: a stale resource version, another uid, a name that is taken, a change of what is immutable.
"""

import copy
import functools
import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from edgefleet import schedule
from edgefleet.core import model_pass, names, parse, quarantine, units
from edgefleet.core.decisions import Finalizer, ModelDecision, OrderWrite, RolloutCreate, RolloutPatch
from edgefleet.core.seen import BundleCheck, ModelSeen, SiteObject, SpecError
from edgefleet.core.specs import SiteSpec
from edgefleet.core.statuses import VariantNeeds
from edgefleet.core.window import Windows

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


def agent_raw(
    understands: tuple[int, ...] = (names.ORDER_VERSION,), inventory: dict[str, Any] | None = None
) -> Raw:
    """An EdgeAgent whose policy is delivered."""
    return {
        "metadata": {"name": names.AGENT, "generation": 1},
        "spec": {"heartbeatInterval": "120s", "cordoned": False},
        "status": {
            "observedGeneration": 1,
            "understands": list(understands),
            **({"inventory": inventory} if inventory is not None else {}),
        },
    }


_problem = functools.cache(schedule.problem)
"""It asks the real clock for the next start; that is long, and the same for the clocks of tests."""


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
    needs: tuple[VariantNeeds, ...] = ()
    """What the variants of every bundle ask of a site."""
    crd_deleting: bool = False
    pod_image: str = IMAGE
    versions: Iterator[int] = field(default_factory=lambda: iter(range(1, 10**9)))

    # -- what people and sites do -------------------------------------------------------------------

    def join(
        self,
        name: str,
        labels: dict[str, str] | None = None,
        inventory: dict[str, Any] | None = None,
        **spec: Any,
    ) -> None:
        """Add a site that has joined and is heard."""
        self.sites[name] = site_raw(name, labels, **spec)
        self.sites[name]["status"]["publicKeySHA256"] = hashlib.sha256(name.encode()).hexdigest()
        self.agents[name] = agent_raw(inventory=inventory)
        self.beat(name)

    def give_windows(self, name: str, **windows: list[Raw]) -> None:
        """The policy of a site has windows, and its agent obeys them."""
        self.agents[name]["spec"]["windows"] = windows
        self.agents[name]["status"]["windows"] = {}

    def deliver(self, name: str) -> None:
        """The windows of a site go down as policy."""
        given = self.sites[name]["spec"].get("windows")
        policy = self.agents[name]["spec"]
        if given:
            policy["windows"] = copy.deepcopy(given)
        else:
            policy.pop("windows", None)

    def windows(self, policy: Raw) -> Windows:
        """What windows come to now."""
        return schedule.of_agent(parse.agent({**agent_raw(), "spec": {"windows": policy}}), self.now)

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

    def release(self, name: str) -> None:
        """A person releases a site from quarantine."""
        self.sites[name]["metadata"].setdefault("annotations", {})[names.RELEASE] = units.timestamp(self.now)

    # -- one pass of the operator over the fleet ------------------------------------------------------

    def set_aside(
        self, policy: quarantine.Policy | None = None, writes: int | None = None
    ) -> quarantine.Decision:
        """One pass over who is set aside, killed after so many writes."""
        rollouts = [item for raw in self.rollouts.values() if (item := parse.rollout(raw)) is not None]
        decision = quarantine.decide(
            [parse.site(raw) for raw in self.sites.values()],
            [quarantine.evidence(NAMESPACE, MODEL, rollouts)],
            policy or quarantine.Policy(),
            self.now,
        )
        changes_ = (*decision.releases, *decision.admissions)
        for change in changes_ if writes is None else changes_[:writes]:
            status = self.sites[change.site.meta.name]["status"]
            status |= {"quarantine": raw(change.quarantine), "releasedAt": change.released}
            self.sites[change.site.meta.name]["status"] = _lean(status)
        return decision

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
            sites=tuple(self._site(name, raw) for name, raw in self.sites.items()),
            bundle=self.check or self._found(),
            pod_image=self.pod_image,
            operator_started=self.started,
            crd_deleting=self.crd_deleting,
        )

    def _site(self, name: str, raw_: Raw) -> SiteObject:
        found = parse.site(raw_, self.leases.get(name), self.agents.get(name))
        wrong = _problem(found.spec.windows) if isinstance(found.spec, SiteSpec) else ""
        spec = SpecError(wrong) if wrong else found.spec
        return replace(found, spec=spec, windows=schedule.of_agent(found.agent, self.now))

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
            bundle=reference,
            ok=True,
            version=version_of(reference),
            variants=("int8", "fp32"),
            needs=self.needs,
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
