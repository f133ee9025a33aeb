"""Runs models on the golden set in the sandbox, and compares each variant with the float model."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgefleet.build import agreement
from edgefleet.build.agreement import Rule
from edgefleet.build.errors import GoldenInvalid
from edgefleet.build.golden import Arrays, Samples
from edgefleet.build.sandbox import Limits, work
from edgefleet.bundle.format import Measured, Tensor


@dataclass(frozen=True, slots=True)
class Run:
    """What a model answered to the golden inputs."""

    answers: Arrays
    peak_bytes: int
    """Resident memory of the process after the first sample."""
    p50_ms: float


@dataclass(frozen=True, slots=True)
class Yardstick:
    """The float model's answers, and how others are held against them."""

    rule: Rule
    samples: Samples
    reference: Run
    accuracy: float
    """Of the float model, against the labels; without labels 1."""

    @classmethod
    def of(cls, samples: Samples, outputs: Sequence[Tensor], reference: Run) -> "Yardstick":
        """Make one. Raises GoldenInvalid when the float model's answers cannot be compared with anything."""
        rule = agreement.rule_for(outputs, reference.answers)
        if agreement.agreement(rule, reference.answers, reference.answers) < 1.0:
            raise GoldenInvalid(
                "the float model answers NaN on the golden set; nothing can be compared with that"
            )
        labels = samples.labels
        accuracy = agreement.accuracy(rule, labels, reference.answers) if labels else 1.0
        return cls(rule, samples, reference, accuracy)

    def measure(self, variant: str, size: int, run: Run) -> Measured:
        """Compare a run with the float model's."""
        same = agreement.agreement(self.rule, self.reference.answers, run.answers)
        labels = self.samples.labels
        right = agreement.accuracy(self.rule, labels, run.answers) if labels else None
        return Measured(
            variant=variant,
            bytes=size,
            accuracy=right,
            agreement=same,
            drop=self.accuracy - (same if right is None else right),
            p50_ms=run.p50_ms,
        )


def run(limits: Limits, model: Path, samples: Samples, outputs: Sequence[Tensor]) -> Run:
    """Run a model on all samples. Raises BuildError."""
    with folder_of(samples) as inputs, tempfile.TemporaryDirectory(prefix="edgefleet-out-") as folder:
        found = work(limits, "run", model=str(model.resolve()), inputs=str(inputs), outputs=folder)
        answers = {
            tensor.name: np.load(Path(folder) / f"{at}.npy", allow_pickle=False)
            for at, tensor in enumerate(outputs)
        }
    return Run(answers, found["peakBytes"], found["p50Ms"])


@contextmanager
def folder_of(samples: Samples) -> Iterator[Path]:
    """Write the inputs as the worker reads them: one `<index>.npy` for each, in the model's order."""
    with tempfile.TemporaryDirectory(prefix="edgefleet-in-") as name:
        folder = Path(name)
        for at, array in enumerate(samples.inputs.values()):
            np.save(folder / f"{at}.npy", array, allow_pickle=False)
        yield folder
