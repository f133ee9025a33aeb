"""A bundle in a folder, in OCI image layout: what `bundle build --output` writes and other tools can copy."""

import hashlib
from pathlib import Path

import msgspec

from edgefleet.bundle.disk import digest_of
from edgefleet.bundle.errors import DigestMismatch, NotABundle, NotFound, SizeMismatch, TooLarge
from edgefleet.bundle.format import ARTIFACT_TYPE, DOCUMENT_CAP, Descriptor, File, strict_json
from edgefleet.bundle.reference import Reference


class _Entry(msgspec.Struct, frozen=True, rename="camel"):
    digest: str
    artifact_type: str = ""


class _Index(msgspec.Struct, frozen=True):
    manifests: tuple[_Entry, ...]


class Layout:
    """The folder as a source of documents."""

    def __init__(self, folder: Path) -> None:
        """Read from this folder."""
        self.folder = folder

    def reference(self) -> Reference:
        """Return a reference to the one bundle in here. Raises NotABundle."""
        raw = strict_json(
            self._bytes(self.folder / "index.json", DOCUMENT_CAP), str(self.folder / "index.json")
        )
        try:
            index = msgspec.convert(raw, _Index)
        except msgspec.ValidationError as error:
            raise NotABundle(f"{self.folder / 'index.json'}: {error}") from error
        found = [item.digest for item in index.manifests if item.artifact_type == ARTIFACT_TYPE]
        if len(found) != 1:
            raise NotABundle(f"{self.folder} holds {len(found)} bundles; one was expected")
        return Reference("folder", "layout", digest=found[0])

    async def manifest(self, reference: Reference) -> bytes:
        """Return the manifest's bytes. Raises BundleError."""
        return self._blob(reference.digest, DOCUMENT_CAP)

    async def document(self, reference: Reference, descriptor: Descriptor, cap: int) -> bytes:
        """Return a document's bytes. Raises BundleError."""
        del reference
        return self._blob(descriptor.digest, cap)

    def path(self, digest: str) -> Path:
        """Where a blob is. Only for digests that were parsed."""
        return self.folder / "blobs" / "sha256" / digest.removeprefix("sha256:")

    def verify_file(self, file: File) -> None:
        """Check size and digest of a model or golden set. Raises NotFound, SizeMismatch, DigestMismatch."""
        path = self.path(file.digest)
        try:
            with path.open("rb") as opened:
                found = f"sha256:{hashlib.file_digest(opened, 'sha256').hexdigest()}"
                size = opened.tell()
        except OSError as error:
            raise NotFound(f"{path}: {error.strerror}") from error
        if size != file.size:
            raise SizeMismatch(f"{path} should have {file.size} bytes, has {size}")
        if found != file.digest:
            raise DigestMismatch(f"{path} is damaged: its bytes have {found}")

    def _blob(self, digest: str, cap: int) -> bytes:
        data = self._bytes(self.path(digest), cap)
        if digest_of(data) != digest:
            raise DigestMismatch(f"{self.path(digest)} is damaged: its bytes have {digest_of(data)}")
        return data

    def _bytes(self, path: Path, cap: int) -> bytes:
        try:
            with path.open("rb") as file:
                data = file.read(cap + 1)
        except OSError as error:
            raise NotFound(f"{path}: {error.strerror}") from error
        if len(data) > cap:
            raise TooLarge(f"{path} has more than the {cap} bytes allowed")
        return data
