"""The whole way from a float model to a signed bundle: check, run, quantize, measure, gate, sign."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
from securesystemslib.signer import CryptoSigner

import edgefleet
from edgefleet.build import golden, measuring
from edgefleet.build.errors import AccuracyGate, QuantizationFailed
from edgefleet.build.golden import Samples
from edgefleet.build.measuring import Yardstick
from edgefleet.build.packing import Packed, describe, pack
from edgefleet.build.sandbox import Limits, work
from edgefleet.bundle import format as fmt

FLOAT: Final = "none"
METHODS: Final = {"int8": "int8", "int8-dynamic": "int8-dynamic", FLOAT: "fp32"}
"""What one may ask for → name and precision of the variant."""


@dataclass(frozen=True, slots=True)
class Request:
    """What to build."""

    model: Path
    name: str
    version: int
    golden: Path
    methods: tuple[str, ...]
    """Of METHODS, in order of preference."""
    max_drop: float
    """Share of accuracy a variant may lose; 0.01 is one percentage point."""
    calibration: Path | None = None
    limits: Limits = field(default_factory=Limits)


def make(
    request: Request, folder: Path, signer: CryptoSigner, say: Callable[[str], None] = lambda _: None
) -> Packed:
    """Build into `folder`, which must outlive the result; `say` gets a line for people at each step.

    Raises BuildError.
    """
    say(f"checking {request.model.name}")
    facts = work(request.limits, "inspect", model=str(request.model.resolve()))
    inputs, outputs = _signature(facts)
    samples = golden.read(request.golden, inputs, outputs)
    calibration = golden.read(request.calibration, inputs, outputs) if request.calibration else samples
    say(f"running the float model on {samples.count} golden samples")
    reference = measuring.run(request.limits, request.model, samples, outputs)
    yardstick = Yardstick.of(samples, outputs, reference)
    built = [
        _variant(request, folder, method, calibration, yardstick, outputs, say) for method in request.methods
    ]
    source = describe(request.model)
    report = fmt.BuildReport(
        max_drop=request.max_drop,
        measured_by="labels" if samples.labels else "agreement",
        source=source.digest,
        before=yardstick.measure("float", source.size, reference),
        after=tuple(item.measured for item in built),
        tools={"edgefleet": edgefleet.__version__, **facts["tools"]},
    )
    _gate(report)
    golden_path = folder / "golden.npz"
    golden.write(golden_path, samples, reference.answers)
    rule = yardstick.rule
    config = fmt.BundleConfig(
        format=fmt.FORMAT,
        name=request.name,
        version=request.version,
        created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        variants=tuple(item.variant for item in built),
        golden=fmt.Golden(
            file=describe(golden_path),
            samples=samples.count,
            metric=rule.metric,
            rtol=rule.rtol,
            atol=rule.atol,
        ),
        inputs=inputs,
        outputs=outputs,
        report=report,
    )
    files = {item.variant.file.digest: item.path for item in built}
    return pack(config, {**files, config.golden.file.digest: golden_path}, signer)


@dataclass(frozen=True, slots=True)
class _Built:
    variant: fmt.Variant
    measured: fmt.Measured
    path: Path


def _variant(
    request: Request,
    folder: Path,
    method: str,
    calibration: Samples,
    yardstick: Yardstick,
    outputs: Sequence[fmt.Tensor],
    say: Callable[[str], None],
) -> _Built:
    name = METHODS[method]
    if method == FLOAT:
        path, run = request.model, yardstick.reference
    else:
        say(f"quantizing: {method}")
        path = folder / f"{name}.onnx"
        _same_signature(_quantize(request, method, calibration, path), outputs)
        say(f"running {name} on the golden samples")
        run = measuring.run(request.limits, path, yardstick.samples, outputs)
    file = describe(path)
    measured = yardstick.measure(name, file.size, run)
    variant = fmt.Variant(
        name=name,
        file=file,
        precision=name,
        requirements=fmt.Requirements(memory_bytes=run.peak_bytes),
        accuracy=measured.accuracy,
        agreement=measured.agreement,
    )
    return _Built(variant, measured, path)


def _quantize(request: Request, method: str, calibration: Samples, result: Path) -> Any:
    """Write the quantized model; return what `inspect` says of it."""
    with measuring.folder_of(calibration) as inputs:
        return work(
            request.limits,
            "quantize",
            model=str(request.model.resolve()),
            method=method,
            inputs=str(inputs),
            result=str(result.resolve()),
        )


def _signature(facts: Any) -> tuple[tuple[fmt.Tensor, ...], tuple[fmt.Tensor, ...]]:
    return (
        msgspec.convert(facts["inputs"], tuple[fmt.Tensor, ...]),
        msgspec.convert(facts["outputs"], tuple[fmt.Tensor, ...]),
    )


def _same_signature(facts: Any, outputs: Sequence[fmt.Tensor]) -> None:
    _, found = _signature(facts)
    if [(item.name, item.datatype) for item in found] != [(item.name, item.datatype) for item in outputs]:
        raise QuantizationFailed("quantization changed the model's outputs")


def _gate(report: fmt.BuildReport) -> None:
    """Refuse what loses more than allowed. Raises AccuracyGate with the table."""
    over = [item for item in report.after if item.drop > report.max_drop]
    if over:
        names = ", ".join(f"{item.variant} loses {item.drop:.2%}" for item in over)
        raise AccuracyGate(
            f"{names}; allowed are {report.max_drop:.2%} (--max-drop), measured by {report.measured_by}",
            report,
        )
