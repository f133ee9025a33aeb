"""Counters in Prometheus' form, read when scraped: counting itself costs a request nothing more."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from edgepod.contract import LATENCY_BOUNDS_MS, CanaryCounters
from edgepod.counting import Tally
from edgepod.dataplane import Plane
from edgepod.splitter import Splitter

_EVERY: int = 4
"""Every fourth bucket of the contract: 15 series are enough for a dashboard."""


def render(plane: Plane, canary: Splitter | None) -> tuple[bytes, str]:
    """The text of a scrape and its content type."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(plane, canary))
    return generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4


class _Collector:
    def __init__(self, plane: Plane, canary: Splitter | None) -> None:
        self._plane, self._canary = plane, canary

    def collect(self) -> Iterator[Metric]:
        plane = self._plane
        served = plane.served
        yield GaugeMetricFamily("edgepod_ready", "1 when the pod wants traffic", plane.ready)
        results = CounterMetricFamily("edgepod_requests", "Infer requests answered", labels=["result"])
        results.add_metric(["ok"], served.requests - served.errors)
        results.add_metric(["error"], served.errors)
        yield results
        yield _histogram("edgepod_request_seconds", "From the whole request read to the answer ready", served)
        sizes = CounterMetricFamily("edgepod_bytes", "Bodies of infer requests", labels=["direction"])
        sizes.add_metric(["in"], plane.bytes_in)
        sizes.add_metric(["out"], plane.bytes_out)
        sizes.add_metric(["out_uncompressed"], plane.bytes_out_raw)
        yield sizes
        counters = None if self._canary is None else self._canary.counters()
        if counters is not None:
            yield from _canary(counters)


def _canary(counters: CanaryCounters) -> Iterator[Metric]:
    family = CounterMetricFamily(
        "edgepod_canary", "What this pod saw of the canary in this step", labels=["kind", "result"]
    )
    for kind, seen in (("weight", counters.sent), ("shadow", counters.shadowed)):
        family.add_metric([kind, "ok"], seen.requests - seen.errors - seen.late)
        family.add_metric([kind, "error"], seen.errors)
        family.add_metric([kind, "late"], seen.late)
    family.add_metric(["shadow", "agreed"], counters.agreed)
    family.add_metric(["shadow", "disagreed"], counters.disagreed)
    family.add_metric(["shadow", "skipped"], counters.skipped)
    yield family
    yield GaugeMetricFamily(
        "edgepod_canary_dropped", "1 when the pod stopped asking a failing canary", counters.dropped
    )


def _histogram(name: str, help_text: str, tally: Tally) -> Metric:
    buckets, seen = [], 0
    for index, count in enumerate(tally.latency[:-1]):
        seen += count
        if index % _EVERY == _EVERY - 1:
            buckets.append((f"{LATENCY_BOUNDS_MS[index] / 1000:g}", float(seen)))
    buckets.append(("+Inf", float(tally.requests)))
    family = HistogramMetricFamily(name, help_text)
    family.add_metric([], buckets, tally.latency_sum_ms / 1000)
    return family
