"""What the agent counts, for /metrics."""

from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from typing_extensions import override


class Metrics:
    """Counters of one agent, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._passes = Counter(
            "edgefleet_passes_total", "Passes by outcome.", ["outcome"], registry=self.registry
        )
        self._seconds = Histogram(
            "edgefleet_pass_seconds",
            "Time of a pass, from gathering to telling.",
            buckets=(0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10),
            registry=self.registry,
        )

    def passed(self, queue: str, seconds: float, outcome: str) -> None:
        """Count a pass; the `Meter` of the queue."""
        del queue
        self._passes.labels(outcome).inc()
        self._seconds.observe(seconds)

    def watch(self, collect: Callable[[], "Sample"]) -> None:
        """Ask for more figures at each scrape."""
        self.registry.register(_Collector(collect))

    def render(self) -> tuple[bytes, str]:
        """Return the page and its content type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST


class Sample:
    """Figures read at the moment of a scrape."""

    def __init__(
        self,
        *,
        stages: dict[str, tuple[str, str]],
        steps: dict[str, int],
        store_bytes: int,
        hub_silent: float | None,
    ) -> None:
        self.stages = stages
        self.steps = steps
        self.store_bytes = store_bytes
        self.hub_silent = hub_silent


class _Collector(Collector):
    def __init__(self, collect: Callable[[], Sample]) -> None:
        self._collect = collect

    @override
    def collect(self) -> Iterable[Any]:
        now = self._collect()
        stage = GaugeMetricFamily(
            "edgefleet_model_stage",
            "1 for the stage a model is in and the revision that serves.",
            labels=["model", "stage", "revision"],
        )
        for model, (name, revision) in now.stages.items():
            stage.add_metric([model, name, revision], 1.0)
        yield stage
        steps = CounterMetricFamily("edgefleet_steps", "Steps taken by kind.", labels=["step"])
        for kind, number in now.steps.items():
            steps.add_metric([kind], number)
        yield steps
        yield GaugeMetricFamily(
            "edgefleet_store_bytes", "Bytes of models in the store.", value=now.store_bytes
        )
        if now.hub_silent is not None:
            yield GaugeMetricFamily(
                "edgefleet_hub_silent_seconds", "Seconds since the hub was last heard.", value=now.hub_silent
            )
