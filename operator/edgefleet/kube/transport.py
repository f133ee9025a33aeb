"""One HTTP request to an API server, and what went wrong with it in our own words."""

import asyncio
import contextlib
import socket
import ssl
import time
import urllib.request
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final, cast
from urllib.parse import urlsplit

import aiohttp
import msgspec
from kubernetes.aio.client import Configuration

from edgefleet.kube import credentials, errors

Object = dict[str, Any]
OPENED: Final = "OPENED"
_LINE_BYTES: Final = 4 * 1024 * 1024  # a watch event is one line; etcd takes objects of up to 1.5 MiB
_IDLE_SECONDS: Final = 90.0
_decoder: Final = msgspec.json.Decoder()


class Transport:
    """Connections to one API server."""

    def __init__(
        self,
        settings: Configuration,
        context: ssl.SSLContext | None,
        *,
        agent: str,
        timeout: float,
        in_flight: int,
        keepalive: int | None,
    ) -> None:
        self.server: str = settings.host.rstrip("/")
        self.server_date = ""
        self._settings = settings
        self._proxy = settings.proxy or _proxy_of_environment(self.server)
        self._context = context
        self._agent = agent
        self._timeout = timeout
        self._slots = asyncio.Semaphore(in_flight)
        self._keepalive = keepalive
        self._session: aiohttp.ClientSession | None = None
        self._answered = time.monotonic()

    async def connection(self) -> credentials.Connection:
        """Say where and as whom we speak, for a library that makes its own connections."""
        token = await self._settings.get_api_key_with_prefix("BearerToken", alias="authorization")
        return credentials.connection(self._settings, token or "")

    async def close(self) -> None:
        """End all connections; a later request opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Mapping[str, Any] | None,
        content_type: str,
        seconds: float | None,
    ) -> Object:
        """Send one request, read its JSON answer. Raises ApiError."""
        what = f"{method} {path}"
        data = None if body is None else msgspec.json.encode(body)
        limit = aiohttp.ClientTimeout(total=seconds or self._timeout)
        async with self._slots, self._open(method, path, query, data, content_type, limit) as answer:
            raw = await answer.read()
        self._answered = time.monotonic()
        try:
            return cast(Object, _decoder.decode(raw))
        except msgspec.DecodeError as error:
            raise errors.Unreachable(f"{what}: the answer is not JSON: {error}") from error

    @property
    def quiet(self) -> float:
        """Seconds since the latest answer but those of watches."""
        return time.monotonic() - self._answered

    async def touch(self, path: str) -> None:
        """Send one GET and drop its answer, whatever it is in. Raises ApiError."""
        limit = aiohttp.ClientTimeout(total=self._timeout)
        async with self._slots, self._open("GET", path, {}, None, "", limit) as answer:
            await answer.read()
        self._answered = time.monotonic()

    async def lines(self, path: str, query: Mapping[str, str], seconds: float) -> AsyncIterator[Object]:
        """Send one GET and read its answer as JSON lines, for at most `seconds`. Raises ApiError.

        The first is `{"type": "OPENED"}`: the server has accepted. Holds no request slot: a watch lives for
        minutes.
        """
        limit = aiohttp.ClientTimeout(total=seconds + self._timeout, sock_connect=self._timeout)
        async with self._open("GET", path, query, None, "", limit) as answer:
            yield {"type": OPENED, "object": {}}
            async for line in answer.content:
                try:
                    yield cast(Object, _decoder.decode(line))
                except msgspec.DecodeError as error:  # cut off in the middle of a line
                    raise errors.Unreachable(f"GET {path}: broken event: {error}") from error

    @contextlib.asynccontextmanager
    async def _open(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        data: bytes | None,
        content_type: str,
        limit: aiohttp.ClientTimeout,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        what = f"{method} {path}"
        extra: dict[str, Any] = {}
        if self._proxy:
            extra["proxy"] = self._proxy
        if self._settings.tls_server_name:
            extra["server_hostname"] = self._settings.tls_server_name
        try:
            headers = await self._headers(content_type if data is not None else "")
            request = self._connected().request(
                method,
                self.server + path,
                params={key: value for key, value in query.items() if value},
                data=data,
                headers=headers,
                timeout=limit,
                allow_redirects=False,
                **extra,
            )
            async with request as answer:
                self.server_date = answer.headers.get("Date", self.server_date)
                if answer.status >= 300:
                    raise _refusal(what, answer, await answer.read())
                yield answer
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise errors.Unreachable(f"{what}: {str(error) or type(error).__name__}") from error

    async def _headers(self, content_type: str) -> dict[str, str]:
        headers = {"Accept": "application/json", "User-Agent": self._agent}
        if content_type:
            headers["Content-Type"] = content_type
        token = await self._settings.get_api_key_with_prefix("BearerToken", alias="authorization")
        if token:
            headers["Authorization"] = token
        return headers

    def _connected(self) -> aiohttp.ClientSession:
        if self._session is None:
            context = self._context or credentials.tls_context(self._settings)
            connector = aiohttp.TCPConnector(
                limit=0,  # watches hold a connection each; other requests are bounded by the slots
                ssl=context,
                keepalive_timeout=_IDLE_SECONDS,
                socket_factory=self._socket,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                read_bufsize=_LINE_BYTES,
                # what an API server would pack is megabytes on a fast network; to a site it says little
                skip_auto_headers=("Accept-Encoding",),
            )
        return self._session

    def _socket(self, address: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _name, _address = address
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        if self._keepalive is not None:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, self._keepalive)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, self._keepalive)
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2)
        return made


def _proxy_of_environment(server: str) -> str | None:
    """The proxy for a server by HTTPS_PROXY and friends, asked once: aiohttp would, in a thread, at each request."""
    where = urlsplit(server)
    if not where.hostname or urllib.request.proxy_bypass(where.hostname):
        return None
    return urllib.request.getproxies().get(where.scheme)


def _refusal(what: str, answer: aiohttp.ClientResponse, raw: bytes) -> errors.ApiError:
    try:
        status: object = _decoder.decode(raw)
    except msgspec.DecodeError:
        status = raw[:500].decode(errors="replace")
    return errors.from_status(what, answer.status, status, answer.headers.get("Retry-After"))
