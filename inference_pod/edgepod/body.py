"""Reading a request's body from ASGI: bounded in size and in time."""

# ruff: noqa: N818 - the names say what happened; a suffix says nothing in them
import asyncio
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, Final

from edgepod.admission import Place, TooLarge

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]

IDLE_SECONDS: Final = 15.0
"""Longest pause between two pieces of a body."""
TOTAL_SECONDS: Final = 120.0
"""64 MiB in this time is 4.5 Mbit/s; a client that drips is cut off."""
_MAX_DIGITS: Final = 18


class ClientGone(Exception):
    """The connection closed before the body was complete."""


class TooSlow(Exception):
    """The body took too long."""


class StreamTooLarge(TooLarge):
    """A body of undeclared length grew over the limit; more of it may still come."""


class BadHeader(Exception):
    """A header contradicts itself or cannot be honoured."""


class UnsupportedEncoding(Exception):
    """The body is compressed in a way nobody offered."""


class Headers:
    """The few headers an inference request is read by."""

    __slots__ = ("accept_codec", "content_length", "content_type", "encoding", "forwarded", "header_length")

    def __init__(self, raw: Sequence[tuple[bytes, bytes]]) -> None:
        """Raises BadHeader."""
        values = dict(raw)
        if len(values) != len(raw):
            _check_once(raw)
        self.header_length = _text(values.get(b"inference-header-content-length"))
        self.accept_codec = _text(values.get(b"accept-tensor-codec"))
        self.content_length = values.get(b"content-length")
        self.content_type = values.get(b"content-type")
        self.encoding = values.get(b"content-encoding")
        self.forwarded = FORWARDED in values


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")


def _check_once(raw: Sequence[tuple[bytes, bytes]]) -> None:
    seen: dict[bytes, bytes] = {}
    for name, value in raw:
        if name in _ONCE and seen.setdefault(name, value) != value:
            raise BadHeader(f"header {name.decode()} is given twice")


_ONCE: Final = frozenset((b"inference-header-content-length", b"content-length", b"content-encoding"))
FORWARDED: Final = b"edgefleet-forwarded"
"""On what a serving pod sends to a canary: whoever gets it answers and passes nothing on."""


async def read(receive: Receive, headers: Headers, place: Place) -> bytes:
    """The whole body. Raises BadHeader, TooLarge, Overloaded, TooSlow, ClientGone, UnsupportedEncoding."""
    if headers.encoding not in (None, b"identity"):
        raise UnsupportedEncoding("Content-Encoding is not supported; send the body as it is")
    if headers.content_length is not None:
        if not headers.content_length.isdigit() or len(headers.content_length) > _MAX_DIGITS:
            raise BadHeader("Content-Length must be a number")
        place.reserve(int(headers.content_length))
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body", False):
        data: bytes = message.get("body", b"")
        place.reserve(len(data))
        return data
    try:
        async with asyncio.timeout(TOTAL_SECONDS):
            return await _read_on(receive, message, place)
    except TimeoutError as error:
        raise TooSlow("the body did not arrive in time") from error


async def _read_on(receive: Receive, message: Message, place: Place) -> bytes:
    chunks, size = [], 0
    while message["type"] == "http.request":
        chunk = message.get("body", b"")
        size += len(chunk)
        try:
            place.reserve(size)
        except TooLarge as error:
            raise StreamTooLarge(str(error)) from error
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)
        async with asyncio.timeout(IDLE_SECONDS):
            message = await receive()
    raise ClientGone
