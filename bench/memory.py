"""Resident memory of operator, agent and one serving pod, idle and under the demo's traffic.

Runs on the clusters that `make demo` leaves. Idle: callers ended and half a minute passed.
"""

import time
from dataclasses import asdict

from bench import machine, show
from demo import bundles, local
from demo.__main__ import callers
from demo.story import MODEL, NAMESPACE
from demo.traffic import NAMESPACE as CALLERS
from demo.traffic import POD

REST = 30.0
"""Seconds."""


def main() -> None:
    """Measure working, then idle, then let the callers in again."""
    fleet = local.attach()
    traffic = callers(fleet)
    show("machine", **machine())
    show("memory", state="working", unit="MiB", **asdict(fleet.memory(NAMESPACE, MODEL)))
    for site in fleet.sites.values():
        site.kubectl("delete", "pod", POD, "-n", CALLERS, "--ignore-not-found", "--grace-period=1")
    time.sleep(REST)
    show("memory", state="idle", unit="MiB", **asdict(fleet.memory(NAMESPACE, MODEL)))
    traffic.start(bundles.train() / "traffic.npz")


if __name__ == "__main__":
    main()
