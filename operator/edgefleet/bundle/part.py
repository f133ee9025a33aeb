"""A file on its way into the store."""

import fcntl
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final

from edgefleet.bundle.disk import sync_folder, trouble
from edgefleet.bundle.errors import DigestMismatch, DiskFull

_FILE_MODE: Final = 0o644
_CHUNK: Final = 1 << 20


class Part:
    """A file on its way into the store. One at a time, also between processes; a dead process lets go."""

    def __init__(self, path: Path, target: Path, digest: str, room: Callable[[], int], reserve: int) -> None:
        """Open or go on; `target` is where the whole file belongs, `room()` says what is free.

        Raises BlockingIOError, DiskFull, StoreUnavailable.
        """
        self.digest = digest
        self._path = path
        self._target = target
        self._room = room
        self._reserve = reserve
        with trouble(str(self._path)):
            self._file = self._open()
        self.offset = 0
        """Bytes that are there."""
        self._hash = hashlib.sha256()

    def __enter__(self) -> "Part":
        """Use as a context: the lock is let go at its end, what came stays."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self._file.close()

    def resume(self) -> int:
        """Read what is there already, so that the digest goes on; return the offset. Slow for large parts."""
        with trouble(str(self._path)):
            self._hash = hashlib.sha256()
            self._file.seek(0)
            while chunk := self._file.read(_CHUNK):
                self._hash.update(chunk)
            self.offset = self._file.tell()
        return self.offset

    def restart(self) -> None:
        """Forget what is there."""
        with trouble(str(self._path)):
            self._file.seek(0)
            self._file.truncate()
            self._hash, self.offset = hashlib.sha256(), 0

    def drop(self) -> None:
        """Remove the part."""
        with trouble(str(self._path)):
            self._path.unlink(missing_ok=True)

    def room_for(self, size: int) -> None:
        """Raise DiskFull unless so many more bytes fit and the reserve stays."""
        with trouble(str(self._path)):
            free = self._room()
        if free < size + self._reserve:
            raise DiskFull(
                f"{size} bytes do not fit on the store's disk: {free} are free, {self._reserve} of them reserved"
            )

    def write(self, data: bytes) -> None:
        """Append. Raises DiskFull, after which the part is gone: a full disk hurts everything on the machine."""
        try:
            with trouble(str(self._path)):
                view = memoryview(data)
                while view:  # an unbuffered file may take less than it is given
                    view = view[self._file.write(view) :]
        except DiskFull:
            self._path.unlink(missing_ok=True)
            raise
        self._hash.update(data)
        self.offset += len(data)

    def sync(self) -> None:
        """Put what was written on the disk."""
        with trouble(str(self._path)):
            os.fdatasync(self._file.fileno())

    def finish(self) -> None:
        """Check the digest, sync, and give the file its name. Raises DigestMismatch; the part is gone then."""
        found = f"sha256:{self._hash.hexdigest()}"
        if found != self.digest:
            self._path.unlink(missing_ok=True)
            raise DigestMismatch(f"asked for {self.digest}, got {self.offset} bytes with {found}")
        target = self._target
        with trouble(str(target)):
            os.fchmod(self._file.fileno(), _FILE_MODE)
            os.fsync(self._file.fileno())
            self._path.replace(target)
            sync_folder(target.parent)
            sync_folder(self._path.parent)

    def _open(self) -> IO[bytes]:
        while True:
            file = self._path.open("a+b", buffering=0)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # another process may have finished and renamed the file between open and lock
                if self._path.exists() and os.fstat(file.fileno()).st_ino == self._path.stat().st_ino:
                    return file
            except OSError:
                file.close()
                raise
            file.close()
