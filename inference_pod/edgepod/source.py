"""Files by digest from the site's store, kept in a cache folder.

A file is used only if its bytes have the digest asked for: fresh from the store, and again when it was in the cache. So a
restarted pod needs no store, and no byte is served that nobody asked for. Standard library only.
"""

import contextlib
import hashlib
import http.client
import os
import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import Final

from edgepod.contract import Blob, ContractError, ServingDocument

_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}\Z")
_TIMEOUT: Final = 10.0
_CHUNK: Final = 1024 * 1024
_MAX_DOCUMENT: Final = 1024 * 1024
_DIRECT: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""The store is in the same cluster; a proxy meant for the world would not find it."""


class SourceError(Exception):
    """A file could not be had. `reason` is CamelCase. Trying again may help."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Store:
    """The site's store, and the cache in front of it."""

    def __init__(self, url: str, cache: Path) -> None:
        """Raises ValueError for a URL that is not http or https."""
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"--store must be an http:// or https:// URL, not {url!r}")
        self._url, self._cache = url.rstrip("/"), cache

    def document(self, digest: str) -> ServingDocument:
        """The serving document of that digest. Raises SourceError."""
        path = self._get(digest, None)
        try:
            return ServingDocument.from_json(path.read_bytes())
        except ContractError as error:
            raise SourceError("BadServingDocument", str(error)) from error

    def file(self, blob: Blob) -> Path:
        """Path of that file. Raises SourceError."""
        return self._get(blob.digest, blob.size)

    def _get(self, digest: str, size: int | None) -> Path:
        if not _DIGEST.match(digest):
            raise SourceError(
                "BadDigest", f"{digest[:80]!r} is not a digest; it must look like sha256: and 64 hex digits"
            )
        path = self._cache / digest.replace(":", "-")
        if path.exists():
            if _digest_of(path) == digest:
                return path
            path.unlink()
        try:
            self._cache.mkdir(parents=True, exist_ok=True)
            self._download(digest, size, path)
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            raise SourceError("StoreUnreachable", f"{self._url}: {_cause(error)}") from error
        except OSError as error:
            raise SourceError("CacheFailed", f"cannot write {path}: {error}") from error
        return path

    def _download(self, digest: str, size: int | None, path: Path) -> None:
        """Stream into a temporary file, which gets its name only when the digest is right."""
        limit = _MAX_DOCUMENT if size is None else size
        hashed, total = hashlib.sha256(), 0
        part = path.with_suffix(f".{os.getpid()}.part")
        url = f"{self._url}/sha256/{digest.removeprefix('sha256:')}"
        try:
            with _DIRECT.open(url, timeout=_TIMEOUT) as answer, part.open("wb") as file:
                while chunk := answer.read(_CHUNK):
                    total += len(chunk)
                    if total > limit:
                        break
                    hashed.update(chunk)
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            if total > limit or (size is not None and total != size):
                raise SourceError(
                    "SizeMismatch",
                    f"{url} has {'more than ' if total > limit else ''}{total} bytes instead of {limit}",
                )
            if hashed.hexdigest() != digest.removeprefix("sha256:"):
                raise SourceError(
                    "DigestMismatch", f"{url} has the digest sha256:{hashed.hexdigest()} instead"
                )
            part.rename(path)
        finally:
            with contextlib.suppress(OSError):
                part.unlink()


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _cause(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"it answers {error.code} {error.reason}"
    return str(getattr(error, "reason", "")) or str(error) or type(error).__name__
