"""Bad weather between an API server and its operator or its sites: an HTTP proxy that holds back, drops, ages and refuses.

What it does is within what a real API server, its load balancer and its way may do to a client: events of a watch
arrive late but in their order (several watches get out of step with each other), a watch breaks in the middle of a
line or is told its version is too old (410), a list comes from a replica that lags behind, requests are answered 429
or 500 or not at all, and a write may have been made although nobody says so. `calm` lets everything through.
"""

import asyncio
import contextlib
import json
import random
import ssl
import time
from collections import Counter, deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import yaml
from aiohttp import web
from support.front import Front

LINE: Final = 4 * 1024 * 1024
AGED: Final = frozenset(
    {"edgesites", "edgedeployments", "edgeagents", "leases", "namespaces", "rolebindings"}
)
"""Collections a client follows by watch, of which a list may lag behind. Others are read to be up to date."""
_CARRIED: Final = frozenset(
    {"Accept", "Authorization", "Content-Type", "User-Agent", "Impersonate-User", "Impersonate-Group"}
)
_PASSED_ON: Final = ("Content-Type", "Content-Encoding", "Date", "Retry-After")


@dataclass(frozen=True)
class Climate:
    """How often what happens, per request or event."""

    held: float = 0.3
    """Share of events that are held back, with all that follow them on the same watch."""
    held_for: float = 2.0
    """At most, in seconds."""
    dropped: float = 0.02
    """Share of events at which the watch breaks."""
    too_old: float = 0.1
    """Share of watches refused as 410."""
    aged: float = 0.3
    """Share of lists answered from an earlier snapshot."""
    aged_by: float = 8.0
    """At most, in seconds."""
    refused: float = 0.04
    """Share of requests answered 429 or 500, or hung up on, before they were forwarded."""
    unanswered: float = 0.03
    """Share of writes that are made, but not answered."""


@dataclass
class Weather:
    """The proxy. `log` counts what it did."""

    server: str
    ca: Path
    dice: random.Random
    climate: Climate = Climate()
    front: Front | None = None
    """For callers with certificates of their own; without one they come without TLS, with a token."""
    calm: bool = True
    refused_kopf: int = 0
    """So many watches of kopf are still to be refused as 410, whatever the weather."""
    port: int = 0
    log: Counter[str] = field(default_factory=Counter)
    _cut: set[str] = field(default_factory=set)
    _ways: dict[str, set[asyncio.BaseTransport]] = field(default_factory=dict)
    _snapshots: dict[str, deque[tuple[float, int, dict[str, str], bytes]]] = field(default_factory=dict)
    _session: aiohttp.ClientSession | None = None
    _runner: web.AppRunner | None = None

    @contextlib.asynccontextmanager
    async def blowing(self) -> AsyncIterator["Weather"]:
        """Listen until the end of the block."""
        context = ssl.create_default_context(cafile=str(self.ca))
        connector = aiohttp.TCPConnector(limit=0, ssl=context)
        self._session = aiohttp.ClientSession(
            connector=connector,
            auto_decompress=False,
            read_bufsize=LINE,
            timeout=aiohttp.ClientTimeout(total=None),
        )
        app = web.Application(client_max_size=LINE)
        app.router.add_route("*", "/{path:.*}", self._meet)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0, handler_cancellation=True)
        await self._runner.setup()
        tls = self.front.tls() if self.front is not None else None
        await web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=tls).start()
        self.port = self._runner.addresses[0][1]
        try:
            yield self
        finally:
            await self._runner.cleanup()
            await self._session.close()

    def kubeconfig(self, straight: Path, folder: Path) -> Path:
        """The kubeconfig of a client that goes through the weather, as the same user (by token)."""
        config: dict[str, Any] = yaml.safe_load(straight.read_text())
        config["clusters"][0]["cluster"] = {"server": f"http://127.0.0.1:{self.port}"}
        path = folder / "weather.kubeconfig"
        path.write_text(yaml.safe_dump(config))
        return path

    def cut(self, user: str) -> None:
        """Hang up on a user, and go on doing so."""
        self._cut.add(user)
        for way in self._ways.pop(user, set()):
            way.abort()  # type: ignore[attr-defined]

    def heal(self, user: str) -> None:
        """Let a user through again."""
        self._cut.discard(user)

    def _whom(self, request: web.Request) -> tuple[str, dict[str, str]]:
        if self.front is None:
            return "", dict(request.headers)
        user, headers = self.front.whom(request)
        if request.transport is not None:
            self._ways.setdefault(user, set()).add(request.transport)
        return user, headers

    def _happens(self, share: float, what: str) -> bool:
        if self.calm or self.dice.random() >= share:
            return False
        self.log[what] += 1
        return True

    async def _meet(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        watching = request.query.get("watch") in ("1", "true")
        user, known = self._whom(request)
        if user in self._cut:
            return _hang_up(request)
        if watching and self.refused_kopf and "kopf" in request.headers.get("User-Agent", ""):
            self.refused_kopf -= 1
            return _status(410, "Expired")
        if watching and self._happens(self.climate.too_old, "410"):
            return self._too_old()
        if self._happens(self.climate.refused, "refused"):
            return self._refuse(request)
        assert self._session is not None
        url = self.server + request.rel_url.raw_path
        headers = {k: v for k, v in known.items() if k in _CARRIED}
        sent = self._session.request(
            request.method,
            url,
            params=request.query,
            data=body or None,
            headers=headers,
            allow_redirects=False,
        )
        try:
            async with sent as answer:
                if watching and answer.status == 200:
                    return await self._watch(request, answer)
                whole = await answer.read()
                found = (answer.status, {k: v for k, v in answer.headers.items() if k in _PASSED_ON}, whole)
        except (aiohttp.ClientError, OSError):
            return _hang_up(request)
        if request.method != "GET" and self._happens(self.climate.unanswered, "unanswered"):
            return _hang_up(request)
        status, passed, whole = self._aged(request, *found)
        return web.Response(status=status, headers=passed, body=whole)

    def _too_old(self) -> web.Response:
        """As an event, which is how API servers say it mostly, or as a status."""
        if self.dice.random() < 0.5:
            return _status(410, "Expired")
        told = {"type": "ERROR", "object": _status_body(410, "Expired")}
        return web.Response(text=json.dumps(told) + "\n", content_type="application/json")

    def _refuse(self, request: web.Request) -> web.Response:
        match self.dice.randrange(3):
            case 0:
                return _status(429, "TooManyRequests", {"Retry-After": "1"})
            case 1:
                return _status(500, "InternalError")
            case _:
                return _hang_up(request)

    def _aged(
        self, request: web.Request, status: int, headers: dict[str, str], whole: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        """The answer, or one to the same question from some time ago."""
        if request.method != "GET" or status != 200 or request.path.rpartition("/")[2] not in AGED:
            return status, headers, whole
        kept = self._snapshots.setdefault(request.path_qs, deque(maxlen=50))
        now = time.monotonic()
        kept.append((now, status, headers, whole))
        old = [item for item in kept if now - item[0] <= self.climate.aged_by]
        if self._happens(self.climate.aged, "aged"):
            return self.dice.choice(old)[1:]
        return status, headers, whole

    async def _watch(self, request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        """Pass events on, late; and break off, perhaps in the middle of one."""
        out = web.StreamResponse(headers={"Content-Type": "application/json"})
        await out.prepare(request)
        try:
            async for line in answer.content:
                if self._happens(self.climate.held, "held"):
                    await asyncio.sleep(self.dice.uniform(0, self.climate.held_for))
                if self._happens(self.climate.dropped, "dropped"):
                    await out.write(line[: self.dice.randrange(len(line))])
                    return _hang_up(request)
                await out.write(line)
        except (ConnectionError, aiohttp.ClientError):
            return out
        return out


def _hang_up(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)


def _status(code: int, reason: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response(_status_body(code, reason), status=code, headers=headers)


def _status_body(code: int, reason: str) -> dict[str, Any]:
    return {"kind": "Status", "apiVersion": "v1", "code": code, "reason": reason, "message": "bad weather"}
