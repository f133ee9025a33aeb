"""How much the pod takes on at a time. What is over that is refused at once, so that the rest stays quick."""

# ruff: noqa: N818 - the names say what happened; a suffix says nothing in them
from typing import Final

MAX_BODY: Final = 64 * 1024 * 1024
RETRY_AFTER_SECONDS: Final = 1


class TooLarge(Exception):
    """A body over the limit."""


class Overloaded(Exception):
    """Too much is under way; worth trying again in RETRY_AFTER_SECONDS."""


class Gate:
    """Counts requests under way and the bytes of their bodies."""

    def __init__(
        self, max_requests: int = 64, max_bytes: int = 4 * MAX_BODY, max_body: int = MAX_BODY
    ) -> None:
        self.max_requests, self.max_bytes, self.max_body = max_requests, max_bytes, max_body
        self.requests = self.bytes = 0

    def enter(self) -> "Place":
        """A place for one request, to be used in a `with`. Raises Overloaded."""
        if self.requests >= self.max_requests:
            raise Overloaded(f"{self.requests} requests are under way, the limit of this pod")
        return Place(self)


class Place:
    """One request under way."""

    __slots__ = ("_bytes", "_gate")

    def __init__(self, gate: Gate) -> None:
        self._gate, self._bytes = gate, 0

    def __enter__(self) -> "Place":
        self._gate.requests += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._gate.requests -= 1
        self._gate.bytes -= self._bytes

    def reserve(self, total: int) -> None:
        """The body will have, or has, so many bytes. Raises TooLarge, Overloaded."""
        gate = self._gate
        if total > gate.max_body:
            raise TooLarge(f"the body is larger than {gate.max_body} bytes")
        more = total - self._bytes
        if more <= 0:
            return
        if gate.bytes + more > gate.max_bytes:
            raise Overloaded(
                f"requests under way hold {gate.bytes} bytes, the limit of this pod is {gate.max_bytes}"
            )
        gate.bytes += more
        self._bytes = total
