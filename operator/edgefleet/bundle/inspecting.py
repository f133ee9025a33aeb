"""What `bundle inspect` and `bundle verify` need beyond `check`: tags, unverified reading, whole files."""

import hashlib
from dataclasses import dataclass

from edgefleet.bundle.disk import digest_of
from edgefleet.bundle.errors import DigestMismatch, SizeMismatch
from edgefleet.bundle.format import DOCUMENT_CAP, BundleConfig, File, parse_bundle, parse_manifest
from edgefleet.bundle.oci import Registry
from edgefleet.bundle.pull import Source
from edgefleet.bundle.reference import Reference


@dataclass(frozen=True, slots=True)
class Claims:
    """What a bundle says of itself, believed by nobody yet."""

    digest: str
    config: BundleConfig


async def claims(source: Source, reference: Reference) -> Claims:
    """Read a bundle without asking who signed it; for people to look at, never to act on. Raises BundleError."""
    data = await source.manifest(reference)
    config = await source.document(reference, parse_manifest(data).config, DOCUMENT_CAP)
    return Claims(digest_of(data), parse_bundle(config))


async def verify_file(registry: Registry, reference: Reference, file: File) -> None:
    """Fetch a file whole, keep nothing, and check size and digest. Raises BundleError."""
    found, size = hashlib.sha256(), 0
    async with registry.blob(reference, file.digest) as blob:
        async for chunk in blob.chunks():
            found.update(chunk)
            size += len(chunk)
            if size > file.size:
                break
    if size != file.size:
        raise SizeMismatch(f"{file.digest} should have {file.size} bytes, {reference.host} sends {size}")
    if f"sha256:{found.hexdigest()}" != file.digest:
        raise DigestMismatch(f"{file.digest} is damaged: its bytes have sha256:{found.hexdigest()}")
