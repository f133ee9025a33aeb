"""TRUST. What a bundle is, whom to believe about it, and how it gets here whole. Never parses ONNX.

For the hub, early and cheap (manifest, bundle.json and envelope only, a few KB):

    options = RegistryOptions.create(plain_http="registry.local:5000,…", ca_file=None)
    trust = Trust.load("/etc/edgefleet/trust")                  # TrustError, a ValueError, when there is no good key
    info = await check("oci://host/repo@sha256:…", trust, options)

For the agent:

    store = Store("/var/lib/edgefleet")
    pulled = await pull(order.bundle, trust, store,
                        choose=lambda info: choose_variant(info, order.variants, cpu_features, memory_bytes),
                        options=options, progress=lambda p: …)
    pulled.variant.file.digest, pulled.info.golden.file.digest      # both in the store, whole and checked
    info = await load(store, order.bundle, trust)                         # later, without a network
    store.evict(keep=pulled.digests | …)

Everything raised on purpose is a BundleError: `.reason` is CamelCase for conditions, `str()` the message, and
`.environment` says that nothing speaks against the bundle itself (try again later, blame no revision).
The signature is verified before one byte of a model is fetched. Cancelling the task is safe at any moment.
"""

from edgefleet.bundle.errors import (
    BadSignature,
    BundleError,
    DigestMismatch,
    DiskFull,
    InvalidReference,
    Malformed,
    NoSuchVariant,
    NotABundle,
    NotARegistry,
    NotFound,
    NotInStore,
    NoVariantFits,
    RegistryFailed,
    RegistryRefused,
    RegistryUnreachable,
    SizeMismatch,
    StoreUnavailable,
    TooLarge,
    TransferInterrupted,
    Unsigned,
    UnsupportedFormat,
    UntrustedKey,
)
from edgefleet.bundle.format import BundleConfig, File, Golden, Requirements, Tensor, Variant
from edgefleet.bundle.info import BundleInfo, choose_variant
from edgefleet.bundle.options import RegistryOptions
from edgefleet.bundle.pull import Progress, Pulled, check, load, pull
from edgefleet.bundle.reference import Reference, parse, parse_pinned
from edgefleet.bundle.store import Store, Usage
from edgefleet.bundle.throttle import Throttle
from edgefleet.bundle.trust import Trust, TrustError

__all__ = [
    "BadSignature",
    "BundleConfig",
    "BundleError",
    "BundleInfo",
    "DigestMismatch",
    "DiskFull",
    "File",
    "Golden",
    "InvalidReference",
    "Malformed",
    "NoSuchVariant",
    "NoVariantFits",
    "NotABundle",
    "NotARegistry",
    "NotFound",
    "NotInStore",
    "Progress",
    "Pulled",
    "Reference",
    "RegistryFailed",
    "RegistryOptions",
    "RegistryRefused",
    "RegistryUnreachable",
    "Requirements",
    "SizeMismatch",
    "Store",
    "StoreUnavailable",
    "Tensor",
    "Throttle",
    "TooLarge",
    "TransferInterrupted",
    "Trust",
    "TrustError",
    "Unsigned",
    "UnsupportedFormat",
    "UntrustedKey",
    "Usage",
    "Variant",
    "check",
    "choose_variant",
    "load",
    "parse",
    "parse_pinned",
    "pull",
]
