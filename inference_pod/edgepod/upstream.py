"""A small asyncio HTTP/1.1 client with persistent connections: for the canary and for the agent.

Answers are bounded in size; every request has a deadline; a connection whose answer did not come whole is never used again.
"""

# ruff: noqa: N818 - the names say what happened; a suffix says nothing in them
import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast
from urllib.parse import urlsplit

import httptools

from edgepod.marks import override

MAX_ANSWER: Final = 64 * 1024 * 1024
_MAX_IDLE: Final = 32
_IDLE_SECONDS: Final = 20.0
"""Shorter than the pod's own keep-alive, so that a connection is not used at the moment it is closed."""


class Unreachable(Exception):
    """No whole answer came."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer; header names are lower case."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes


class _Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.fresh = True
        self.idle_since = 0.0
        self._parser = httptools.HttpResponseParser(self)
        self._waiting: asyncio.Future[Answer] | None = None
        self._begin()

    def _begin(self) -> None:
        self._headers: dict[bytes, bytes] = {}
        self._chunks: list[bytes] = []
        self._size = 0
        self.began = False

    @property
    def usable(self) -> bool:
        return self.transport is not None and not self.transport.is_closing()

    async def ask(self, head: bytes, data: bytes) -> Answer:
        assert self.transport is not None
        self._begin()
        self._waiting = asyncio.get_running_loop().create_future()
        self.transport.writelines((head, data))
        try:
            return await self._waiting
        finally:
            self._waiting = None
            self.fresh = False

    # -- asyncio.Protocol -----------------------------------------------------------------------------

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but its class

    @override
    def data_received(self, data: bytes) -> None:
        self.began = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(f"not an HTTP answer: {error}")

    @override
    def connection_lost(self, error: Exception | None) -> None:
        self._fail(str(error) if error else "the connection was closed before the answer was complete")

    def _fail(self, message: str) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(Unreachable(message))
        if self.transport is not None:
            self.transport.abort()

    # -- httptools ------------------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_body(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > MAX_ANSWER:
            self._fail(f"the answer is larger than {MAX_ANSWER} bytes")
            return
        self._chunks.append(data)

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() < 200:  # "100 Continue" and the like come before the answer
            self._begin()
            return
        if not self._parser.should_keep_alive() and self.transport is not None:
            self.transport.close()
        if self._waiting is not None and not self._waiting.done():
            answer = Answer(self._parser.get_status_code(), self._headers, b"".join(self._chunks))
            self._waiting.set_result(answer)


class Upstream:
    """One `http://host:port` and the connections to it."""

    def __init__(self, base_url: str) -> None:
        """Raises ValueError for anything but http://host[:port][/prefix]."""
        url = urlsplit(base_url)
        if url.scheme != "http" or not url.hostname or url.username or url.query or url.fragment:
            raise ValueError(f"{base_url[:100]!r} must look like http://host:port")
        self.base_url = base_url
        self._host, self._port, self._prefix = url.hostname, url.port or 80, url.path.rstrip("/")
        self._netloc = url.netloc
        self._idle: deque[_Connection] = deque()

    async def request(
        self, method: str, path: str, data: bytes, headers: Sequence[tuple[bytes, bytes]], seconds: float
    ) -> Answer:
        """One request within so many seconds. Raises TimeoutError, Unreachable."""
        head = self._head(method, path, data, headers)
        async with asyncio.timeout(seconds):
            connection = self._pooled()
            if connection is not None:
                try:
                    return await self._ask(connection, head, data)
                except Unreachable:
                    if connection.began:
                        raise
                    # It was closed while idle. Inference has no side effects: once more, on a new one.
            return await self._ask(await self._connect(), head, data)

    async def _ask(self, connection: _Connection, head: bytes, data: bytes) -> Answer:
        try:
            answer = await connection.ask(head, data)
        except BaseException:
            if connection.transport is not None:
                connection.transport.abort()
            raise
        if connection.usable and len(self._idle) < _MAX_IDLE:
            connection.idle_since = asyncio.get_running_loop().time()
            self._idle.append(connection)
        elif connection.transport is not None:
            connection.transport.close()
        return answer

    async def _connect(self) -> _Connection:
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                _Connection, self._host, self._port
            )
        except OSError as error:
            raise Unreachable(f"{self._netloc}: {error}") from error
        return connection

    def _pooled(self) -> _Connection | None:
        oldest = asyncio.get_running_loop().time() - _IDLE_SECONDS
        while self._idle:
            connection = self._idle.pop()
            if connection.usable and connection.idle_since > oldest:
                return connection
            if connection.transport is not None:
                connection.transport.close()
        return None

    def _head(self, method: str, path: str, data: bytes, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
        lines = [f"{method} {self._prefix}{path} HTTP/1.1\r\nHost: {self._netloc}\r\n".encode()]
        lines += [b"%b: %b\r\n" % header for header in headers]
        if data:
            lines.append(b"Content-Length: %d\r\n" % len(data))
        return b"".join((*lines, b"\r\n"))

    def close(self) -> None:
        """Close idle connections; those in use end with their request."""
        while self._idle:
            transport = self._idle.pop().transport
            if transport is not None:
                transport.close()
