"""uvicorn's HTTP/1.1 connection with the limits it lacks: header size, slow headers, silent and stuck connections."""

# ruff: noqa: N818 - the names say what happened; a suffix says nothing in them
import asyncio
from typing import Any, Final

import msgspec
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from edgepod.marks import override

MAX_HEAD: Final = 16 * 1024
HEAD_SECONDS: Final = 10.0
KEEP_ALIVE_SECONDS: Final = 65
"""Longer than the minute at which many clients drop idle connections, so that it is they who do."""

WRITE_SECONDS: Final = 60.0
"""A caller that leaves an answer unread for so long is let go; until then its request holds a place."""


class _HeadTooLarge(Exception):
    pass


class GuardedConnection(HttpToolsProtocol):
    """One connection of a caller."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_head = self._too_large = False
        self._head_size = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        self._stop_write_timer()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    @override
    def pause_writing(self) -> None:
        self._stop_write_timer()
        self._write_timer = self.loop.call_later(WRITE_SECONDS, self.transport.abort)
        super().pause_writing()

    @override
    def resume_writing(self) -> None:
        self._stop_write_timer()
        super().resume_writing()

    @override
    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._in_head:
            self._stop_head_timer()
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    @override
    def on_message_begin(self) -> None:
        self._in_head, self._head_size = True, 0
        super().on_message_begin()

    @override
    def on_url(self, url: bytes) -> None:
        self._grow(len(url))
        super().on_url(url)

    @override
    def on_header(self, name: bytes, value: bytes) -> None:
        self._grow(len(name) + len(value) + 4)
        super().on_header(name, value)

    def _grow(self, size: int) -> None:
        self._head_size += size
        if self._head_size > MAX_HEAD:
            self._too_large = True
            raise _HeadTooLarge

    @override
    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    @override
    def send_400_response(self, msg: str) -> None:
        status, text = "400 Bad Request", "not a valid HTTP/1.1 request"
        if self._too_large:
            status, text = (
                "431 Request Header Fields Too Large",
                f"the headers are larger than {MAX_HEAD} bytes",
            )
        data = msgspec.json.encode({"error": text})
        head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\nconnection: close\r\n\r\n"
        self.transport.write(head.encode() + data)
        self.transport.close()

    @override
    def timeout_keep_alive_handler(self) -> None:
        # A caller that reads no more would hold a closing transport, and the answer in it, for ever.
        self.transport.abort()


def idle(connection: GuardedConnection) -> bool:
    """Whether no request is under way on it."""
    return connection.cycle is None or connection.cycle.response_complete


def config(app: Any, host: str, port: int) -> uvicorn.Config:
    """How the pod listens."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="none",
        http=GuardedConnection,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        backlog=1024,
    )
