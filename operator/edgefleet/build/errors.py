"""Why a bundle was not built. `reason` is CamelCase, the message says what to do."""

# ruff: noqa: N818 - the names are the reasons; a suffix says nothing in them

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    # the worker, whose memory is measured, imports this module and nothing of the bundle
    from edgefleet.bundle.format import BuildReport


class BuildError(Exception):
    """Base of every refusal to build."""

    reason: ClassVar[str] = "BuildFailed"


class NotOnnx(BuildError):
    """The file is no ONNX model, or one that breaks ONNX's own rules."""

    reason = "NotOnnx"


class ExternalData(BuildError):
    """The model keeps weights in other files."""

    reason = "ExternalData"


class UnsupportedModel(BuildError):
    """A valid model that edgefleet cannot serve or measure."""

    reason = "UnsupportedModel"


class ModelTimedOut(BuildError):
    """The model did not come to an end."""

    reason = "ModelTimedOut"


class ModelOutOfMemory(BuildError):
    """The model wanted more memory than the limit."""

    reason = "ModelOutOfMemory"


class ModelCrashed(BuildError):
    """Running the model failed or brought the process down."""

    reason = "ModelCrashed"


class GoldenInvalid(BuildError):
    """The golden or calibration file does not fit the model."""

    reason = "GoldenInvalid"


class QuantizationFailed(BuildError):
    """No quantized model came out."""

    reason = "QuantizationFailed"


class AccuracyGate(BuildError):
    """A variant loses more accuracy than allowed."""

    reason = "AccuracyGate"

    def __init__(self, message: str, report: "BuildReport") -> None:
        """Keep the table for people to see."""
        super().__init__(message)
        self.report = report


class KeyInvalid(BuildError):
    """The signing key cannot be used."""

    reason = "KeyInvalid"


BY_REASON: dict[str, type[BuildError]] = {
    kind.reason: kind
    for kind in (
        NotOnnx,
        ExternalData,
        UnsupportedModel,
        ModelTimedOut,
        ModelOutOfMemory,
        ModelCrashed,
        QuantizationFailed,
    )
}
"""What the child process may report."""
