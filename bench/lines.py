"""HTTP/1.1 over TLS as lean as a simulated site needs it, and every byte and packet of it counted.

Behaves on the wire like the agent's client: one connection a watch, at most two for the rest, kept for 90 s.
"""

import asyncio
import contextlib
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlencode

import msgspec
from edgefleet.core import names
from edgefleet.kube.client import MERGE, Object

IDLE: Final = 90.0
"""Seconds after which a connection nobody used is given up, here as by the API server."""
HEADERS: Final = 52
"""Bytes of IP and TCP headers of a packet, with the timestamp option."""
_ROOM: Final = 1 << 20
_INFO: Final = struct.Struct("=120xQQII")
"""The part of struct tcp_info that counts: bytes acknowledged and received, packets out and in."""
_decode = msgspec.json.Decoder().decode


class LinkError(Exception):
    """The hub did not answer."""


class RefusedError(LinkError):
    """The hub answered with an error."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text}")
        self.status = status


@dataclass
class Traffic:
    """What crossed a link, both ways, packet headers and TLS included."""

    requests: dict[str, int] = field(default_factory=dict)
    """By verb and resource."""
    refused: dict[str, int] = field(default_factory=dict)
    """By status."""
    connections: int = 0
    closed_bytes: int = 0
    """Of connections that have ended."""
    live: "set[Line]" = field(default_factory=set)

    @property
    def bytes(self) -> int:
        """Bytes on the link so far."""
        return self.closed_bytes + sum(line.weight() for line in self.live)


class Line:
    """One connection."""

    def __init__(self, traffic: Traffic, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.used = time.monotonic()
        self._traffic = traffic
        self._reader = reader
        self._writer = writer
        self._socket: socket.socket = writer.get_extra_info("socket")
        self._bytes = 0

    @classmethod
    async def open(
        cls, host: str, port: int, context: ssl.SSLContext, source: str, traffic: Traffic
    ) -> "Line":
        """Connect, from the address `source` unless that is empty. Raises LinkError."""
        own = (source, 0) if source else None
        try:
            reader, writer = await asyncio.open_connection(
                host, port, ssl=context, limit=_ROOM, local_addr=own
            )
        except (OSError, ssl.SSLError) as error:
            raise LinkError(str(error)) from error
        line = cls(traffic, reader, writer)
        traffic.connections += 1
        traffic.live.add(line)
        return line

    @property
    def usable(self) -> bool:
        """Whether the next request may go out on it."""
        closing = self._writer.is_closing() or self._reader.at_eof()
        return not closing and time.monotonic() - self.used < IDLE

    def weight(self) -> int:
        """Bytes it carried, both ways, with headers."""
        try:
            raw = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size)
        except (OSError, ValueError):  # ended by the server: what was seen last has to do
            return self._bytes
        acked, received, out, came = _INFO.unpack(raw)
        self._bytes = int(acked + received + (out + came) * HEADERS)
        return self._bytes

    def close(self) -> None:
        """Hang up."""
        if self in self._traffic.live:
            self._traffic.live.discard(self)
            self._traffic.closed_bytes += self.weight()
        self._writer.close()

    async def send(self, head: bytes, body: bytes) -> None:
        """Send one request."""
        self.used = time.monotonic()
        self._writer.write(head + body)
        await self._writer.drain()

    async def head(self) -> tuple[int, dict[bytes, bytes]]:
        """Read status and headers of the answer."""
        raw = await self._reader.readuntil(b"\r\n\r\n")
        first, *rest = raw[:-4].split(b"\r\n")
        pairs = (line.partition(b":") for line in rest)
        return int(first.split(b" ", 2)[1]), {key.lower(): value.strip() for key, _, value in pairs}

    async def body(self, headers: dict[bytes, bytes]) -> bytes:
        """Read the rest of the answer."""
        if b"content-length" in headers:
            found = await self._reader.readexactly(int(headers[b"content-length"]))
        else:
            found = b"".join([piece async for piece in self.chunks()])
        self.weight()
        return found

    async def chunks(self) -> AsyncIterator[bytes]:
        """Read a chunked answer piece by piece."""
        while True:
            size = int((await self._reader.readuntil(b"\r\n")).split(b";")[0], 16)
            piece = (await self._reader.readexactly(size + 2))[:-2]
            if not size:
                return
            yield piece


class Lines:
    """The connections of one site to its hub."""

    def __init__(
        self, host: str, port: int, context: ssl.SSLContext, traffic: Traffic, source: str = ""
    ) -> None:
        """`source` is the address it connects from; empty: whichever the machine takes."""
        self.traffic = traffic
        self._where = (host, port, context, source)
        self._host = f"{host}:{port}"
        self._slots = asyncio.Semaphore(2)
        self._idle: list[Line] = []
        self._answered = time.monotonic()

    async def call(
        self, what: str, method: str, path: str, body: Any = None, *, plain: bool = False, **query: str
    ) -> Object:
        """Send one request, `what` being its name in the count, and read its answer. Raises LinkError.

        `plain`: the answer is no JSON, and not read.
        """
        async with self._slots:
            line = self._idle.pop() if self._idle else None
            while line is not None and not line.usable:
                line.close()
                line = self._idle.pop() if self._idle else None
            line = line or await Line.open(*self._where, self.traffic)
            try:
                status, raw = await self._exchange(line, method, path, body, query)
            except (OSError, EOFError, ValueError, asyncio.CancelledError) as error:
                line.close()
                if isinstance(error, asyncio.CancelledError):
                    raise
                raise LinkError(f"{type(error).__name__}: {error}") from error
            self._idle.append(line)
            self._answered = time.monotonic()
            asyncio.get_running_loop().call_later(IDLE + 1, self._give_up, line)
        self._count(what, status)
        if status >= 300:
            raise RefusedError(status, raw[:300].decode(errors="replace"))
        return _decode(raw) if raw and not plain else {}

    @property
    def quiet(self) -> float:
        """Seconds since the latest answer but those of watches."""
        return time.monotonic() - self._answered

    async def watch(self, path: str, **query: str) -> AsyncIterator[Object]:
        """Follow a collection until the server ends it. Raises LinkError."""
        line = await Line.open(*self._where, self.traffic)
        try:
            await line.send(self._head("GET", path, {"watch": "1", **query}, None), b"")
            status, headers = await line.head()
            self._count("watch edgedeployments", status)
            if status >= 300:
                raise RefusedError(status, (await line.body(headers))[:300].decode(errors="replace"))
            rest = b""
            async for piece in line.chunks():
                *whole, rest = (rest + piece).split(b"\n")
                for text in whole:
                    yield _decode(text)
        except (OSError, EOFError, ValueError) as error:
            raise LinkError(f"{type(error).__name__}: {error}") from error
        finally:
            line.close()

    def close(self) -> None:
        """Hang up everywhere."""
        while self._idle:
            self._idle.pop().close()

    async def _exchange(
        self, line: Line, method: str, path: str, body: Any, query: dict[str, str]
    ) -> tuple[int, bytes]:
        data = None if body is None else msgspec.json.encode(body)
        await line.send(self._head(method, path, query, data), data or b"")
        status, headers = await line.head()
        return status, await line.body(headers)

    def _head(self, method: str, path: str, query: dict[str, str], data: bytes | None) -> bytes:
        if data is not None:
            query = {"fieldValidation": "Strict", "fieldManager": names.AGENT_MANAGER, **query}
        target = f"{path}?{urlencode(query)}" if query else path
        text = (
            f"{method} {target} HTTP/1.1\r\nHost: {self._host}\r\nAccept: application/json\r\n"
            f"User-Agent: {names.AGENT_MANAGER}\r\n"
        )
        if data is not None:
            text += f"Content-Type: {MERGE}\r\n"
        if data is not None:
            text += f"Content-Length: {len(data)}\r\n"
        return (text + "\r\n").encode()

    def _give_up(self, line: Line) -> None:
        if line in self._idle and not line.usable:
            self._idle.remove(line)
            line.close()

    def _count(self, what: str, status: int) -> None:
        counts = self.traffic.requests
        counts[what] = counts.get(what, 0) + 1
        if status >= 300 and status != 404:
            with contextlib.suppress(KeyError):
                self.traffic.refused.setdefault(str(status), 0)
                self.traffic.refused[str(status)] += 1
