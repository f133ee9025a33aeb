"""`edgepod selftest`: does this model do, on this machine, what it did where it was built?

Gets the files, runs `edgepod.trial` as a child under limits, and reports. Exit status: 0 passed, 1 the model failed, 2 the
environment did (store, disk): nothing is known of the model then.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from edgepod import cgroup
from edgepod.contract import METRICS, Golden, SelfTestReport, TensorSpec
from edgepod.source import SourceError, Store

PASSED, MODEL_FAILED, ENVIRONMENT_FAILED = 0, 1, 2
TERMINATION_LOG: Final = Path("/dev/termination-log")
_MIB: Final = 1024 * 1024
_DEFAULT_MEMORY: Final = 4096 * _MIB
_OWN_MEMORY: Final = 112 * _MIB
"""Of the container's limit, what parent and child take before the model is loaded."""


@dataclass(frozen=True, slots=True)
class Options:
    """Where the model is, and what it must keep to."""

    min_agreement: float = 0.95
    timeout: float = 120.0
    """Seconds for loading and all runs together."""
    fetch_timeout: float = 60.0
    """Seconds to get the files from the store."""
    memory_bytes: int | None = None
    """None: what the container has left, or 4 GiB."""
    model: Path | None = None
    golden: Path | None = None
    metric: str = METRICS[0]
    rtol: float = 0.0
    atol: float = 0.0
    store: str = ""
    serving: str = ""
    cache: Path = Path("/model")


@dataclass(frozen=True, slots=True)
class Job:
    """What to test."""

    model: str
    min_agreement: float
    memory_bytes: int
    """Address space the model may take beyond what the process has before it loads."""
    cpu_seconds: int
    signature: tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]] | None = None
    golden: str | None = None
    metric: str = METRICS[0]
    rtol: float = 0.0
    atol: float = 0.0

    def to_json(self) -> str:
        """For the child's standard input."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Job":
        """Read what `to_json` wrote."""
        raw = json.loads(text)
        if raw["signature"] is not None:
            raw["signature"] = tuple(
                tuple(TensorSpec(spec["name"], spec["datatype"], tuple(spec["shape"])) for spec in specs)
                for specs in raw["signature"]
            )
        return cls(**raw)


def run(options: Options, termination_log: Path = TERMINATION_LOG) -> int:
    """Test, print the report as the last line of standard output, and return the exit status."""
    try:
        job = _local_job(options) if options.model is not None else _store_job(options)
    except SourceError as error:
        report, status = (
            SelfTestReport(passed=False, reason=error.reason, message=str(error)),
            ENVIRONMENT_FAILED,
        )
    else:
        report = _run_child(job, options.timeout)
        status = PASSED if report.passed else MODEL_FAILED
    with contextlib.suppress(OSError):
        if termination_log.exists():
            termination_log.write_bytes(report.to_json())
    print(report.to_json().decode(), flush=True)
    return status


def _local_job(options: Options) -> Job:
    assert options.model is not None
    for path in (options.model, options.golden):
        if path is not None and not path.is_file():
            raise SourceError("FileNotFound", f"{path}: no such file")
    golden = None
    if options.golden is not None:
        golden = (options.golden, options.metric, options.rtol, options.atol)
    return _job(options, options.model, golden)


def _store_job(options: Options) -> Job:
    store = Store(options.store, options.cache)
    deadline = time.monotonic() + options.fetch_timeout
    while True:
        try:
            document = store.document(options.serving)
            model = store.file(document.model)
            golden = _golden(store, document.golden) if document.golden is not None else None
            return replace(_job(options, model, golden), signature=(document.inputs, document.outputs))
        except SourceError:
            if time.monotonic() + 1 > deadline:
                raise
        time.sleep(1)


def _golden(store: Store, golden: Golden) -> tuple[Path, str, float, float]:
    if golden.metric not in METRICS:
        raise SourceError(
            "BadServingDocument", f"golden.metric must be one of {', '.join(METRICS)}, not {golden.metric!r}"
        )
    return store.file(golden.file), golden.metric, golden.rtol, golden.atol


def _job(options: Options, model: Path, golden: tuple[Path, str, float, float] | None) -> Job:
    path, metric, rtol, atol = golden or (None, METRICS[0], 0.0, 0.0)
    return Job(
        model=str(model),
        min_agreement=options.min_agreement,
        memory_bytes=_memory(options),
        cpu_seconds=int(options.timeout * max(2, cgroup.threads())),
        golden=None if path is None else str(path),
        metric=metric,
        rtol=rtol,
        atol=atol,
    )


def _memory(options: Options) -> int:
    """What the model may take. Under the container's limit, so that the child fails and not the container."""
    if options.memory_bytes is not None:
        return options.memory_bytes
    limit = cgroup.memory_limit()
    return _DEFAULT_MEMORY if limit is None else max(64 * _MIB, limit - _OWN_MEMORY)


def _run_child(job: Job, timeout: float) -> SelfTestReport:
    # One malloc arena: each further one reserves 64 MiB of the limited address space.
    environment = {**os.environ, "MALLOC_ARENA_MAX": "1"}
    child = subprocess.Popen(
        [sys.executable, "-m", "edgepod.trial"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    )
    try:
        output, _ = child.communicate(job.to_json().encode(), timeout)
    except subprocess.TimeoutExpired:
        child.kill()
        child.communicate()
        return SelfTestReport(
            passed=False, reason="Timeout", message=f"the model did not load and run within {timeout:g} s"
        )
    if child.returncode == 0:
        return SelfTestReport.from_json(output)
    return _crash(child.returncode)


def _crash(code: int) -> SelfTestReport:
    if code == -signal.SIGKILL:
        return SelfTestReport(
            passed=False, reason="OutOfMemory", message="the kernel killed it, most likely for its memory"
        )
    if code == -signal.SIGXCPU:
        return SelfTestReport(passed=False, reason="Timeout", message="it used up its processor time")
    what = f"signal {-code}" if code < 0 else f"exit status {code}"
    return SelfTestReport(passed=False, reason="Crashed", message=f"the model ended its process with {what}")
