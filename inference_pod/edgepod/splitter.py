"""Shares traffic with a canary: sends it a part of the requests, or copies.

Callers never pay for a canary. Where its answer is bad, late or missing, the pod answers itself, and after a number of
those in a row it stops asking. How much is shared is a lease polled from the agent; whatever goes wrong, not renewing it
ends the sharing. A pod that starts shares nothing.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from edgepod import agreement, upstream
from edgepod.body import FORWARDED, Headers
from edgepod.contract import PROTOCOL, TRAFFIC_PATH, CanaryCounters, ContractError, TrafficLease
from edgepod.counting import StepTally, Tally
from edgepod.wire import answers
from edgepod.wire.tensors import Array, WireError

POLL_SECONDS: Final = 1.0
SHARING_POLL_SECONDS: Final = 0.3
"""While requests are shared and for `_SOON` afterwards, so that the end of a canary, or its next step, is heard of sooner."""
_SOON: Final = 3.0
MAX_SHADOWS: Final = 16
"""Copies under way. More are skipped: shadow work must not pile up before callers' work."""
MAX_SHADOW_BYTES: Final = 32 * 1024 * 1024
_POLL_TIMEOUT: Final = 2.0
_SMALL: Final = 64 * 1024
_RELAYED: Final = (b"content-type", b"inference-header-content-length", b"edgefleet-revision")
log = logging.getLogger("edgepod")


@dataclass(frozen=True, slots=True)
class Share:
    """What one request does for the canary."""

    forward: bool = False
    shadow: bool = False
    lease: TrafficLease | None = None
    tally: StepTally | None = None


NOTHING: Final = Share()


@dataclass(frozen=True, slots=True)
class Copy:
    """A request as it goes to the canary."""

    data: bytes
    headers: Headers


@dataclass(frozen=True, slots=True)
class Given:
    """What the canary gave for a forwarded request."""

    good: bool
    status: int = 0
    """0: no answer."""
    body: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    raw_size: int = 0
    elapsed_ms: float = 0.0

    @property
    def refused(self) -> bool:
        """It says the request is at fault; only the serving model's answer tells whether that is so."""
        return 400 <= self.status < 500


class Splitter:
    """The lease in force and what was seen under it. Used from one event loop."""

    def __init__(self, agent_url: str, workload: str, model: str = "") -> None:
        """Raises ValueError for a bad URL."""
        self.model = model
        self._agent = upstream.Upstream(agent_url)
        self._path = TRAFFIC_PATH.format(workload=workload)
        self._lease: TrafficLease | None = None
        self._until = 0.0
        self._canary: upstream.Upstream | None = None
        self._tally: StepTally | None = None
        self._weight_owed = self._shadow_owed = 0.0
        self._shadows: set[asyncio.Task[None]] = set()
        self._shadow_bytes = 0

    # -- the lease ------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Poll the agent until cancelled."""
        while True:
            try:
                await self.poll()
            except Exception:
                log.exception(
                    "polling the agent failed"
                )  # the next lease may be better; without polling there is none
            sharing = time.monotonic() < self._until + _SOON
            await asyncio.sleep(SHARING_POLL_SECONDS if sharing else POLL_SECONDS)

    def close(self) -> None:
        """Give up copies under way and idle connections."""
        for task in self._shadows:
            task.cancel()
        for end in (self._agent, self._canary):
            if end is not None:
                end.close()

    async def poll(self) -> None:
        """Ask the agent once. What is not a valid lease renews nothing."""
        asked = time.monotonic()
        try:
            answer = await self._agent.request("GET", self._path, b"", (), _POLL_TIMEOUT)
            if answer.status != 200:
                return
            lease = TrafficLease.from_json(answer.body)
            if lease.protocol != PROTOCOL:
                self.take(None, asked)
                return
            self.take(lease, asked)
        except (TimeoutError, upstream.Unreachable):
            return  # the lease runs out by itself
        except (ContractError, ValueError) as error:
            log.warning("the agent's traffic lease cannot be used: %s", error)

    def take(self, lease: TrafficLease | None, asked: float) -> None:
        """Put a lease into force from `asked` (monotonic seconds) for its time to live; None: no canary.

        Raises ValueError, changing nothing, when it cannot be honoured.
        """
        if lease is None or not lease.canary:
            self._lease = self._tally = None
            return
        if not (0 <= lease.weight <= 100 and 0 <= lease.shadow <= 100 and lease.timeout_ms > 0):
            raise ValueError("weight and shadow must be 0 to 100, timeoutMs more than 0")
        if self._canary is None or self._canary.base_url != lease.canary:
            canary = upstream.Upstream(lease.canary)
            if self._canary is not None:
                self._canary.close()
            self._canary = canary
        if self._tally is None or self._tally.step != lease.step:
            self._tally = StepTally(lease.step)
            # A random start, or every pod would send its first request to the canary.
            self._weight_owed, self._shadow_owed = random.random() * 100, random.random() * 100  # noqa: S311
        self._lease, self._until = lease, asked + lease.ttl_seconds

    def counters(self) -> CanaryCounters | None:
        """What was seen during the step, also while the lease is not renewed."""
        tally, lease = self._tally, self._lease
        if tally is None or lease is None:
            return None
        live = time.monotonic() < self._until
        weight, shadow = (lease.weight, lease.shadow) if live else (0, 0)
        return replace(tally.frozen(), weight=0 if tally.dropped else weight, shadow=shadow)

    # -- forwarding -----------------------------------------------------------------------------------

    def choose(self) -> Share:
        """What the next request does for the canary. Spreads evenly: of 100 requests exactly `weight` are sent."""
        lease, tally = self._lease, self._tally
        if lease is None or tally is None or time.monotonic() >= self._until:
            return NOTHING
        forward = shadow = False
        if lease.weight and not tally.dropped:
            self._weight_owed += lease.weight
            forward = self._weight_owed >= 100
            self._weight_owed -= 100 * forward
        if lease.shadow and not forward:
            self._shadow_owed += lease.shadow
            shadow = self._shadow_owed >= 100
            self._shadow_owed -= 100 * shadow
        return Share(forward, shadow, lease, tally) if forward or shadow else NOTHING

    async def forward(self, share: Share, copy: Copy) -> Given:
        """Ask the canary for the answer. Whatever is not good, the caller of this answers itself."""
        assert share.tally is not None
        given, late = await self._ask(share, copy)
        if not given.refused:
            self._count_sent(share, given, error=not given.good and not late, late=late)
        return given

    def judge(self, share: Share, given: Given, own_status: int) -> None:
        """A refusal is the canary's fault when the serving model answers the same request."""
        if given.refused:
            self._count_sent(share, given, error=own_status < 300, late=False)

    def _count_sent(self, share: Share, given: Given, *, error: bool, late: bool) -> None:
        tally, lease = share.tally, share.lease
        assert tally is not None
        assert lease is not None
        tally.sent.add(given.elapsed_ms, error=error, late=late)
        if not error and not late:
            tally.failures_in_a_row = 0
            return
        tally.failures_in_a_row += 1
        if tally.failures_in_a_row >= lease.max_consecutive_failures and not tally.dropped:
            tally.dropped = True
            log.warning("canary %s failed %d times in a row: dropped", lease.canary, tally.failures_in_a_row)

    async def _ask(self, share: Share, copy: Copy) -> tuple[Given, bool]:
        assert self._canary is not None
        assert share.lease is not None
        started = time.perf_counter()
        late = False
        answer = None
        try:
            answer = await self._canary.request(
                "POST",
                f"/v2/models/{self.model}/infer",
                copy.data,
                _headers(copy.headers),
                share.lease.timeout_ms / 1000,
            )
        except TimeoutError:
            late = True
        except upstream.Unreachable as error:
            log.info("canary %s: %s", share.lease.canary, error)
        elapsed = (time.perf_counter() - started) * 1000
        if answer is None:
            return Given(good=False, elapsed_ms=elapsed), late
        length = answer.headers.get(b"inference-header-content-length")
        return Given(
            good=200 <= answer.status < 300,
            status=answer.status,
            body=answer.body,
            headers=tuple((name, answer.headers[name]) for name in _RELAYED if name in answer.headers),
            raw_size=answers.raw_size(answer.body, None if length is None else length.decode("latin-1")),
            elapsed_ms=elapsed,
        ), late

    # -- shadowing ------------------------------------------------------------------------------------

    def shadow(self, share: Share, copy: Copy, own: Mapping[str, Array]) -> None:
        """Send a copy of a request that has been answered, and compare. Returns at once."""
        assert share.tally is not None
        if len(self._shadows) >= MAX_SHADOWS or self._shadow_bytes + len(copy.data) > MAX_SHADOW_BYTES:
            share.tally.skipped += 1
            return
        self._shadow_bytes += len(copy.data)
        task = asyncio.create_task(self._compare(share, copy, own))
        self._shadows.add(task)
        task.add_done_callback(lambda done: self._end_shadow(done, len(copy.data)))

    def _end_shadow(self, task: asyncio.Task[None], size: int) -> None:
        self._shadows.discard(task)
        self._shadow_bytes -= size
        if not task.cancelled() and task.exception() is not None:
            log.error("comparing with the canary failed", exc_info=task.exception())

    async def _compare(self, share: Share, copy: Copy, own: Mapping[str, Array]) -> None:
        assert share.tally is not None
        given, late = await self._ask(share, copy)
        tally: Tally = share.tally.shadowed
        agreed = None
        if given.good:
            with contextlib.suppress(WireError):
                if given.raw_size < _SMALL:
                    agreed = _agrees(given, own)
                else:  # megabytes take milliseconds to unpack and compare
                    agreed = await asyncio.to_thread(_agrees, given, own)
        tally.add(given.elapsed_ms, error=agreed is None and not late, late=late)
        if agreed is not None:
            share.tally.agreed += agreed
            share.tally.disagreed += not agreed


def _agrees(given: Given, own: Mapping[str, Array]) -> bool:
    length = dict(given.headers).get(b"inference-header-content-length")
    answer = answers.decode(given.body, None if length is None else length.decode("latin-1"))
    return agreement.live(own, answer.outputs)


def _headers(headers: Headers) -> list[tuple[bytes, bytes]]:
    named = (
        (b"content-type", headers.content_type),
        (b"inference-header-content-length", _bytes(headers.header_length)),
        (b"accept-tensor-codec", _bytes(headers.accept_codec)),
    )
    return [(FORWARDED, b"1"), *((name, value) for name, value in named if value is not None)]


def _bytes(value: str | None) -> bytes | None:
    return None if value is None else value.encode("latin-1")
