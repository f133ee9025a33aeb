"""A way to an API server that writes every request down: who asked for what, with which headers and body, in which order.

Rights are the caller's own, see `support.front`.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from aiohttp import web
from edgefleet.kube.client import Api
from support.front import DROPPED, Front


@dataclass(frozen=True)
class Request:
    """One request as it came over the wire."""

    user: str
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any
    """Decoded JSON; None without one."""
    status: int


@dataclass
class Recorder:
    """Listens on loopback; `seen` grows in the order in which requests came."""

    target: str
    front: Front
    seen: list[Request] = field(default_factory=list)
    port: int = 0

    @classmethod
    @contextlib.asynccontextmanager
    async def before(cls, admin: Api, folder: Path) -> AsyncIterator["Recorder"]:
        """Stand before the API server of an administrator, who came with a token."""
        made = cls(admin.server, await Front.of(admin, folder))
        async with made._running():
            yield made

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def ca(self) -> Path:
        """What callers have to trust."""
        return self.front.ca

    def by(self, user: str) -> list[Request]:
        """Requests of one user so far."""
        return [item for item in self.seen if item.user == user]

    @contextlib.asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        app = web.Application(client_max_size=4 << 20)
        app.router.add_route("*", "/{path:.*}", self._pass)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self.front.tls())
        await site.start()
        assert site._server is not None
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
        up = ssl.create_default_context(cadata=self.front.authority.decode())
        connector = aiohttp.TCPConnector(ssl=up, limit=0)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as self._up:
            try:
                yield
            finally:
                await runner.cleanup()

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        user, headers = self.front.whom(request)
        raw = await request.read()
        url = self.target + request.raw_path
        async with self._up.request(
            request.method, url, data=raw or None, headers=headers, timeout=aiohttp.ClientTimeout(total=None)
        ) as answer:
            body = msgspec.json.decode(raw) if raw else None
            self.seen.append(
                Request(
                    user,
                    request.method,
                    request.path,
                    dict(request.query),
                    dict(request.headers),
                    body,
                    answer.status,
                )
            )
            kept = {key: value for key, value in answer.headers.items() if key not in DROPPED}
            reply = web.StreamResponse(status=answer.status, headers=kept)
            await reply.prepare(request)
            with contextlib.suppress(ConnectionError, aiohttp.ClientError, asyncio.CancelledError):
                async for piece in answer.content.iter_any():
                    await reply.write(piece)
                await reply.write_eof()
            return reply
