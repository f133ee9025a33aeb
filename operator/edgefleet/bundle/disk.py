"""What store and downloads share about files: digests, errors, and what a power cut leaves."""

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from edgefleet.bundle.errors import BundleError, DiskFull, StoreUnavailable

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def digest_of(data: bytes) -> str:
    """`sha256:<hex>` of bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@contextlib.contextmanager
def trouble(what: str) -> Iterator[None]:
    """Turn an OSError into DiskFull or StoreUnavailable; a lock held elsewhere stays BlockingIOError."""
    try:
        yield
    except BlockingIOError:
        raise
    except OSError as error:
        kind: type[BundleError] = DiskFull if error.errno in _FULL else StoreUnavailable
        raise kind(f"{what}: {error.strerror or error}") from error


def sync_folder(folder: Path) -> None:
    """Make renames in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
