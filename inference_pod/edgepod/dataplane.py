"""What the pod serves and whether it does: model, readiness, inference, counters. No HTTP in it."""

# ruff: noqa: N818 - the names say what happened; a suffix says nothing in them
import asyncio
import functools
import logging
import os
import secrets
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from edgepod.contract import HealthDocument, TensorSpec
from edgepod.counting import Tally
from edgepod.engine import Engine, RunError, Stop, Stopped
from edgepod.watchdog import Watchdog
from edgepod.wire import answers, tensors
from edgepod.wire.requests import Request, Wanted
from edgepod.wire.tensors import Array, WireError

INLINE_BELOW_MS: Final = 1.0
"""A thread costs 50 µs and half the throughput; above this, not blocking the event loop is worth it."""
_REMEMBERED: Final = 7
_ALL_SLOW: Final = (1 << _REMEMBERED) - 1
log = logging.getLogger("edgepod")


class Refused(Exception):
    """A request that gets no inference. Subclasses say whose matter it is."""


class BadInput(Refused):
    """The caller's: the request does not fit the model."""


class UnknownModel(Refused):
    """The caller's: no such model or version here."""


class NotReady(Refused):
    """Ours: nothing is loaded yet, or no more."""


class ModelFailed(Refused):
    """The model's: it failed on an input that fits its signature."""


class TimedOut(Refused):
    """The model's: it took longer than the pod allows."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What is served, as far as callers see it."""

    name: str
    version: str = "1"
    revision: str = ""
    codec: str = "lz4"
    min_bytes: int = 1024


class Result(msgspec.Struct, frozen=True):
    """One inference: the answer's bytes, and its arrays for the one who compares."""

    encoded: answers.Encoded
    arrays: Mapping[str, Array]


class Plane:
    """One model being served. Used from one event loop."""

    def __init__(self, run_timeout: float = 30.0) -> None:
        self.identity: Identity | None = None
        self.reason, self.message = "Starting", "the model is not loaded yet"
        self.draining = False
        self.served = Tally()
        self.bytes_in = self.bytes_out = self.bytes_out_raw = 0
        self._engine: Engine | None = None
        self._watchdog: Watchdog | None = None
        self._slow_runs = _ALL_SLOW
        """One bit for each of the last runs: a single one that was preempted must not move all others off the loop."""
        self._start_id = secrets.token_hex(8)
        self._run_timeout = run_timeout
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="model")

    # -- state ----------------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether the next request would be answered, and new ones should come."""
        return self._engine is not None and not self.draining

    @property
    def inline(self) -> bool:
        """Whether inference is quick enough to run on the event loop: the median of the last runs was."""
        return self._slow_runs.bit_count() <= _REMEMBERED // 2

    def not_ready(self, reason: str, message: str) -> None:
        """Say why nothing is served. `reason` is CamelCase."""
        self.reason, self.message = reason, message

    def serve(self, identity: Identity, engine: Engine, run_ms: float | None) -> None:
        """From now on serve this. `run_ms`: measured at warm-up; None: unknown, so runs go to the thread at first."""
        self.identity, self._engine = identity, engine
        self._watchdog = Watchdog()
        self._slow_runs = 0 if run_ms is not None and run_ms < INLINE_BELOW_MS else _ALL_SLOW
        self.reason = self.message = ""

    def drain(self) -> None:
        """Not ready any more; requests that still come are answered."""
        self.draining = True
        self.not_ready("Draining", "the pod is shutting down")

    def engine(self) -> Engine:
        """The loaded model. Raises NotReady."""
        if self._engine is None:
            raise NotReady(self.message)
        return self._engine

    def health(self) -> HealthDocument:
        """Counters since the start, without those of a canary."""
        return HealthDocument(
            start_id=self._start_id,
            revision=self.identity.revision if self.identity else "",
            ready=self.ready,
            served=self.served.frozen(),
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
            bytes_out_raw=self.bytes_out_raw,
            rss_bytes=resident_bytes(),
            reason=self.reason,
        )

    # -- inference ------------------------------------------------------------------------------------

    async def infer(self, request: Request) -> Result:
        """Answer a request. Raises Refused."""
        result = self.at_once(request)
        return result if result is not None else await self.later(request)

    def at_once(self, request: Request) -> Result | None:
        """Answer on the event loop where runs are short; None: it is one for `later`. Raises Refused."""
        if not self.inline or self._watchdog is None:
            return None
        return self._watchdog.guard(self._prepared(request))

    async def later(self, request: Request) -> Result:
        """Answer from the worker thread; cancelled, the run ends. Raises Refused."""
        return await self._off_loop(self._prepared(request))

    def _prepared(self, request: Request) -> "functools.partial[Result]":
        engine = self.engine()
        feeds = check_inputs(request.inputs, engine.inputs)
        wanted = _choose_outputs(request, engine.outputs)
        return functools.partial(self._compute, engine, feeds, wanted, request.id)

    def _compute(
        self,
        engine: Engine,
        feeds: Mapping[str, Array],
        wanted: Mapping[str, Wanted],
        request_id: str,
        stop: Stop,
    ) -> Result:
        started = time.perf_counter()
        try:
            arrays = engine.run(feeds, list(wanted), stop)
        except Stopped:
            raise
        except RunError as error:
            raise ModelFailed(f"the model failed on this input: {error}") from error
        except MemoryError as error:
            raise ModelFailed(f"the model asked for more memory than there is: {error}") from error
        finally:
            slow = (time.perf_counter() - started) * 1000 >= INLINE_BELOW_MS
            self._slow_runs = (self._slow_runs << 1 | slow) & _ALL_SLOW
        identity = self.identity
        assert identity is not None
        outputs = [
            answers.Output(name, array, wanted[name]) for name, array in zip(wanted, arrays, strict=True)
        ]
        min_bytes = identity.min_bytes if identity.codec == "lz4" else None
        try:
            encoded = answers.encode(identity.name, identity.version, request_id, outputs, min_bytes)
        except WireError as error:
            raise BadInput(str(error)) from error
        return Result(encoded, dict(zip(wanted, arrays, strict=True)))

    async def _off_loop(self, compute: "functools.partial[Result]") -> Result:
        """Run on the worker thread; stop the run when it takes too long or nobody waits for it any more."""
        stop = Stop()
        run = asyncio.get_running_loop().run_in_executor(self._worker, compute, stop)
        try:
            return await asyncio.wait_for(asyncio.shield(run), self._run_timeout)
        except TimeoutError:
            stop.now()
            try:
                return await run
            except Stopped as error:
                raise TimedOut(f"the model did not answer within {self._run_timeout:g} s") from error
        except asyncio.CancelledError:
            stop.now()
            run.add_done_callback(_forget)
            raise


def _forget(run: "asyncio.Future[Result]") -> None:
    if not run.cancelled():
        run.exception()  # nobody waits for it, and asyncio would complain that nobody looked


def check_inputs(given: Mapping[str, Array], specs: Sequence[TensorSpec]) -> Mapping[str, Array]:
    """The inputs in the engine's terms. Raises BadInput naming the one that does not fit."""
    if len(given) != len(specs) or not all(spec.name in given for spec in specs):
        names = {spec.name for spec in specs}
        for name in given:
            if name not in names:
                raise BadInput(f"unknown input {name[:60]!r}; the model has {_listed(specs)}")
        raise BadInput(
            f"input {next(spec.name for spec in specs if spec.name not in given)!r} is missing; the model has {_listed(specs)}"
        )
    for spec in specs:
        array = given[spec.name]
        if tensors.datatype_of(array) != spec.datatype:
            raise BadInput(
                f"input {spec.name!r} must be {spec.datatype}, not {tensors.datatype_of(array)}; nothing is converted"
            )
        if not _fits(array.shape, spec.shape):
            raise BadInput(
                f"input {spec.name!r} must have the shape {list(spec.shape)} (-1: any), not {list(array.shape)}"
            )
    return given


def _fits(shape: Sequence[int], wanted: Sequence[int]) -> bool:
    if len(shape) != len(wanted):
        return False
    for got, want in zip(shape, wanted, strict=True):  # noqa: SIM110 (a generator takes as long as the rest of the check)
        if want not in (got, -1):
            return False
    return True


def _listed(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(repr(spec.name) for spec in specs)


def _choose_outputs(request: Request, specs: Sequence[TensorSpec]) -> Mapping[str, Wanted]:
    if not request.outputs:
        return {spec.name: request.default for spec in specs}
    names = {spec.name for spec in specs}
    for name in request.outputs:
        if name not in names:
            raise BadInput(f"unknown output {name[:60]!r}; the model has {_listed(specs)}")
    return request.outputs


def resident_bytes() -> int:
    """Resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
