"""From a reference to verified knowledge (`check`) and to whole files in the store (`pull`).

The order is the point: manifest by the digest asked for, then bundle.json and envelope by the manifest, then the
signature over bundle.json, and only then the first byte of a model. Files in the store are not fetched again.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from edgefleet.bundle.errors import Malformed, NotInStore, SizeMismatch, Unsigned
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
from edgefleet.bundle.store import Part, Store
from edgefleet.bundle.trust import Trust

_BUSY_PAUSE = 0.5
"""Seconds between looks at a download that somebody else has under way."""


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


async def check(ref: str, trust: Trust, options: RegistryOptions | None = None) -> BundleInfo:
    """Fetch and verify what a bundle says about itself; no model is fetched. Raises BundleError."""
    reference = parse_pinned(ref)
    async with Registry(options or RegistryOptions()) as registry:
        raise NotImplementedError


async def pull(
    ref: str,
    trust: Trust,
    store: Store,
    *,
    choose: Callable[[BundleInfo], Variant],
    options: RegistryOptions | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Pulled:
    """Bring a bundle's documents and one variant's files into the store.

    `choose` picks the variant, see `choose_variant`; what it raises goes through. `progress` is called at the
    start, at most every MiB, and at the end. Nothing is fetched that the store has; a broken download goes on by
    range. Raises BundleError; what was whole in the store stays.
    """
    raise NotImplementedError


def load(store: Store, ref: str, trust: Trust) -> BundleInfo:
    """Verify a bundle from the store's own documents, without a network. Raises BundleError, NotInStore."""
    raise NotImplementedError
