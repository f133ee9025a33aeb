"""Seconds from a canary's first bad answer to traffic that is served by the stable pods alone, for each kind of fault.

Runs on the first site of the clusters that `make demo` leaves, with an order given there by hand: the hub takes no part.
The models fail by themselves (demo/faulty.py). Both moments are seen inside the site, by bench/probe.py, in what the
serving pods say of themselves: the first answer that failed, was late, slow or different, and weight and shadow 0.
`failed` counts requests of the constant caller, 20 a second, without an answer.
"""

import argparse
import collections
import json
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import machine, show
from demo import bundles, faulty, local
from demo.by_hand import Order
from demo.cluster import Cluster, tool
from demo.fleet import MODELS, STATE, wait
from demo.story import MODEL as STORY_MODEL
from demo.story import NAMESPACE as STORY
from demo.traffic import NAMESPACE as CALLERS
from demo.traffic import POD, Traffic

NAMESPACE, MODEL = "bench", "rollback"
STABLE = "0000000000"
PATIENCE = 120.0
SLOW_MS = 80.0
PROBE = Path(__file__).with_name("probe.py")
SENT = {"steps": [{"weight": 20, "duration": "5m"}], "gates": {"maxErrorRate": "20%", "minRequests": 10}}
CANARIES: dict[str, dict[str, Any]] = {
    "errors": SENT,
    "latency": {
        "steps": [{"weight": 20, "duration": "5m"}],
        "gates": {"maxErrorRate": "50%", "maxP99": f"{SLOW_MS:.0f}ms", "minRequests": 10},
    },
    "agreement": {
        "steps": [{"shadow": 100, "duration": "5m"}],
        "gates": {"maxErrorRate": "50%", "minAgreement": "90%", "minRequests": 10},
    },
    "crash": SENT,
    "oom": SENT,
    "hang": SENT,
}


@dataclass
class Bench:
    """One site with a model of its own."""

    given: Order
    image: str
    traffic: Traffic

    @property
    def site(self) -> Cluster:
        """Where it serves."""
        return self.given.site

    def order(self, bundle: str, revision: str, attempt: int, canary: dict[str, Any], mode: str) -> None:
        """Give the order."""
        limits = {"limits": {"memory": "160Mi"}, "requests": {"cpu": "50m"}}
        self.given.give(
            mode=mode,
            revision=revision,
            attempt=attempt,
            bundle=bundle,
            image=self.image,
            serving={"resources": limits},
            canary={**canary, "progressDeadline": "3m"},
        )

    def stage(self, *stages: str) -> bool:
        """Whether the site has come to one of these stages, and its pods with it."""
        return self.given.report().get("stage") in stages

    def pods(self, revision: str) -> list[str]:
        """Addresses of a revision's pods."""
        return [str(pod["status"].get("podIP", "")) for pod in self.given.pods(revision)]

    def begin(self, bundle: str) -> None:
        """Serve the good bundle, and let the caller in."""
        self.order(bundle, STABLE, 1, {"steps": []}, "Direct")
        wait("the stable revision serves", PATIENCE, lambda: self.stage("Serving"))
        self.traffic.restart(bundles.FOLDER / "traffic.npz")
        name = self.site.name
        wait("the caller gets answers", PATIENCE, lambda: self.traffic.totals(name).sent > 20)

    def round(self, fault: str, bundle: str, revision: str, attempt: int) -> tuple[float, str]:
        """Roll a fault out once; seconds from the first bad answer to stable-only traffic, and the reason told."""
        probe = self._probe(SLOW_MS if fault == "latency" else 0.0)
        self.order(bundle, revision, attempt, CANARIES[fault], "Canary")
        try:
            said, _ = probe.communicate(timeout=PATIENCE + 30)
        finally:
            probe.kill()
        found = json.loads(said.splitlines()[-1])
        if "seconds" not in found:
            sys.exit(f"{fault}, attempt {attempt}: {found['error']}; the site says {self.given.report()}")
        wait("the site has gone back", PATIENCE, lambda: self.stage("RolledBack"))
        wait("the canary's pods are gone", PATIENCE, lambda: not self.pods(revision))
        return float(found["seconds"]), str(self.given.report()["reason"])

    def _probe(self, slow_ms: float) -> "subprocess.Popen[str]":
        arguments = ["exec", "-i", "-n", CALLERS, POD, "--", "python3", "-", f"{slow_ms}", f"{PATIENCE}"]
        with PROBE.open() as script:
            return subprocess.Popen(
                [*tool("kubectl"), *arguments, *self.pods(STABLE)],
                stdin=script,
                stdout=subprocess.PIPE,
                text=True,
                env=self.site.environment(),
            )

    def end(self) -> None:
        """Take the model away again."""
        self.given.remove()
        wait("the bench's model is removed", PATIENCE, lambda: self.stage("Removed"))
        self.given.forget()


def main() -> None:
    """Measure all faults, or those that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--fault", action="append", choices=sorted(CANARIES))
    options = parser.parse_args()
    fleet = local.attach()
    name, site = next(iter(fleet.sites.items()))
    service = f"{NAMESPACE}-{MODEL}.{MODELS}.svc"
    traffic = Traffic({name: site}, fleet.images.edgepod, service, MODEL)
    bench = Bench(Order(site, NAMESPACE, MODEL, "bench"), fleet.images.edgepod, traffic)
    show("machine", **machine())
    models = STATE / "faulty"
    bundles.train()
    faulty.write(models)

    def build(what: str, model: Path | None = None) -> str:
        version = bundles.next_version()
        return bundles.build(what, version, fleet.keys / "demo.key", fleet.registry, model=model).reference

    bench.begin(build("v2"))
    for number, fault in enumerate(options.fault or CANARIES, 1):
        bundle = build(fault, models / f"{fault}.onnx")
        failed = traffic.totals(name).failed
        rounds = [
            bench.round(fault, bundle, f"{number:010x}", attempt) for attempt in range(1, options.times + 1)
        ]
        time.sleep(2)  # callers report twice a second
        seconds = [spent for spent, _ in rounds]
        line = {
            "bench": "rollback",
            "fault": fault,
            "median_s": round(statistics.median(seconds), 2),
            "worst_s": round(max(seconds), 2),
            "failed": traffic.totals(name).failed - failed,
            "times": options.times,
            "reasons": dict(collections.Counter(reason for _, reason in rounds)),
        }
        print(json.dumps(line), flush=True)
    bench.end()
    story = f"{STORY}-{STORY_MODEL}.{MODELS}.svc"
    Traffic({name: site}, fleet.images.edgepod, story, STORY_MODEL).restart(bundles.FOLDER / "traffic.npz")


if __name__ == "__main__":
    main()
