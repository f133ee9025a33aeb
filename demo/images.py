"""Builds both images without Docker, from the same Dockerfiles that `docker build` takes."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from demo.cluster import ROOT
from demo.fleet import Images

TAG: Final = "0.1.0"
FOLDER: Final = ROOT / "build" / "images"
DOCKERFILES: Final = {"edgepod": "inference_pod/Dockerfile", "edgefleet": "operator/Dockerfile"}


@dataclass(frozen=True, slots=True)
class Built:
    """Image archives and the names in them."""

    images: Images
    archives: tuple[Path, ...]


def tag() -> str:
    """Names what is in the images: a changed source is another image, also for a kubelet that has the old one."""
    digest = hashlib.sha256()
    for path in sorted(_sources()):
        digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return f"{TAG}-{digest.hexdigest()[:10]}"


def _sources() -> Iterable[Path]:
    yield ROOT / "requirements" / "dev.txt"
    for folder in (ROOT / "operator", ROOT / "inference_pod"):
        for path in folder.rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc":
                yield path
