"""What `bench/fleet.py` measures, phase by phase."""

import asyncio
import contextlib
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from edgefleet.core import names
from edgefleet.kube import errors, kinds
from edgefleet.kube.client import Object
from support import cluster

from bench import gauges, linkcost
from bench.fleet_lab import Lab
from bench.lines import Lines, Traffic
from bench.simulator import context, hub_of, site_name

NAMESPACE, MODEL = "vision", "digits"
CALM: Final = 1.5
"""Seconds without work that prove that there is none."""
DAY: Final = 86_400.0
# A rollout to everybody in waves, offered as fast as the hub can.
WAVES: Final[list[Object]] = [
    {"name": "lab", "limit": "1%", "maxConcurrency": 10000},
    {"name": "early", "limit": "10%", "maxConcurrency": 10000},
    {"name": "rest", "maxConcurrency": 10000},
]


@dataclass(frozen=True)
class _Look:
    """All counters at one moment."""

    at: float
    usages: dict[str, gauges.Usage]
    told: dict[str, Any]
    api: gauges.Samples
    operator: gauges.Samples


@dataclass(kw_only=True)
class Bench(Lab):
    """What is measured, step by step."""

    async def online(self) -> None:
        """Wait until the hub calls every site Online."""

        async def all_online() -> bool:
            found = gauges.total(self.operator_page(), "edgefleet_sites", connectivity="Online")
            self.progress["online"] = int(found)
            return bool(found >= self.options.sites)

        seconds = await self.until(all_online, "every site is Online")
        self.figures["online_s"] = seconds
        self.note("online", seconds=seconds)

    async def idle(self, name: str) -> None:
        """Measure a fleet in which nothing happens but beats."""
        assert self.sites is not None
        await self._calm()
        before, told, page = self.usages(), self.sites.told(), await self.api_page()
        await asyncio.sleep(self.options.idle)
        after, then, page2 = self.usages(), self.sites.told(), await self.api_page()
        seconds = after["operator"].at - before["operator"].at
        sites = self.options.sites
        per_day = (then["bytes"] - told["bytes"]) / sites * DAY / seconds
        writes = gauges.total(page2, "apiserver_request_total") - gauges.total(
            page, "apiserver_request_total"
        )
        self.figures |= {
            f"{program}_cores_{name}": after[program].cores(before[program]) for program in after
        } | {f"{program}_mib_{name}": after[program].mib for program in after}
        self.figures |= {
            f"link_mb_day_{name}": round(per_day / 1e6, 3),
            f"beats_s_{name}": round((then["beats"] - told["beats"]) / seconds, 2),
            f"api_requests_s_{name}": round(writes / seconds, 1),
            f"load_{name}": gauges.load(),
        }
        self.note(f"idle {name}", **{k: v for k, v in self.figures.items() if k.endswith(f"_{name}")})

    async def _calm(self) -> None:
        """Wait until the operator has nothing to do."""
        quiet = 0

        async def nothing_due() -> bool:
            nonlocal quiet
            quiet = quiet + 1 if gauges.total(self.operator_page(), "edgefleet_queue_depth") <= 3 else 0
            return quiet >= 4

        await self.until(nothing_due, "the operator is calm")

    async def roll_out(self, name: str, bundle: str) -> None:
        """Give the model a bundle and follow it to every site; counts what was seen also when that does not end."""
        before = await self._look()
        suffix = "" if name == "first" else f"_{name}"

        async def done() -> bool:
            raw = await self.api.get(kinds.EDGE_MODEL, NAMESPACE, MODEL)
            ready = cluster.condition(raw, "Ready")
            fresh = ready.get("observedGeneration") == raw["metadata"]["generation"]
            return bool(fresh and ready.get("status") == "True")

        try:
            await self._apply(bundle)
            await self.until(done, f"{name} is everywhere")
            ended = time.monotonic()
            self.figures[f"done_s{suffix}"] = round(ended - before.at, 1)
        finally:
            await asyncio.sleep(2.5)  # the last line of each simulator
            self._count_rollout(suffix, before, await self._look())
        self.note(f"rolled out {name}", **{k: v for k, v in self.figures.items() if k.endswith(suffix)})

    async def _look(self) -> "_Look":
        assert self.sites is not None
        api: gauges.Samples = []
        with contextlib.suppress(OSError):  # it may be what ended
            api = await self.api_page()
        return _Look(time.monotonic(), self.usages(), self.sites.told(), api, self.operator_page())

    def _count_rollout(self, suffix: str, before: "_Look", after: "_Look") -> None:
        sites, told, then = self.options.sites, before.told, after.told
        asked = sum(then["requests"].values()) - sum(told["requests"].values())
        self.progress |= {key: then[key] - told[key] for key in ("orders", "reports")}
        if f"done_s{suffix}" in self.figures:
            self.figures |= {
                f"offer_s{suffix}": round(then["last_ordered"] - before.at, 1),
                f"served_s{suffix}": round(then["last_served"] - before.at, 1),
            }
        self.figures |= {
            f"requests_per_site{suffix}": round(asked / sites, 2),
            f"bytes_per_site{suffix}": round((then["bytes"] - told["bytes"]) / sites),
            f"passes_site{suffix}": int(_passes(after.operator, "site") - _passes(before.operator, "site")),
            f"passes_model{suffix}": int(
                _passes(after.operator, "model") - _passes(before.operator, "model")
            ),
            f"model_pass_s{suffix}": round(
                _seconds(after.operator, "model") - _seconds(before.operator, "model"), 1
            ),
            f"refused{suffix}": then["refused"],
            f"load{suffix or '_first'}": gauges.load(),
        } | {
            f"{program}_cores_rolling{suffix}": used.cores(before.usages[program])
            for program, used in after.usages.items()
            if program in before.usages
        }
        if before.api and after.api:
            everything = gauges.total(after.api, "apiserver_request_total") - gauges.total(
                before.api, "apiserver_request_total"
            )
            self.figures[f"hub_requests_per_site{suffix}"] = round((everything - asked) / sites, 2)

    async def _apply(self, bundle: str) -> None:
        canary = {"steps": [{"shadow": 100, "duration": "1s"}]}
        spec = {
            "bundle": bundle,
            "placement": {"siteSelector": {}},
            "canary": canary,
            "rollout": {"waves": WAVES},
        }
        try:
            await self.api.create(
                kinds.EDGE_MODEL,
                NAMESPACE,
                {"metadata": {"name": MODEL, "namespace": NAMESPACE}, "spec": spec},
            )
        except errors.AlreadyExists:
            await self.api.merge_patch(kinds.EDGE_MODEL, NAMESPACE, MODEL, {"spec": {"bundle": bundle}})

    async def link(self, joined: Path) -> None:
        """Weigh what a quiet site does, by one of those that joined by token; its simulator goes on meanwhile."""
        if not self.options.join or not self.options.rollouts:
            return
        site = site_name(0)
        host, port, authority = hub_of(self.kubeconfig)
        tls = context(authority, (joined / f"{site}.pem").read_bytes(), self.folder / "weighed.tmp")
        lines = Lines(host, port, tls, Traffic())
        cost = await linkcost.measure(site, lines, names.order_name(NAMESPACE, MODEL))
        lines.close()
        self.figures |= {f"link_{name}": value for name, value in asdict(cost).items()}
        self.figures["link_mb_day"] = round(cost.day(kept=False) / 1e6, 2)
        self.figures["link_mb_day_kept"] = round(cost.day(kept=True) / 1e6, 2)

    async def restart(self) -> None:
        """Kill the operator and see how long the new one takes until it has nothing left to do."""
        self.operator.kill()
        began = time.monotonic()
        self.operator.start()
        self.figures["restart_ready_s"] = await self.until(self.ready, "the operator is ready", every=0.1)
        await self._calm()
        steady = time.monotonic() - began - CALM  # which it was by then
        self.figures["restart_steady_s"] = round(max(steady, self.figures["restart_ready_s"]), 1)
        self.note("restarted", seconds=self.figures["restart_steady_s"])

    def beats(self) -> None:
        """What sites say of their beats, and what went wrong for them."""
        assert self.sites is not None
        told = self.sites.told()
        self.figures |= {key: told[key] for key in ("beat_p50", "beat_p99", "connections", "trouble")}
        for name, seen in self.usages().items():
            self.figures |= {f"{name}_mib": seen.mib, f"{name}_peak_mib": seen.peak_mib}


def _passes(page: gauges.Samples, queue: str) -> float:
    return gauges.total(page, "edgefleet_passes_total", queue=queue)


def _seconds(page: gauges.Samples, queue: str) -> float:
    return gauges.total(page, "edgefleet_pass_seconds_sum", queue=queue)
