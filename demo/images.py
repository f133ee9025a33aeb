"""Builds both images without Docker, from the same Dockerfiles that `docker build` takes."""

import hashlib
import shutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from demo.cluster import ROOT, CommandError, run
from demo.fleet import Images

TAG: Final = "0.1.0"
FOLDER: Final = ROOT / "build" / "images"
DEV_TAG: Final = FOLDER / "dev-tag"
DOCKERFILES: Final = {"edgepod": "inference_pod/Dockerfile", "edgefleet": "operator/Dockerfile"}
SOURCES: Final = {"edgepod": ("inference_pod",), "edgefleet": ("operator", "inference_pod")}


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
    yield from (ROOT / "requirements" / f"{name}.txt" for name in DOCKERFILES)
    for folder in (ROOT / "operator", ROOT / "inference_pod"):
        for path in folder.rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc":
                yield path


def build(say: Callable[[str], None], *, release: bool = False) -> Built:
    """Build what changed: `<name>-dev.tar`, tagged by its sources, or `<name>.tar`, tagged by the version.

    Raises CommandError.
    """
    made, suffix = (TAG, "") if release else (tag(), "-dev")
    archives = []
    for name, dockerfile in DOCKERFILES.items():
        say(f"image {name}:{made}")
        _gather_wheels(name)
        archive = FOLDER / f"{name}{suffix}.tar"
        _localkube(
            *("build-image", "--dockerfile", dockerfile, "--context", str(FOLDER / name)),
            *("--tag", f"{name}:{made}", "--output", str(archive)),
        )
        archives.append(archive)
    if not release:
        DEV_TAG.write_text(made)
    return Built(_named(made), tuple(archives))


def _gather_wheels(name: str) -> None:
    """Fill the image's `wheels`. Ours and others' are fetched apart: ours change all the time."""
    folder = FOLDER / name
    others, ours = FOLDER / "parts" / name / "others", FOLDER / "parts" / name / "ours"
    sources = [word for source in SOURCES[name] for word in ("--source", source)]
    _localkube("wheels", "--requirements", f"requirements/{name}.txt", "--output", str(others))
    _localkube("wheels", *sources, "--output", str(ours))
    found = {wheel.name: wheel for part in (others, ours) for wheel in part.glob("*.whl")}
    (folder / "wheels").mkdir(parents=True, exist_ok=True)
    for stale in (folder / "wheels").iterdir():
        stale.unlink()
    for wheel in found.values():
        shutil.copy2(wheel, folder / "wheels")


def last_built() -> Images:
    """The images that `build` made last, whatever became of the sources since."""
    return _named(DEV_TAG.read_text())


def _named(made: str) -> Images:
    """As kubelets know them."""
    return Images(f"docker.io/library/edgefleet:{made}", f"docker.io/library/edgepod:{made}")


def _localkube(*arguments: str) -> None:
    run([sys.executable, "localkube", *arguments], timeout=2400)


def main(push: str) -> int:
    """`make images`: build, say where they are, push where that was asked for."""
    built = build(lambda text: print(text, file=sys.stderr), release=True)
    for archive in built.archives:
        print(archive.relative_to(ROOT))
    for name in DOCKERFILES if push else ():
        _push(FOLDER / f"{name}.tar", f"{push.rstrip('/')}/{name}:{TAG}")
    return 0


def _push(archive: Path, reference: str) -> None:
    """Copy an image archive to a registry with whatever is there that can."""
    if shutil.which("skopeo"):
        run(["skopeo", "copy", f"docker-archive:{archive}", f"docker://{reference}"])
    elif shutil.which("buildah"):
        image = run(["buildah", "pull", "--quiet", f"docker-archive:{archive}"]).split()[-1]
        run(["buildah", "push", image, f"docker://{reference}"])
    elif shutil.which("docker"):
        loaded = run(["docker", "load", "--input", archive]).split()[-1]
        run(["docker", "tag", loaded, reference])
        run(["docker", "push", reference])
    else:
        raise CommandError("pushing needs skopeo, buildah or docker: install one of them")
    print(f"pushed {reference}")
