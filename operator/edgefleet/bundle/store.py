"""One copy of every file on a site's disk, named by its digest. Files appear whole or not at all.

    ROOT/blobs/sha256/<hex>     whole files, served as they are to the pods
    ROOT/parts/<hex>.part       downloads that go on where they stopped

A file gets its name only after its digest was checked and its bytes are on the disk, so a power cut leaves the old
files, the new one, or a part. Files are readable by all: the container that serves them may run as another user.
"""

import contextlib
import fcntl
import hashlib
import os
import re
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edgefleet.bundle.disk import digest_of, trouble
from edgefleet.bundle.errors import DigestMismatch, NotInStore, StoreUnavailable, TooLarge
from edgefleet.bundle.part import Part

_DIGEST = re.compile(r"\Asha256:([0-9a-f]{64})\Z")
_HEX = re.compile(r"\A[0-9a-f]{64}\Z")
_FOLDER_MODE: Final = 0o755


@dataclass(frozen=True, slots=True)
class Usage:
    """What the store holds, in bytes."""

    blobs: int
    blob_bytes: int
    part_bytes: int


class Store:
    """The files of one site. `reserve`: bytes of the disk that downloads leave free."""

    def __init__(self, root: Path | str, *, reserve: int = 64 << 20) -> None:
        """Make the folders. Raises StoreUnavailable."""
        self.root = Path(root)
        self.reserve = reserve
        self._blobs = self.root / "blobs" / "sha256"
        self._parts = self.root / "parts"
        self._pinned: Counter[str] = Counter()
        with trouble(f"the store {self.root}"):
            for folder in (self._blobs.parent, self._blobs, self._parts):
                folder.mkdir(parents=True, exist_ok=True)
                with contextlib.suppress(PermissionError):  # the volume's root may belong to somebody else
                    folder.chmod(_FOLDER_MODE | (folder.stat().st_mode & 0o2070))

    def path(self, digest: str) -> Path:
        """Return where the whole file is or would be."""
        return self._blobs / _hex(digest)

    def has(self, digest: str) -> bool:
        """Whether the whole file is here."""
        return self.path(digest).is_file()

    def size(self, digest: str) -> int:
        """Size in bytes. Raises NotInStore."""
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError as error:
            raise NotInStore(f"{digest} is not in the store") from error

    def read(self, digest: str, cap: int) -> bytes:
        """Read a small file and check its digest. Raises NotInStore, TooLarge, or DigestMismatch and the file is gone."""
        if self.size(digest) > cap:
            raise TooLarge(f"{digest} has more than the {cap} bytes allowed")
        with trouble(f"the store's file {digest}"):
            data = self.path(digest).read_bytes()
        if digest_of(data) != digest:
            self.discard(digest)  # so that it is fetched again
            raise DigestMismatch(f"{digest} was damaged in the store")
        return data

    def put_bytes(self, data: bytes) -> str:
        """Keep bytes; return their digest. Raises DiskFull, StoreUnavailable."""
        digest = digest_of(data)
        if self.has(digest):
            return digest
        try:
            with self.part(digest) as part:
                part.restart()
                part.write(data)
                part.finish()
        except BlockingIOError as error:
            raise StoreUnavailable(f"{digest} is being written by somebody else just now") from error
        return digest

    def intact(self, digest: str) -> bool:
        """Whether the file is here and its bytes still have their digest; reads it all."""
        try:
            with self.path(digest).open("rb") as file:
                return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}" == digest
        except OSError:
            return False

    def discard(self, digest: str) -> None:
        """Remove a file, whole or in part; it need not be there."""
        with trouble(f"the store's file {digest}"):
            self.path(digest).unlink(missing_ok=True)
            self._part_path(digest).unlink(missing_ok=True)

    def evict(self, keep: Collection[str]) -> int:
        """Remove everything but `keep` and what is being fetched right now; return the bytes freed."""
        kept = {_hex(digest) for digest in keep} | set(self._pinned)
        freed = 0
        with trouble(f"the store {self.root}"):
            for path in (*self._blobs.iterdir(), *self._parts.iterdir()):
                if path.name.removesuffix(".part") not in kept and not _locked(path):
                    freed += path.stat().st_size
                    path.unlink()
        return freed

    @contextlib.contextmanager
    def pin(self, digests: Collection[str]) -> Iterator[None]:
        """Keep eviction away from these files for a while."""
        names = [_hex(digest) for digest in digests]
        self._pinned.update(names)
        try:
            yield
        finally:
            self._pinned.subtract(names)
            self._pinned += Counter()  # drops the zeros

    def usage(self) -> Usage:
        """Count what is here. Raises StoreUnavailable."""
        with trouble(f"the store {self.root}"):
            sizes = [path.stat().st_size for path in self._blobs.iterdir()]
            parts = sum(path.stat().st_size for path in self._parts.iterdir())
            return Usage(len(sizes), sum(sizes), parts)

    def free(self) -> int:
        """Bytes free on the disk."""
        disk = os.statvfs(self.root)
        return disk.f_bavail * disk.f_frsize

    def part_size(self, digest: str) -> int:
        """Bytes of a file's download that are here; 0 when none was begun."""
        try:
            return self._part_path(digest).stat().st_size
        except FileNotFoundError:
            return 0

    def part(self, digest: str) -> Part:
        """Open the download of a file, at the end of what is there. Raises BlockingIOError when it is under way."""
        return Part(self._part_path(digest), self.path(digest), digest, self.free, self.reserve)

    def _part_path(self, digest: str) -> Path:
        return self._parts / f"{_hex(digest)}.part"


def _hex(digest: str) -> str:
    match = _DIGEST.match(digest)
    if match is None:
        raise ValueError(f"{digest[:100]!r} is no digest of the form sha256:<64 lowercase hex digits>")
    return match[1]


def _locked(path: Path) -> bool:
    """Whether a download holds this part."""
    if _HEX.match(path.name):
        return False
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
