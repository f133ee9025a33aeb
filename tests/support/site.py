"""A site in memory: an API server that keeps objects, a kubelet that starts pods, and callers, all by a hand clock.

The decisions of the local pass run against it unchanged; raw objects go through the same reading as real ones.
Real pods are the matter of tests/e2e.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from edgefleet.core import local_observe, names, rendering
from edgefleet.core.canary import LEASE_FRESH
from edgefleet.core.local import (
    Create,
    Delete,
    Fetch,
    FetchFailed,
    Fetching,
    FetchPaused,
    LocalDecision,
    LocalSeen,
    Patch,
    Progress,
    Remember,
    StartFetch,
    StopFetch,
    Trouble,
    Wait,
)
from edgefleet.core.local_record import Output, Record, Staged
from edgefleet.core.order import (
    Canary,
    Cause,
    Download,
    Gates,
    Mode,
    ModelRef,
    OnNoTraffic,
    Order,
    OrderIdentity,
    Report,
    Serving,
    State,
    Step,
    Surge,
)
from edgefleet.core.site_pass import decide_local
from edgefleet.core.window import NO_WINDOWS
from edgepod.contract import CanaryCounters, Counters, HealthDocument, SelfTestReport, TrafficLease

START = datetime(2026, 1, 1, tzinfo=UTC)
NEVER = float("inf")
NO_ROOM = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/1 nodes are available: 1 Insufficient memory.",
}
STEPS = (Step(shadow=100, duration="5s"), Step(weight=10, duration="5s"), Step(weight=50, duration="5s"))


def digest(text: str) -> str:
    return "sha256:" + (text.encode().hex() + "0" * 64)[:64]


def order(revision: str, version: int = 1, **fields: Any) -> Order:
    """An order of model team/digits for a revision named by a letter or two."""
    gates = fields.pop("gates", Gates(min_requests=20))
    settings: dict[str, Any] = {
        "order_version": 1,
        "state": State.RUN,
        "mode": Mode.CANARY,
        "model": ModelRef(namespace="team", name="digits"),
        "revision": revision,
        "attempt": 1,
        "bundle": f"oci://registry:5000/digits@{digest(f'{revision}{version}')}",
        "variants": ("int8",),
        "image": "edgepod:1",
        "serving": Serving(replicas=fields.pop("replicas", 1)),
        "canary": Canary(
            steps=fields.pop("steps", STEPS),
            gates=gates,
            on_no_traffic=fields.pop("on_no_traffic", OnNoTraffic.GOLDEN),
            surge=fields.pop("surge", Surge.REQUIRED),
        ),
        "rollout": "digits-1",
        "wave": "rest",
        "offered_at": "2026-01-01T00:00:00Z",
    }
    return Order(**{**settings, **fields})


@dataclass
class Behaviour:
    """What a revision is like."""

    version: int = 1
    name: str = "digits"
    fetch: Trouble | None = None
    selftest: SelfTestReport = field(default_factory=lambda: SelfTestReport(passed=True, agreement=1.0))
    selftest_exit: int | None = None
    selftest_pod: bool = True
    start: str = "ready"
    """`ready`, `crash`, `never`, `noimage`, `nomemory`, `nostore`, `oom`; no pod made: `quota`, `nopod`; none started: `nokubelet`."""
    errors: float = 0.0
    """Share of canary requests that fail."""
    fades: bool = False
    """It is ready until callers are led to it."""
    disagreement: float = 0.0
    latency_ms: float = 2.0
    dropped: bool = False
    outputs: tuple[Output, ...] = ()


@dataclass
class Pod:
    name: str
    uid: str
    revision: str
    started: float
    """When it found its place; never: it waits for one."""
    restarts: int = 0
    start_id: str = ""
    end: dict[str, Any] | None = None
    health_readable: bool = True
    unready: bool = False
    canary: CanaryCounters | None = None
    seen: float = 0.0


class Site:
    """One site, one model, one agent that may crash at any moment."""

    START_SECONDS = 1.0

    def __init__(self, *, rate: float = 20.0) -> None:
        self.now = 1000.0
        self.rate = rate
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.pods: dict[str, Pod] = {}
        self.terminating: dict[str, float] = {}
        self.behaviours: dict[str, Behaviour] = {}
        self.record = Record()
        self.fetch: Fetch = None
        self.fetched_at = 0.0
        self.progress = Progress(run="r0")
        self.reported: Report | None = None
        self.leases: dict[str, TrafficLease] = {}
        self.leased_at = 0.0
        self.unreadable = ""
        self.hub_silent: float | None = 0.0
        self.taken = ""
        self.jurisdiction = ""
        self.windows = NO_WINDOWS
        self.cordoned = False
        self.bandwidth = ""
        self.clock_off = timedelta(0)
        """How far somebody has set the site's clock."""
        self.downloading: float | None = None
        """Seconds a download takes; None: it is done at once."""
        self.room: int | None = None
        """How many pods the node has memory for, self-tests and those that are ending included; None: enough."""
        self.unserved = 0.0
        """Seconds in which the Service selected a revision that had no ready pod, once it had had one."""
        self.served_once = False
        self.stale_slices: dict[str, list[dict[str, Any]]] = {}
        """By Service: what its EndpointSlices still say, while their controller is behind."""
        self.runs = 0
        self.log: list[str] = []
        self.stages: list[str] = []
        self._ids = itertools.count(1)

    # -- the hub ---------------------------------------------------------------------------------------
    def give(self, wanted: Order, behaviour: Behaviour | None = None) -> None:
        """The link brings an order: journal first."""
        if behaviour is not None:
            self.behaviours[wanted.revision] = behaviour
        number = (self.record.identity.generation if self.record.identity else 0) + 1
        self.record = msgspec.structs.replace(
            self.record,
            spec=msgspec.to_builtins(wanted),
            identity=OrderIdentity(uid="u1", generation=number),
            finished="",
        )
        self.unreadable = ""
        self.fetch = None

    @property
    def order(self) -> Order | None:
        return msgspec.convert(self.record.spec, Order) if self.record.spec and not self.unreadable else None

    # -- the agent --------------------------------------------------------------------------------------
    def see(self) -> LocalSeen:
        ns, model = "team", "digits"
        services = {
            name: local_observe.service(item, ns, model)
            for (kind, name), item in self.objects.items()
            if kind == "Service"
        }
        pods = [local_observe.pod(self._raw_pod(pod)) for pod in self.pods.values()]
        jobs = [item for (kind, _), item in self.objects.items() if kind == "Job"]
        return LocalSeen(
            namespace=ns,
            model=model,
            record=self.record,
            order=self.order,
            unreadable=self.unreadable,
            service=services.get("team-digits"),
            canary_service=services.get("team-digits-canary"),
            deployments=tuple(
                local_observe.deployment(self._with_status(item))
                for (kind, _), item in sorted(self.objects.items())
                if kind == "Deployment"
            ),
            pods=tuple(replace(pod, health=self._health(pod.name)) for pod in pods if pod is not None),
            jobs=tuple(local_observe.job(item, self._job_pods(item)) for item in jobs),
            endpoints=local_observe.endpoints(self._slices("team-digits")),
            canary_endpoints=local_observe.endpoints(self._slices("team-digits-canary")),
            taken=self.taken,
            jurisdiction=self.jurisdiction,
            fetch=self._fetch_state(),
            hub_silent=self.hub_silent,
            windows=self.windows,
            cordoned=self.cordoned,
            bandwidth=self.bandwidth,
            progress=self.progress,
            reported=self.reported,
        )

    def decide(self) -> LocalDecision:
        return decide_local(self.see(), self.now, self.moment)

    @property
    def moment(self) -> datetime:
        """What the site's clock shows."""
        return START + timedelta(seconds=self.now) + self.clock_off

    def step(self) -> LocalDecision:
        """One pass: decide, act, remember what the decision says."""
        decision = self.decide()
        self.progress = decision.progress
        self.reported = decision.report
        self.leases, self.leased_at = dict(decision.leases), self.now
        told = f"{decision.report.stage.value}/{decision.report.reason}"
        if not self.stages or self.stages[-1] != told:
            self.stages.append(told)
        if not isinstance(decision.action, Wait):
            self.log.append(decision.why)
        self.apply(decision)
        return decision

    def apply(self, decision: LocalDecision) -> None:
        match decision.action:
            case Wait():
                pass
            case StartFetch():
                self._start_fetch()
            case StopFetch():
                assert isinstance(self.fetch, Fetching)
                self.fetch = FetchPaused(self.fetch.download)
            case Create(kind, manifest):
                name = manifest["metadata"]["name"]
                assert (kind, name) not in self.objects, f"{kind} {name} is there already"
                self.objects[kind, name] = self._stored(kind, manifest)
            case Patch(kind, name, body):
                _merge(self.objects[kind, name], body)
            case Delete(kind, name, uid):
                assert self.objects[kind, name]["metadata"]["uid"] == uid
                del self.objects[kind, name]
            case Remember(record):
                self.record = record
        self._controllers()

    def crash(self) -> None:
        """The agent dies: what it knew only in memory is gone, leases end by themselves."""
        self.runs += 1
        self.progress = Progress(run=f"r{self.runs}")
        self.fetch = None
        self.reported = None
        self.leases = {}

    def run(self, *, until: Callable[[], bool] | None = None, seconds: float = 600.0) -> LocalDecision:
        """Pass after pass until `until` holds or nothing changes any more."""
        end = self.now + seconds
        while True:
            decision = self.step()
            if until is not None and until():
                return decision
            if until is None and isinstance(decision.action, Wait) and decision.requeue_after >= 15.0:
                return decision
            assert self.now < end, f"not done after {seconds} s: {self.stages[-8:]} {self.log[-8:]}"
            self.advance(max(0.05, min(decision.requeue_after, 1.0)))

    # -- the cluster -------------------------------------------------------------------------------------
    def watch(self, seconds: float) -> None:
        """Let time pass, with a pass every ten seconds."""
        for _ in range(int(seconds // 10)):
            self.step()
            self.advance(10.0)

    def advance(self, seconds: float) -> None:
        self.now += seconds
        for name, until in list(self.terminating.items()):
            if until <= self.now:
                del self.terminating[name], self.pods[name]
        self._controllers()
        self._traffic(seconds)
        self.served_once = self.served_once or bool(self.ready(self.selected))
        if self.served_once and not self.ready(self.selected):
            self.unserved += seconds

    @property
    def selected(self) -> str:
        found = self.objects.get(("Service", "team-digits"))
        return found["spec"]["selector"][names.REVISION] if found else ""

    def ready(self, revision: str) -> list[Pod]:
        return [pod for pod in self.live(revision) if self._is_ready(pod)]

    def live(self, revision: str) -> list[Pod]:
        return [p for p in self.pods.values() if p.revision == revision and p.name not in self.terminating]

    def kill_pod(self, revision: str) -> None:
        """A container is ended from outside and started again."""
        pod = self.live(revision)[0]
        pod.restarts += 1
        pod.started, pod.canary, pod.seen = self.now, None, 0.0
        pod.end = {"exitCode": 137, "reason": "Error"}
        pod.start_id = f"s{next(self._ids)}"

    def freeze_endpoints(self) -> None:
        """The controller of EndpointSlices falls behind."""
        self.stale_slices["team-digits"] = self._slices("team-digits")

    def thaw_endpoints(self) -> None:
        """It has caught up."""
        self.stale_slices.clear()

    def delete_pod(self, revision: str) -> None:
        self.terminating[self.live(revision)[0].name] = self.now + 2
        self._controllers()

    def _stored(self, kind: str, manifest: dict[str, Any]) -> dict[str, Any]:
        item: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(manifest))
        item["metadata"]["uid"] = f"uid-{next(self._ids)}"
        item["created"] = NEVER if kind == "Job" else self.now
        if kind == "Service":
            item["spec"]["clusterIP"] = f"10.0.0.{len(self.objects) + 1}"
        return item

    def _controllers(self) -> None:
        wanted: dict[str, int] = {}
        for (kind, _), item in self.objects.items():
            if kind == "Deployment":
                wanted[item["metadata"]["labels"][names.REVISION]] = item["spec"]["replicas"]
        for revision in {pod.revision for pod in self.pods.values()} | set(wanted):
            if self.behaviours[revision].start in ("quota", "nopod"):
                continue
            alive = self.live(revision)
            for _ in range(wanted.get(revision, 0) - len(alive)):
                number = next(self._ids)
                name = f"team-digits-{revision}-{number}"
                self.pods[name] = Pod(name, f"pod-{number}", revision, NEVER, start_id=f"s{number}")
            for pod in alive[wanted.get(revision, 0) :]:
                self.terminating[pod.name] = self.now + 3
        self._schedule()

    def _schedule(self) -> None:
        """Give places to who waits for one, in the order of their coming."""
        waiting: list[tuple[float, Pod | dict[str, Any]]] = [
            (int(pod.uid.rpartition("-")[2]), pod) for pod in self.pods.values() if pod.started == NEVER
        ]
        jobs = [item for (kind, _), item in self.objects.items() if kind == "Job"]
        waiting += [(int(job["metadata"]["uid"][4:]), job) for job in jobs if job["created"] == NEVER]
        for _, newcomer in sorted(waiting, key=lambda each: each[0]):
            taken = sum(pod.started != NEVER for pod in self.pods.values())
            taken += sum(job["created"] != NEVER and self.now < job["created"] + 2.0 for job in jobs)
            if self.room is not None and taken >= self.room:
                return
            if isinstance(newcomer, Pod):
                newcomer.started = self.now
            else:
                newcomer["created"] = self.now

    def _with_status(self, item: dict[str, Any]) -> dict[str, Any]:
        failed = self.behaviours[item["metadata"]["labels"][names.REVISION]].start == "quota"
        told = {
            "type": "ReplicaFailure",
            "status": "True",
            "reason": "FailedCreate",
            "message": "exceeded quota",
        }
        return {**item, "status": {"conditions": [told] if failed else []}}

    def _is_ready(self, pod: Pod) -> bool:
        like = self.behaviours[pod.revision]
        gone = pod.unready or (like.fades and self.selected == pod.revision)
        return like.start == "ready" and not gone and self.now >= pod.started + self.START_SECONDS

    def _raw_pod(self, pod: Pod) -> dict[str, Any]:
        ready = self._is_ready(pod)
        if pod.started == NEVER:
            return {"metadata": self._pod_meta(pod), "status": {"conditions": [NO_ROOM]}}
        container: dict[str, Any] = {"restartCount": pod.restarts, "state": {"running": {}}}
        conditions = [{"type": "Ready", "status": str(ready)}]
        if pod.end is not None:
            container["lastState"] = {"terminated": pod.end}
        match self.behaviours[pod.revision].start:
            case "crash":
                container |= {
                    "restartCount": 2,
                    "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                    "lastState": {"terminated": {"exitCode": 1, "message": "cannot load"}},
                }
            case "oom":
                container |= {"lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}
            case "noimage":
                container |= {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}}
            case "nostore":
                container |= {"lastState": {"terminated": {"exitCode": 2, "message": "no store"}}}
            case "nomemory":
                conditions.append(NO_ROOM)
        statuses = [] if self.behaviours[pod.revision].start == "nokubelet" else [container]
        limits = {"limits": {"memory": "128Mi"}}
        return {
            "metadata": self._pod_meta(pod),
            "spec": {"containers": [{"resources": limits}]},
            "status": {"conditions": conditions, "containerStatuses": statuses},
        }

    def _pod_meta(self, pod: Pod) -> dict[str, Any]:
        meta: dict[str, Any] = {
            "name": pod.name,
            "uid": pod.uid,
            "labels": {names.REVISION: pod.revision, names.MODEL: "team.digits"},
        }
        if pod.name in self.terminating:
            meta["deletionTimestamp"] = "now"
        return meta

    def _job_pods(self, item: dict[str, Any]) -> Iterator[dict[str, Any]]:
        behaviour = self.behaviours[item["metadata"]["labels"][rendering.SELFTEST]]
        if item["created"] == NEVER:
            yield {"metadata": {"name": "p"}, "status": {"conditions": [NO_ROOM]}}
            return
        if self.now < item["created"] + 0.5 or not behaviour.selftest_pod:
            return
        state: dict[str, Any] = {"running": {}}
        if self.now >= item["created"] + 2.0:
            report = behaviour.selftest
            code = behaviour.selftest_exit
            state = {
                "terminated": {
                    "exitCode": (0 if report.passed else 1) if code is None else code,
                    "message": report.to_json().decode(),
                }
            }
        yield {"metadata": {"name": "p"}, "status": {"containerStatuses": [{"state": state}]}}

    def _slices(self, service: str) -> list[dict[str, Any]]:
        if service in self.stale_slices:
            return self.stale_slices[service]
        found = self.objects.get(("Service", service))
        if found is None:
            return []
        revision = found["spec"]["selector"].get(names.REVISION)
        return [
            {
                "endpoints": [
                    {
                        "targetRef": {"name": pod.name},
                        "conditions": {"ready": self._is_ready(pod) and pod.name not in self.terminating},
                    }
                    for pod in self.pods.values()
                    if pod.revision == revision
                ]
            }
        ]

    # -- bundles and callers -------------------------------------------------------------------------------
    def _start_fetch(self) -> None:
        assert self.order is not None
        trouble = self.behaviours[self.order.revision].fetch
        if trouble is not None:
            tries = self.fetch.tries + 1 if isinstance(self.fetch, FetchFailed) else 1
            self.fetch = FetchFailed(trouble, at=self.now, tries=tries)
        elif self.downloading is not None:
            self.fetched_at = self.now + self.downloading
            self.fetch = Fetching(Download(done=1, total=2))
        else:
            self.fetch = self._staged(self.order)

    def _fetch_state(self) -> Fetch:
        found = self.order
        if found is None:
            return None
        if isinstance(self.fetch, Fetching) and self.now >= self.fetched_at:
            self.fetch = self._staged(found)
        return self.record.staged_for(found.revision) or self.fetch

    def _staged(self, wanted: Order) -> Staged:
        behaviour = self.behaviours[wanted.revision]
        return Staged(
            revision=wanted.revision,
            bundle=wanted.bundle.split("@")[1],
            name=behaviour.name,
            version=behaviour.version,
            variant="int8",
            serving=digest("serving" + wanted.revision),
            blobs=(),
            outputs=behaviour.outputs,
        )

    def _traffic(self, seconds: float) -> None:
        lease = next(iter(self.leases.values()), None)
        if self.now - self.leased_at >= LEASE_FRESH:
            lease = None
        if lease is None:  # a pod that hears of no canary forgets what it counted
            for pod in self.pods.values():
                pod.canary = None
        for pod in self.ready(self.selected):
            pod.seen += self.rate * seconds
            if lease is None:
                continue
            if pod.canary is None or pod.canary.step != lease.step:
                pod.canary = CanaryCounters(step=lease.step)
            target = self.objects.get(("Service", "team-digits-canary"))
            revision = target["spec"]["selector"][names.REVISION] if target else ""
            pod.canary = _counted(
                pod.canary, lease, self.behaviours.get(revision, Behaviour()), self.rate * seconds
            )

    def _health(self, name: str) -> HealthDocument | None:
        pod = self.pods[name]
        if not self._is_ready(pod) or not pod.health_readable:
            return None
        return HealthDocument(
            start_id=pod.start_id,
            revision=pod.revision,
            ready=True,
            served=Counters(requests=int(pod.seen)),
            canary=pod.canary,
        )


def _counted(
    before: CanaryCounters, lease: TrafficLease, behaviour: Behaviour, requests: float
) -> CanaryCounters:
    """What a serving pod has counted after so many more requests of its callers."""
    sent, shadowed = (
        _more(side, behaviour, round(requests * share / 100 + 0.4999) if share else 0)
        for side, share in ((before.sent, lease.weight), (before.shadowed, lease.shadow))
    )
    different = int(shadowed.requests * behaviour.disagreement)
    return CanaryCounters(
        step=lease.step,
        sent=sent,
        shadowed=shadowed,
        agreed=shadowed.requests - different,
        disagreed=different,
        dropped=before.dropped or behaviour.dropped,
    )


def _more(before: Counters, behaviour: Behaviour, requests: int) -> Counters:
    total = before.requests + requests
    latency = [0] * 59
    latency[local_bucket(behaviour.latency_ms)] = total
    return Counters(requests=total, errors=int(total * behaviour.errors), latency=tuple(latency))


def local_bucket(latency_ms: float) -> int:
    from edgepod.contract import bucket

    return bucket(latency_ms)


def environment(reason: str) -> Trouble:
    return Trouble(Cause.ENVIRONMENT, reason, "it may pass")


def _merge(item: dict[str, Any], body: dict[str, Any]) -> None:
    for key, value in body.items():
        if isinstance(value, dict):
            _merge(item.setdefault(key, {}), value)
        else:
            item[key] = value
