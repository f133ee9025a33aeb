"""Builds and pushes the story's bundles with `edgefleet bundle build`, as a user would."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from demo.cluster import ROOT, program, run
from demo.fleet import STATE

NAME: Final = "digit-locator"
FOLDER: Final = STATE / "models"
DONE: Final = FOLDER / "made-by"
"""What the models in the folder were made by."""
ALLOWED_DROP: Final = {"v3": "100%"}
"""v3's builder switched the accuracy gate off; of the others, 1 % of the labels may differ."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle in the registry."""

    reference: str
    """`oci://…@sha256:…`"""

    @property
    def digest(self) -> str:
        """`sha256:…`"""
        return self.reference.partition("@")[2]


def train() -> Path:
    """Train the models unless that was done before; the folder with models, golden set and traffic."""
    source = (ROOT / "demo" / "models.py").read_bytes()
    if not DONE.exists() or DONE.read_bytes() != source:
        from demo import models  # scikit-learn and onnx take seconds to import

        models.write(FOLDER)
        DONE.write_bytes(source)
    return FOLDER


def build(
    name: str, version: int, key: Path, registry: str, *, plain_http: bool = True, model: Path | None = None
) -> Bundle:
    """Quantize, measure, sign and push one model of the story. Raises CommandError."""
    options = [
        *("--name", NAME, "--version", str(version), "--quantize", "int8"),
        *("--golden", str(FOLDER / "golden.npz"), "--max-drop", ALLOWED_DROP.get(name, "1%")),
        *("--key", str(key), "--push", f"oci://{registry}/demo/{NAME}:{version}"),
        *(("--plain-http",) if plain_http else ()),
    ]
    said = run([program("edgefleet"), "bundle", "build", model or FOLDER / f"{name}.onnx", *options])
    found = re.findall(r"oci://\S+@sha256:[0-9a-f]{64}", said)
    if not found:
        raise ValueError(f"edgefleet bundle build named no digest: {said!r}")
    return Bundle(found[-1])


def build_all(key: Path, registry: str, *, plain_http: bool = True) -> dict[str, Bundle]:
    """v1 to v4, with versions no site has seen. Raises CommandError."""
    train()
    return {
        name: build(name, next_version(), key, registry, plain_http=plain_http)
        for name in ("v1", "v2", "v3", "v4")
    }


def next_version() -> int:
    """Count on: versions only grow, also when the story is told twice to the same sites."""
    kept = STATE / "version"
    version = int(kept.read_text()) + 1 if kept.exists() else 1
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(f"{version}\n")
    return version
