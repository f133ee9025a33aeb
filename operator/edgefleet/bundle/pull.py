"""From a reference to verified knowledge (`check`) and to whole files in the store (`pull`).

The order is the point: manifest by the digest asked for, then bundle.json and envelope by the manifest, then the
signature over bundle.json, and only then the first byte of a model. Files in the store are not fetched again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from edgefleet.bundle.download import download
from edgefleet.bundle.errors import DigestMismatch, Malformed, NotInStore, SizeMismatch, TooLarge, Unsigned
from edgefleet.bundle.format import (
    DOCUMENT_CAP,
    ENVELOPE_CAP,
    ENVELOPE_TYPE,
    BundleConfig,
    Descriptor,
    File,
    Manifest,
    Variant,
    parse_bundle,
    parse_manifest,
)
from edgefleet.bundle.info import BundleInfo
from edgefleet.bundle.oci import Registry
from edgefleet.bundle.options import RegistryOptions
from edgefleet.bundle.reference import Reference, parse_pinned
from edgefleet.bundle.store import Store
from edgefleet.bundle.throttle import Throttle
from edgefleet.bundle.trust import Trust

_TELL_EVERY: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a pull is, in bytes of the files the variant needs."""

    done: int
    """On this disk: from earlier pulls, from parts, from now."""
    total: int
    saved: int
    """Of `total`, whole in the store before this pull began."""


@dataclass(frozen=True, slots=True)
class Pulled:
    """A bundle whose files for one variant are all in the store."""

    info: BundleInfo
    variant: Variant
    digests: frozenset[str]
    """All that eviction must keep."""
    total: int
    """Bytes of the files."""
    saved: int
    """Of these, bytes that were in the store already."""
    fetched: int
    """Bytes that crossed the link for files and documents."""


class Source(Protocol):
    """Where documents come from: a registry, the store, a folder. Implementations check digests."""

    async def manifest(self, reference: Reference) -> bytes:
        """Return the manifest's bytes."""
        ...

    async def document(self, reference: Reference, descriptor: Descriptor, cap: int) -> bytes:
        """Return a small blob's bytes."""
        ...


@dataclass(frozen=True, slots=True)
class Examined:
    """Verified knowledge and the bytes it rests on."""

    info: BundleInfo
    documents: tuple[bytes, bytes, bytes]


async def examine(source: Source, reference: Reference, trust: Trust) -> Examined:
    """Walk the chain of trust from a digest to what bundle.json says. Raises BundleError."""
    manifest_bytes = await source.manifest(reference)
    manifest = parse_manifest(manifest_bytes)
    envelopes = [item for item in manifest.layers if item.media_type == ENVELOPE_TYPE]
    if not envelopes:
        raise Unsigned(f"{reference} carries no signature")
    if len(envelopes) > 1:
        raise Malformed(f"the manifest lists {len(envelopes)} signature envelopes; one is allowed")
    config_bytes = await _document(source, reference, manifest.config, DOCUMENT_CAP)
    envelope = await _document(source, reference, envelopes[0], ENVELOPE_CAP)
    payload, signed_by = trust.verify(envelope)
    if payload != config_bytes:
        raise Malformed("what was signed is not, byte for byte, the bundle.json of the manifest")
    config = parse_bundle(config_bytes)
    _same_files(config, manifest)
    documents = (reference.digest, manifest.config.digest, envelopes[0].digest)
    return Examined(
        BundleInfo(reference, config, manifest, signed_by, documents),
        (manifest_bytes, config_bytes, envelope),
    )


async def _document(source: Source, reference: Reference, descriptor: Descriptor, cap: int) -> bytes:
    if descriptor.size > cap:
        raise TooLarge(f"{descriptor.media_type} of {descriptor.size} bytes; {cap} are allowed")
    data = await source.document(reference, descriptor, cap)
    if len(data) != descriptor.size:
        raise SizeMismatch(f"{descriptor.digest} has {len(data)} bytes, the manifest says {descriptor.size}")
    return data


async def check(ref: str, trust: Trust, options: RegistryOptions | None = None) -> BundleInfo:
    """Fetch and verify what a bundle says about itself; no model is fetched. Raises BundleError."""
    reference = parse_pinned(ref)
    async with Registry(options or RegistryOptions()) as registry:
        return (await examine(registry, reference, trust)).info


async def load(store: Store, ref: str, trust: Trust) -> BundleInfo:
    """Verify a bundle from the store's own documents, without a network. Raises BundleError, NotInStore."""
    return (await examine(StoredDocuments(store), parse_pinned(ref), trust)).info


async def pull(
    ref: str,
    trust: Trust,
    store: Store,
    *,
    choose: Callable[[BundleInfo], Variant],
    options: RegistryOptions | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
    throttle: Throttle | None = None,
) -> Pulled:
    """Bring a bundle's documents and one variant's files into the store.

    `choose` picks the variant, see `choose_variant`; what it raises goes through. `progress` is called at the
    start, at most every MiB, and at the end. Files come no faster than `throttle` lets them. Nothing is fetched that the store has; a broken download goes on by
    range. Raises BundleError; what was whole in the store stays.
    """
    reference = parse_pinned(ref)
    async with Registry(options or RegistryOptions(), throttle) as registry:
        info = await _documents(registry, reference, trust, store)
        variant = choose(info)
        files = _distinct(info.files(variant))
        with store.pin(info.digests(variant)):
            meter = _Meter(progress, {file.digest: file.size for file in files}, store)
            for file in files:
                await download(registry, reference, file, store, partial(meter.at, file.digest))
                meter.at(file.digest, file.size)
        return Pulled(info, variant, info.digests(variant), meter.total, meter.saved, registry.received)


class StoredDocuments:
    """The store as a source of documents."""

    def __init__(self, store: Store) -> None:
        """Read from this store."""
        self._store = store

    async def manifest(self, reference: Reference) -> bytes:
        """Return the manifest's bytes. Raises NotInStore, DigestMismatch."""
        return self._store.read(reference.digest, DOCUMENT_CAP)

    async def document(self, reference: Reference, descriptor: Descriptor, cap: int) -> bytes:
        """Return a document's bytes. Raises NotInStore, DigestMismatch."""
        del reference
        return self._store.read(descriptor.digest, cap)


async def _documents(registry: Registry, reference: Reference, trust: Trust, store: Store) -> BundleInfo:
    try:
        return (await examine(StoredDocuments(store), reference, trust)).info
    except (NotInStore, DigestMismatch):
        pass  # seen for the first time, or damaged on the disk and gone now
    examined = await examine(registry, reference, trust)
    for data in examined.documents:
        store.put_bytes(data)
    return examined.info


class _Meter:
    """Adds up the files of one pull and tells how far it is."""

    def __init__(self, tell: Callable[[Progress], None], sizes: Mapping[str, int], store: Store) -> None:
        self._tell = tell
        self._sizes = sizes
        whole = {digest for digest in sizes if store.has(digest)}
        self._done = {
            digest: size if digest in whole else min(store.part_size(digest), size)
            for digest, size in sizes.items()
        }
        self.total = sum(sizes.values())
        self.saved = sum(sizes[digest] for digest in whole)
        self._told = -1
        self._say()

    def at(self, digest: str, done: int) -> None:
        """Note that so much of a file is on the disk."""
        self._done[digest] = done
        now = sum(self._done.values())
        if now < self._told or now - self._told >= _TELL_EVERY or done == self._sizes[digest]:
            self._say()

    def _say(self) -> None:
        now = sum(self._done.values())
        if now != self._told:
            self._told = now
            self._tell(Progress(now, self.total, self.saved))


def _distinct(files: tuple[File, ...]) -> tuple[File, ...]:
    return tuple({file.digest: file for file in files}.values())


def _same_files(config: BundleConfig, manifest: Manifest) -> None:
    """Hold bundle.json and manifest against each other: nothing missing, nothing more, equal sizes."""
    listed = {item.digest: item.size for item in manifest.layers if item.media_type != ENVELOPE_TYPE}
    signed: dict[str, int] = {}
    for file in (config.golden.file, *(variant.file for variant in config.variants)):
        if signed.setdefault(file.digest, file.size) != file.size:
            raise SizeMismatch(f"bundle.json gives {file.digest} two sizes")
    for digest, size in signed.items():
        if digest not in listed:
            raise Malformed(f"bundle.json lists {digest}, the manifest does not")
        if listed[digest] != size:
            raise SizeMismatch(
                f"{digest} has {size} bytes in bundle.json and {listed[digest]} in the manifest"
            )
    extra = sorted(set(listed) - set(signed))
    if extra:
        raise Malformed(f"the manifest lists {extra[0]}, which nobody signed")
