"""The part of the self-test that touches the model: runs as a process of its own, under limits.

Reads a Job as JSON from standard input, writes a SelfTestReport as JSON to standard output. A model is a program
somebody else wrote: it may loop for ever or ask for all memory there is, so the parent holds the clock and the kernel
the memory.
"""

import os
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgepod import agreement, golden
from edgepod.contract import SelfTestReport
from edgepod.engine import Engine, LoadError, RunError, signature_problem
from edgepod.selftest import Job
from edgepod.wire.tensors import Array


def main() -> None:
    """Entry point of the child."""
    # Whatever else writes to standard output goes to standard error; the report has the pipe to itself.
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)
        job = Job.from_json(sys.stdin.read())
        _limit(job)
        report = replace(test(job), peak_mib=round(_status_mib("VmHWM"), 1))
        out.write(report.to_json().decode())
        out.flush()
        os._exit(0)  # a stopped runtime takes no part in Python's orderly end


def _limit(job: Job) -> None:
    allowed = int(_status_mib("VmSize") * 1024 * 1024) + job.memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (allowed, allowed))
    resource.setrlimit(resource.RLIMIT_CPU, (job.cpu_seconds, job.cpu_seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _status_mib(field: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    return 0.0


def test(job: Job) -> SelfTestReport:
    """Load the model and run what there is to run."""
    started = time.perf_counter()
    try:
        engine = Engine.load(Path(job.model))
        load_ms = round((time.perf_counter() - started) * 1000, 1)
        if job.signature is not None and (problem := signature_problem(engine, *job.signature)):
            return SelfTestReport(passed=False, reason="SignatureMismatch", message=problem, load_ms=load_ms)
        if job.golden is None:
            return replace(_run_zeros(engine), load_ms=load_ms)
        return replace(_run_golden(engine, job), load_ms=load_ms)
    except LoadError as error:
        return SelfTestReport(passed=False, reason=error.reason, message=str(error))
    except golden.GoldenInvalid as error:
        return SelfTestReport(passed=False, reason="GoldenInvalid", message=str(error))
    except RunError as error:
        return SelfTestReport(passed=False, reason="RunFailed", message=str(error))
    except MemoryError as error:
        return SelfTestReport(passed=False, reason="OutOfMemory", message=str(error) or "out of memory")


def _run_zeros(engine: Engine) -> SelfTestReport:
    started = time.perf_counter()
    try:
        engine.run(engine.zeros(), [spec.name for spec in engine.outputs])
    except RunError as error:
        if all(size >= 0 for spec in engine.inputs for size in spec.shape):
            raise
        # With free dimensions 1 may be a size the model cannot work on (a filter wider than the image).
        return SelfTestReport(
            passed=True, message=f"loaded; there is no golden set, and zeros cannot be run: {error}"
        )
    elapsed = round((time.perf_counter() - started) * 1000, 3)
    return SelfTestReport(
        passed=True, message="loaded and run on zeros; there is no golden set", p50_ms=elapsed, p99_ms=elapsed
    )


def _run_golden(engine: Engine, job: Job) -> SelfTestReport:
    assert job.golden is not None
    data = golden.GoldenSet(Path(job.golden), engine.inputs)
    known = {spec.name for spec in engine.outputs}
    if missing := [name for name in data.outputs if name not in known]:
        raise golden.GoldenInvalid(
            f"the golden set expects an output {missing[0]!r}, which the model does not have"
        )
    agreed: dict[str, float] = dict.fromkeys(data.outputs, 0.0)
    right: list[float] = []
    latencies = []
    for sample in data:
        started = time.perf_counter()
        got = dict(zip(data.outputs, engine.run(sample.inputs, data.outputs), strict=True))
        latencies.append((time.perf_counter() - started) * 1000)
        for name, array in got.items():
            want = golden.fit(array, sample.expected[name])
            agreed[name] += agreement.share(array, want, job.metric, job.rtol, job.atol) / data.runs
            if name in sample.labels:
                right.append(_accuracy(array, sample.labels[name]))
    lowest = min(agreed, key=lambda name: agreed[name])
    share = round(agreed[lowest], 6)
    passed = share >= job.min_agreement
    return SelfTestReport(
        passed=passed,
        reason="" if passed else "GoldenDisagrees",
        message=""
        if passed
        else f"output {lowest!r} agrees with the float model on {share:.2%} of the golden set, {job.min_agreement:.2%} are needed",
        samples=data.samples,
        agreement=share,
        accuracy=round(float(np.mean(right)), 6) if right else None,
        p50_ms=_quantile(latencies, 0.5),
        p99_ms=_quantile(latencies, 0.99),
    )


def _accuracy(array: Array, labels: Array) -> float:
    """Share of right answers: a float output answers with its largest value, any other with itself."""
    guess: Array = array.argmax(axis=-1) if array.dtype.kind == "f" and array.ndim else array
    labels = golden.fit(guess, labels)
    return float(np.mean(guess == labels)) if guess.shape == labels.shape else 0.0


def _quantile(values: Sequence[float], q: float) -> float:
    return round(float(np.quantile(np.asarray(values), q, method="inverted_cdf")), 3)


if __name__ == "__main__":
    main()
