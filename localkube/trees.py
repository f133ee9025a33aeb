"""Has anything changed? A key over files, so that unchanged inputs are not built again."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ALWAYS_SKIPPED = (
    ".git",
    "__pycache__",
    "*.pyc",
    "*.egg-info",
    ".mypy_cache",
    ".ruff_cache",
    ".pytest_cache",
    ".venv",
)


def ignored_by(folder: Path) -> tuple[str, ...]:
    """The patterns of a .dockerignore; a re-including `!` only makes the key see less, so it is left out."""
    file = folder / ".dockerignore"
    if not file.exists():
        return ()
    lines = (line.strip().strip("/") for line in file.read_text().splitlines())
    return tuple(line.removeprefix("**/") for line in lines if line and line[0] not in "#!")


def files(folder: Path, skipped: Iterable[str] = ()) -> Iterator[Path]:
    """Every file below, in one order on every machine."""
    patterns = (*ALWAYS_SKIPPED, *skipped)

    def kept(relative: str) -> bool:
        name = relative.rpartition("/")[2]
        return not any(fnmatch.fnmatch(relative, each) or fnmatch.fnmatch(name, each) for each in patterns)

    for here, folders, names in os.walk(folder):
        prefix = Path(here).relative_to(folder).as_posix()
        start = "" if prefix == "." else f"{prefix}/"
        folders[:] = sorted(each for each in folders if kept(start + each))
        yield from (Path(here, each) for each in sorted(names) if kept(start + each))


def key(folders: Iterable[Path], *more: str, skipped: Iterable[str] = ()) -> str:
    """Changes when a file's name, content or executable bit does."""
    digest = hashlib.sha256(json.dumps(more).encode())
    patterns = tuple(skipped)
    for folder in folders:
        for file in files(folder, patterns):
            if file.is_symlink():
                content, bit = os.fsencode(file.readlink()), "l"
            else:
                content, bit = file.read_bytes(), "x" if os.access(file, os.X_OK) else "-"
            digest.update(
                f"\n{file.relative_to(folder).as_posix()} {bit} {len(content)}\n".encode() + content
            )
    return digest.hexdigest()


def is_current(output: Path, wanted: str) -> bool:
    """Whether output was made from inputs with this key."""
    stamp = output.with_name(output.name + ".key")
    return output.exists() and stamp.exists() and stamp.read_text().strip() == wanted


def mark_current(output: Path, made_from: str) -> None:
    """Remember what output was made from."""
    output.with_name(output.name + ".key").write_text(made_from + "\n")
