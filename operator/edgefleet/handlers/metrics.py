"""What the operator counts, and the small server that shows it beside its health."""

from collections.abc import Callable, Iterable
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from typing_extensions import override

Samples = Callable[[], dict[str, float]]


class Metrics:
    """Counters of one operator, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._passes = Counter(
            "edgefleet_passes_total",
            "Passes by queue and outcome.",
            ["queue", "outcome"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "edgefleet_pass_seconds",
            "Time of a pass, from gathering to the last write.",
            ["queue"],
            buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30),
            registry=self.registry,
        )
        self._orders = Counter(
            "edgefleet_orders_written_total",
            "Orders written or deleted, by the reason of the decision.",
            ["reason"],
            registry=self.registry,
        )
        self._requests = Counter(
            "edgefleet_certificate_requests_total",
            "Certificate requests of sites by answer.",
            ["answer"],
            registry=self.registry,
        )
        self._failed_writes = Counter(
            "edgefleet_failed_writes_total",
            "Writes the API server refused or never answered, by error.",
            ["error"],
            registry=self.registry,
        )

    def passed(self, queue: str, seconds: float, outcome: str) -> None:
        """Count a pass; the `Meter` of the queues."""
        self._passes.labels(queue, outcome).inc()
        self._seconds.labels(queue).observe(seconds)

    def ordered(self, reason: str) -> None:
        """Count an order written."""
        self._orders.labels(reason).inc()

    def answered(self, answer: str) -> None:
        """Count a certificate request answered: `approved` or `denied`."""
        self._requests.labels(answer).inc()

    def refused(self, errors: Iterable[Exception]) -> None:
        """Count failed writes."""
        for error in errors:
            self._failed_writes.labels(type(error).__name__).inc()

    def gauge(self, name: str, text: str, label: str, samples: Samples) -> None:
        """Show what `samples` says at the time of a scrape, by `label`."""
        self.registry.register(_Live(name, text, label, samples))


class _Live(Collector):
    def __init__(self, name: str, text: str, label: str, samples: Samples) -> None:
        self._about = (name, text, label)
        self._samples = samples

    @override
    def collect(self) -> Iterable[GaugeMetricFamily]:
        name, text, label = self._about
        family = GaugeMetricFamily(name, text, labels=[label])
        for value, number in self._samples().items():
            family.add_metric([value], number)
        yield family


async def serve(
    port: int, metrics: Metrics, *, healthy: Callable[[], str], ready: Callable[[], str]
) -> web.AppRunner:
    """Serve /metrics, /healthz and /readyz on all addresses.

    `healthy` and `ready` return what is wrong, or nothing. Raises OSError when the port is taken.
    """

    def probe(wrong: Callable[[], str]) -> Any:
        async def answer(_: web.Request) -> web.Response:
            text = wrong()
            return web.Response(status=503 if text else 200, text=(text or "ok") + "\n")

        return answer

    async def scrape(_: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(metrics.registry), headers={"Content-Type": "text/plain; version=0.0.4"}
        )

    app = web.Application()
    app.add_routes(
        [
            web.get("/healthz", probe(healthy)),
            web.get("/readyz", probe(ready)),
            web.get("/metrics", scrape),
        ]
    )
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, None, port, reuse_address=True).start()
    return runner
