"""The agent's own HTTP server: traffic leases for serving pods, /healthz and /metrics.

A lease is handed out only while the passes that judge it go on; when they stop, so does the canary's traffic.
"""

import time
from collections.abc import Callable

from aiohttp import web
from edgepod.contract import NO_CANARY, TRAFFIC_PATH, TrafficLease

from edgefleet.core.canary import LEASE_FRESH


class Leases:
    """The traffic leases in force, by name of the Deployment."""

    def __init__(self) -> None:
        self._leases: dict[str, tuple[str, TrafficLease, float]] = {}

    def put(self, model: str, leases: tuple[tuple[str, TrafficLease], ...]) -> None:
        """Let these be all leases of a model from now on."""
        self._leases = {key: item for key, item in self._leases.items() if item[0] != model}
        for workload, lease in leases:
            self._leases[workload] = (model, lease, time.monotonic())

    def get(self, workload: str) -> TrafficLease:
        """Return what a workload's pods are to do now."""
        _, lease, since = self._leases.get(workload, ("", NO_CANARY, 0.0))
        return lease if lease is NO_CANARY or time.monotonic() - since < LEASE_FRESH else NO_CANARY


async def serve(
    port: int, leases: Leases, *, unhealthy: Callable[[], str], metrics: Callable[[], tuple[bytes, str]]
) -> web.AppRunner:
    """Start the server. Raises OSError when the port is taken."""

    async def lease(request: web.Request) -> web.Response:
        found = leases.get(request.match_info["workload"])
        return web.Response(body=found.to_json(), content_type="application/json")

    async def health(_: web.Request) -> web.Response:
        trouble = unhealthy()
        return web.Response(text=trouble or "ok", status=503 if trouble else 200)

    async def scrape(_: web.Request) -> web.Response:
        body, content_type = metrics()
        return web.Response(body=body, headers={"Content-Type": content_type})

    app = web.Application(client_max_size=1024)
    app.router.add_get(TRAFFIC_PATH, lease)
    app.router.add_get("/healthz", health)
    app.router.add_get("/metrics", scrape)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, None, port).start()
    return runner
