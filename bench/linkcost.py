"""What a site costs its link in a day on which nothing happens, request by request, from the kernel's own counts.

A day has 720 beats with a word between each two, a look at policy and registry credential every hour, and traffic
figures as often, which come back once more through the watch. Bytes are those of IP: TLS and packet headers are in.
"""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from edgefleet.core import names
from edgefleet.kube import kinds

from bench.lines import Lines

BEATS: Final = 720
HOURS: Final = 24
_SETTLE: Final = 0.3
"""Seconds until the last acknowledgement is through."""


@dataclass(frozen=True)
class Cost:
    """Bytes of each thing a quiet site does."""

    connection: int
    """To open and close one, with both certificates."""
    beat: int
    """On a connection that is open."""
    keep: int
    """A request that only keeps a connection open."""
    look: int
    """Policy and registry credential."""
    figures: int
    """Traffic figures reported."""
    echo: int
    """The same, coming back through the watch."""

    def day(self, *, kept: bool) -> int:
        """Bytes of a day; `kept`: one connection is kept open between beats."""
        hourly = self.look + self.figures + self.echo
        if kept:
            return BEATS * (self.beat + self.keep) + HOURS * hourly
        return BEATS * (self.beat + self.connection) + HOURS * (hourly + 2 * self.connection)


async def measure(site: str, lines: Lines, order: str) -> Cost:
    """Do everything once as `site`, which has the order `order`, on connections nobody else uses."""
    namespace = names.site_namespace(site)
    spent = 0

    async def since() -> int:
        nonlocal spent
        await asyncio.sleep(_SETTLE)
        before, spent = spent, lines.traffic.bytes
        return spent - before

    lease = kinds.LEASE.path(namespace, names.LEASE)
    now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    spec = {"holderIdentity": site, "renewTime": now, "leaseDurationSeconds": 360}

    async def beat() -> int:
        await lines.call("patch lease", "PATCH", lease, {"spec": spec})
        return await since()

    first = await beat()
    again = await beat()
    lines.close()
    closed = await since()
    await beat()
    await lines.call("keep", "GET", "/livez", plain=True)
    keep = await since()
    await lines.call("get edgeagents", "GET", kinds.EDGE_AGENT.path(namespace, names.AGENT))
    try:
        await lines.call("get secrets", "GET", kinds.SECRET.path(namespace, "registry"))
    except Exception as error:
        if "404" not in str(error):
            raise
    look = await since()
    figures, echo = await _figures(lines, kinds.EDGE_DEPLOYMENT.path(namespace), order, since)
    return Cost(first - again + closed, again, keep, look, figures, echo)


async def _figures(lines: Lines, collection: str, order: str, since: Any) -> tuple[int, int]:
    live = await lines.call("list edgedeployments", "GET", collection)
    heard = asyncio.Event()

    async def watch() -> None:
        async for _ in lines.watch(collection, resourceVersion=live["metadata"]["resourceVersion"]):
            heard.set()

    async def report(requests: int) -> int:
        status = {"traffic": {"requests": requests, "bytesIn": requests * 600, "bytesOut": requests * 90}}
        body = {"status": status}
        await lines.call("patch edgedeployments", "PATCH", f"{collection}/{order}/status", body)
        found: int = await since()
        return found

    await since()
    figures = await report(100_000)
    watching = asyncio.create_task(watch())
    await asyncio.sleep(2.0)
    await since()
    both = await report(200_000)
    await heard.wait()
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    return figures, both - figures
