"""One decision of the hub about one EdgeModel over a thousand to fifty thousand sites.

No cluster is needed: raw objects as an API server returns them are parsed by the operator's own door and decided by
its own function. Four states of a fleet that has served bundle 1 everywhere are timed: bundle 2 just `starting`
(its waves offer to everybody at once), the `middle` of its wave (half the sites done, a hundred at work), `settled`,
and the `rollback` that rewrites every order. `ms` is the median over all states that write little (settled, middle).
"""

import argparse
import gc
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from edgefleet.core import conditions, model_pass, names, parse, units
from edgefleet.core.decisions import ModelDecision, OrderWrite
from edgefleet.core.order import Stage
from edgefleet.core.seen import BundleCheck, ModelSeen, OrderObject, RolloutObject, SiteObject
from edgefleet.handlers.pen import to_raw

from bench import machine, show

Raw = dict[str, Any]

SIZES: Final = (1_000, 10_000, 50_000)
AT_WORK: Final = 100
START: Final = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
IMAGE: Final = "registry.example/edgepod@sha256:" + "e" * 64
NAMESPACE, MODEL = "vision", "digits"


def bundle(number: int) -> str:
    """A reference."""
    return "oci://registry.example/vision/digits@sha256:" + f"{number:x}".ljust(64, "0")


@dataclass
class Fleet:
    """One EdgeModel and its sites, as raw objects; sites answer when told to."""

    count: int
    number: int = 1
    now: datetime = START
    rollouts: dict[str, Raw] = field(default_factory=dict)
    orders: dict[str, Raw] = field(default_factory=dict)
    statuses: dict[str, Raw] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Sites that joined and beat, each a little later than the one before."""
        self.sites = {name: _site(name, place) for place in range(self.count) if (name := f"site-{place:05}")}
        self.agents = {name: _agent(name) for name in self.sites}
        self.model_status: Raw = {}

    # -- what the hub sees ----------------------------------------------------------------------------------
    def raw_sites(self) -> Iterable[tuple[Raw, Raw, Raw]]:
        """Site, Lease, EdgeAgent."""
        for place, (name, raw) in enumerate(self.sites.items()):
            yield raw, _lease(name, self.now - timedelta(seconds=place % 120)), self.agents[name]

    def parsed(self) -> tuple[tuple[SiteObject, ...], tuple[OrderObject, ...]]:
        """What the operator's caches hold."""
        sites = tuple(parse.site(*raws) for raws in self.raw_sites())
        return sites, tuple(parse.deployment(raw) for raw in self.orders.values())

    def seen(self) -> ModelSeen:
        """All a decision rests on."""
        sites, orders = self.parsed()
        rollouts = [parse.rollout(raw) for raw in self.rollouts.values()]
        return ModelSeen(
            namespace=NAMESPACE,
            name=MODEL,
            model=parse.model(self._model()),
            rollouts=tuple(item for item in rollouts if isinstance(item, RolloutObject)),
            orders=orders,
            sites=sites,
            bundle=BundleCheck(bundle=bundle(self.number), ok=True, version=self.number),
            pod_image=IMAGE,
            operator_started=START - timedelta(days=1),
        )

    def _model(self) -> Raw:
        wave = {"name": "all", "maxConcurrency": self.count, "maxFailures": "2%", "minSuccess": "90%"}
        spec = {
            "bundle": bundle(self.number),
            "placement": {"siteSelector": {"matchLabels": {"country": "de"}}},
            "rollout": {"waves": [{"name": "lab", "limit": 1, "maxFailures": 0}, wave]},
        }
        head = {
            "name": MODEL,
            "namespace": NAMESPACE,
            "uid": "m",
            "generation": self.number,
            "finalizers": [names.MODEL_FINALIZER],
        }
        return {"metadata": head, "spec": spec, "status": self.model_status}

    # -- what happens ---------------------------------------------------------------------------------------
    def look(self) -> ModelDecision:
        """One pass, carried out."""
        decision = model_pass.decide_model(self.seen(), self.now)
        for made in decision.create_rollouts:
            head = {"name": made.name, "namespace": NAMESPACE, "uid": made.name, "generation": 1}
            notes = {"labels": dict(made.labels), "annotations": dict(made.annotations)}
            self.rollouts[made.name] = {"metadata": head | notes, "spec": to_raw(made.spec), "status": {}}
        for patch in decision.patch_rollouts:
            live = self.rollouts[patch.name]
            live["status"] = to_raw(patch.status) if patch.status is not None else live["status"]
            live["metadata"]["annotations"] |= dict(patch.annotations or {})
        for write in decision.orders:
            self._write(write)
        if decision.status is not None:
            self.model_status = to_raw(decision.status)
        self.now += timedelta(seconds=5)
        return decision

    def _write(self, write: OrderWrite) -> None:
        before = self.orders.get(write.site)
        generation = before["metadata"]["generation"] + 1 if before else 1
        head = {
            "name": write.name,
            "namespace": names.site_namespace(write.site),
            "uid": f"order-{write.site}",
            "generation": generation,
            "resourceVersion": str(generation),
            "labels": dict(write.labels),
            "managedFields": [{"manager": names.AGENT_MANAGER, "time": units.timestamp(self.now)}],
        }
        status = before["status"] if before else {}
        self.orders[write.site] = {"metadata": head, "spec": to_raw(write.order), "status": status}

    def answer(self, stage: Stage = Stage.SERVING, sites: Iterable[str] | None = None) -> None:
        """Sites report on their orders."""
        for site in self.orders if sites is None else sites:
            self.orders[site]["status"] = _report(self.orders[site], stage, self.now)

    def settle(self, most: int = 20) -> None:
        """Passes and answers until the rollout is complete."""
        for _ in range(most):
            self.look()
            self.answer()
            ready = [c for c in self.model_status["conditions"] if c["type"] == conditions.READY]
            newest = self.model_status["rollout"] == f"{MODEL}-{self.number}"
            if newest and ready[0]["status"] == "True":
                return
        raise RuntimeError(f"not settled: {self.model_status['conditions']}")


def _site(name: str, place: int) -> Raw:
    labels = {
        "country": "de",
        "soc": f"soc-{place % 7}",
        "firmware": f"1.{place % 5}",
        "ring": str(place % 3),
    }
    head = {"name": name, "uid": f"uid-{name}", "generation": 1, "resourceVersion": "1", "labels": labels}
    status = {"observedGeneration": 1, "connectivity": "Online", "lastSeen": units.timestamp(START)}
    return {"metadata": head, "spec": {"autonomy": "168h"}, "status": status}


def _agent(site: str) -> Raw:
    head = {
        "name": names.AGENT,
        "namespace": names.site_namespace(site),
        "uid": f"agent-{site}",
        "generation": 1,
    }
    inventory = {"arch": "amd64", "cpuFeatures": ["avx2"], "cpus": 2, "memoryBytes": 2**31}
    status = {"observedGeneration": 1, "understands": [names.ORDER_VERSION], "inventory": inventory}
    return {"metadata": head, "spec": {"heartbeatInterval": "120s", "cordoned": False}, "status": status}


def _lease(site: str, heard: datetime) -> Raw:
    fields = [{"manager": names.AGENT_MANAGER, "time": units.timestamp(heard)}]
    head = {"name": names.LEASE, "namespace": names.site_namespace(site), "managedFields": fields}
    return {"metadata": head, "spec": {"renewTime": units.timestamp(heard)}}


def _report(raw: Raw, stage: Stage, now: datetime) -> Raw:
    """As an agent reports: what serves is the order's revision, or what served before."""
    order, head, before = raw["spec"], raw["metadata"], raw["status"]
    good = stage is Stage.SERVING
    said = {"type": "Ready", "status": "True" if good else "False", "reason": stage.value}
    report = {
        "order": {"uid": head["uid"], "generation": head["generation"]},
        "conditions": [{**said, "lastTransitionTime": units.timestamp(now)}],
        "stage": stage.value,
        "reason": stage.value,
        "activeRevision": order["revision"] if good else before.get("activeRevision", ""),
        "activeBundle": order["bundle"].rpartition("@")[2] if good else before.get("activeBundle", ""),
        "previousRevision": before.get("activeRevision", ""),
        "refused": list(before.get("refused", ())),
    }
    if stage is Stage.ROLLED_BACK:
        failed = {"revision": order["revision"], "attempt": order["attempt"], "reason": "GoldenDisagrees"}
        report["refused"].append({**failed, "message": "12 % agree", "time": units.timestamp(now)})
    return report


# -- the four states ----------------------------------------------------------------------------------------


def served(count: int) -> Fleet:
    """Bundle 1 serves at every site."""
    fleet = Fleet(count)
    fleet.settle()
    fleet.look()
    return fleet


def starting(fleet: Fleet) -> None:
    """Bundle 2 has its rollout, its first site is done, and everybody else is to be offered it."""
    fleet.number = 2
    for _ in range(2):
        fleet.look()
    fleet.answer()


def middle(fleet: Fleet) -> None:
    """Everybody has the order; half the sites serve, a hundred are at work, the others cannot be heard about it yet."""
    fleet.look()
    names_ = sorted(fleet.orders)
    fleet.answer(sites=names_[: fleet.count // 2])
    fleet.answer(Stage.CANARY, sites=names_[fleet.count // 2 : fleet.count // 2 + AT_WORK])
    fleet.look()


def settled(fleet: Fleet) -> None:
    """Bundle 2 serves everywhere."""
    fleet.settle()
    fleet.look()


def rollback(fleet: Fleet) -> None:
    """Bundle 3 fails at one site in twenty of its wave, the others serve it already."""
    fleet.number = 3
    for _ in range(2):
        fleet.look()
    fleet.answer()
    fleet.look()
    names_ = sorted(fleet.orders)
    fleet.answer(sites=names_)
    fleet.answer(Stage.ROLLED_BACK, sites=names_[1::20])


STATES: Final[dict[str, Callable[[Fleet], None]]] = {
    "starting": starting,
    "middle": middle,
    "settled": settled,
    "rollback": rollback,
}


# -- measuring ----------------------------------------------------------------------------------------------


def timed(do: Callable[[], object], times: int) -> tuple[float, float]:
    """Median milliseconds on the wall and of this thread's CPU."""
    wall, cpu = [], []
    for _ in range(times):
        gc.collect()
        began, worked = time.perf_counter(), time.thread_time()
        do()
        wall.append(time.perf_counter() - began)
        cpu.append(time.thread_time() - worked)
    return statistics.median(wall) * 1000, statistics.median(cpu) * 1000


def measure(count: int, times: int) -> dict[str, object]:
    """Every state once, at one size."""
    fleet = served(count)
    found: dict[str, object] = {}
    parse_ms: list[float] = []
    quiet: list[float] = []
    for name, reach in STATES.items():
        reach(fleet)
        parse_ms.append(timed(fleet.parsed, 1)[1])
        seen, now = fleet.seen(), fleet.now
        decision = model_pass.decide_model(seen, now)
        wall, cpu = timed(lambda seen=seen, now=now: model_pass.decide_model(seen, now), times)  # type: ignore[misc]
        found |= {
            f"{name}_ms": round(wall, 1),
            f"{name}_cpu_ms": round(cpu, 1),
            f"{name}_orders": len(decision.orders),
        }
        if name in ("middle", "settled"):
            quiet.append(wall)
    return {
        "sites": count,
        "ms": round(max(quiet), 1),
        "ms_per_1k": round(max(quiet) * 1000 / count, 2),
        "parse_ms": round(statistics.median(parse_ms), 1),
        **found,
    }


def main() -> None:
    """Measure every size, and say how the time grows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", default=list(SIZES))
    parser.add_argument("--times", type=int, default=7)
    options = parser.parse_args()
    show("machine", **machine())
    lines = [measure(size, options.times) for size in options.sizes]
    for line in lines:
        show("decide", **line)
    first, last = lines[0], lines[-1]
    if first is not last:
        growth = float(str(last["ms_per_1k"])) / float(str(first["ms_per_1k"]))
        show("decide-growth", sites=[first["sites"], last["sites"]], per_site=round(growth, 2))


if __name__ == "__main__":
    main()
