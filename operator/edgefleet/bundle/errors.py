# ruff: noqa: N818 - the names are what people read as reasons; a suffix says nothing in them
"""Why a bundle could not be used, and whose fault that is.

`reason` is CamelCase and goes into conditions as it is. `environment` tells what to do: True, nothing says
anything against the bundle, try again later (and blame no revision); False, this very bundle will be refused
again however often one tries, a person has to act.
"""

from typing import ClassVar


class BundleError(Exception):
    """Base of everything `edgefleet.bundle` raises on purpose."""

    reason: ClassVar[str] = "BundleInvalid"
    environment: ClassVar[bool] = False


# -- the bundle itself is at fault ------------------------------------------------------------------


class InvalidReference(BundleError):
    """The text is no `oci://host[:port]/repository@sha256:<64 hex>`."""

    reason = "InvalidReference"


class NotABundle(BundleError):
    """There is something at the reference, but it is no edgefleet bundle (a container image, for example)."""

    reason = "NotABundle"


class Malformed(BundleError):
    """A bundle whose documents break the format: the message names the place."""

    reason = "Malformed"


class UnsupportedFormat(BundleError):
    """A bundle made for a newer edgefleet."""

    reason = "UnsupportedFormat"


class TooLarge(BundleError):
    """A document is larger than the cap for its kind."""

    reason = "TooLarge"


class SizeMismatch(BundleError):
    """Manifest, bundle.json and bytes do not agree on a file's size."""

    reason = "SizeMismatch"


class Unsigned(BundleError):
    """The bundle carries no signature."""

    reason = "Unsigned"


class UntrustedKey(BundleError):
    """Signed, but by no key that is trusted here."""

    reason = "UntrustedKey"


class BadSignature(BundleError):
    """Names a trusted key, but the signature does not fit the bytes."""

    reason = "BadSignature"


class NoSuchVariant(BundleError):
    """The EdgeModel asks for variants the bundle does not have."""

    reason = "NoSuchVariant"


# -- the surroundings are at fault ------------------------------------------------------------------


class Outside(BundleError):
    """Base of what may heal by itself."""

    environment = True


class RegistryUnreachable(Outside):
    """No connection: name not resolved, refused, TLS failed, timed out."""

    reason = "RegistryUnreachable"


class RegistryRefused(Outside):
    """The registry answered 401 or 403."""

    reason = "RegistryRefused"


class RegistryFailed(Outside):
    """The registry answered 429 or 5xx, or nothing that makes sense."""

    reason = "RegistryFailed"
    retry_after: float | None = None
    """Seconds the registry asked to wait."""


class NotARegistry(Outside):
    """A web page came instead of what was asked for: a captive portal, a proxy's login, the wrong address."""

    reason = "NotARegistry"


class NotFound(Outside):
    """The registry does not have it. It may still be pushed, so trying again makes sense."""

    reason = "NotFound"


class DigestMismatch(Outside):
    """The bytes that came are not the bytes asked for: damaged in the registry or on the way."""

    reason = "DigestMismatch"


class TransferInterrupted(Outside):
    """The connection broke again and again; what came is kept and the next pull goes on from there."""

    reason = "TransferInterrupted"


class NoVariantFits(Outside):
    """None of the variants asked for runs on this site's hardware."""

    reason = "NoVariantFits"


class DiskFull(Outside):
    """No room in the store; everything that was whole is still whole."""

    reason = "DiskFull"


class StoreUnavailable(Outside):
    """The store cannot be read or written."""

    reason = "StoreUnavailable"


class NotInStore(Outside):
    """Asked to work from the store alone, but it is not all there."""

    reason = "NotInStore"
