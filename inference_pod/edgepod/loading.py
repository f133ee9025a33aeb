"""From a source to a model that is loaded and warm. Blocking; runs on a thread of its own."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from edgepod import golden
from edgepod.contract import ServingDocument
from edgepod.dataplane import Identity
from edgepod.engine import Engine, LoadError, RunError, signature_problem, timed
from edgepod.source import SourceError, Store
from edgepod.wire.tensors import Array

_T = TypeVar("_T")
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 10.0
Waiting = Callable[[str, str], None]
"""Told why nothing is served yet: reason in CamelCase, message."""
log: Final = logging.getLogger("edgepod")


@dataclass(frozen=True, slots=True)
class Local:
    """A model file on this machine."""

    model: Path
    identity: Identity


@dataclass(frozen=True, slots=True)
class Remote:
    """A serving document in the site's store."""

    store: str
    serving: str
    cache: Path


@dataclass(frozen=True, slots=True)
class Loaded:
    """What can be served now."""

    identity: Identity
    engine: Engine
    run_ms: float | None
    """Measured at warm-up; None when there was none."""


def load(source: Local | Remote, waiting: Waiting) -> Loaded:
    """Load and warm up. Waits for the store as long as it takes. Raises LoadError, OSError."""
    if isinstance(source, Local):
        if not source.model.is_file():
            raise LoadError("FileNotFound", f"{source.model}: no such file")
        engine = Engine.load(source.model)
        return Loaded(source.identity, engine, _warm_up(engine, None))
    store = Store(source.store, source.cache)
    document = _patiently(lambda: store.document(source.serving), waiting)
    path = _patiently(lambda: store.file(document.model), waiting)
    waiting("Loading", f"loading {document.model.digest}")
    engine = Engine.load(path)
    if problem := signature_problem(engine, document.inputs, document.outputs):
        raise LoadError("SignatureMismatch", problem)
    identity = Identity(
        document.name, document.version, document.revision, document.codec, document.min_bytes
    )
    return Loaded(
        identity, engine, _warm_up(engine, lambda: _golden_sample(store, document, engine, waiting))
    )


def _patiently(get: Callable[[], _T], waiting: Waiting) -> _T:
    pause = _FIRST_PAUSE
    while True:
        try:
            return get()
        except SourceError as error:
            waiting(error.reason, str(error))
            log.warning("%s: %s; trying again in %.1f s", error.reason, error, pause)
        time.sleep(pause)
        pause = min(_LONGEST_PAUSE, pause * 2)


# -- warming up ---------------------------------------------------------------------------------------


def _warm_up(engine: Engine, sample: Callable[[], Mapping[str, Array] | None] | None) -> float | None:
    """Milliseconds of one run, or None when nothing could be run.

    Zeros, with free dimensions 1, cost nothing to have, but a good model may be unable to work on them: a filter is wider
    than the image. So their failure keeps no model out. A sample of the golden set decides where there is one; the site's
    self-test has passed on it, and a model that fails on it now is not served. Without one the model is served cold.
    """
    try:
        return timed(engine, engine.zeros())
    except RunError as error:
        log.info("zeros cannot be run: %s", error)
    except MemoryError as error:
        raise LoadError("OutOfMemory", str(error)) from error
    inputs = None if sample is None else sample()
    if inputs is None:
        log.warning("not warmed up: zeros cannot be run, and there is no golden set")
        return None
    try:
        return timed(engine, inputs)
    except (RunError, MemoryError) as error:
        raise LoadError(
            "WarmUpFailed", f"the first sample of the golden set cannot be run: {error}"
        ) from error


def _golden_sample(
    store: Store, document: ServingDocument, engine: Engine, waiting: Waiting
) -> Mapping[str, Array] | None:
    wanted = document.golden
    if wanted is None:
        return None
    path = _patiently(lambda: store.file(wanted.file), waiting)
    try:
        return next(iter(golden.GoldenSet(path, engine.inputs))).inputs
    except golden.GoldenInvalid as error:
        raise LoadError("GoldenInvalid", str(error)) from error
