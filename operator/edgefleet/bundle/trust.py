"""Whose bundles are believed: Ed25519 public keys given at install. One valid signature by one of them is enough."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import Key, SSlibKey

from edgefleet.bundle.errors import BadSignature, Malformed, Unsigned, UntrustedKey
from edgefleet.bundle.format import CONFIG_TYPE, ENVELOPE_CAP, strict_json

_PEM_CAP = 16 * 1024


class TrustError(ValueError):
    """The trusted keys cannot be read: the message names the file."""


class _Signature(msgspec.Struct, frozen=True):
    keyid: str
    sig: str


class _Envelope(msgspec.Struct, frozen=True, rename="camel"):
    payload: str
    payload_type: str
    signatures: tuple[_Signature, ...]


@dataclass(frozen=True, slots=True)
class Trust:
    """A set of public keys."""

    keys: tuple[Key, ...]

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read one PEM file, or all `*.pem` and `*.pub` files of a directory.

        Raises TrustError when there is no key or one cannot be read: to trust less than was meant is a fault
        somebody has to see, to trust nothing also.
        """
        place = Path(path)
        if place.is_dir():
            files = sorted(
                item for item in place.iterdir() if item.suffix in {".pem", ".pub"} and item.is_file()
            )
        else:
            files = [place]
        if not files:
            raise TrustError(f"{place} holds no public key (*.pem, *.pub)")
        return cls(tuple(public_key(_read(item), str(item)) for item in files))

    @classmethod
    def of(cls, *pems: bytes) -> Self:
        """Trust the keys in these PEM texts."""
        return cls(tuple(public_key(pem, "the public key") for pem in pems))

    @property
    def key_ids(self) -> frozenset[str]:
        """Ids of the trusted keys."""
        return frozenset(key.keyid for key in self.keys)

    def verify(self, envelope: bytes) -> tuple[bytes, tuple[str, ...]]:
        """Return the signed bytes and the ids of the trusted keys that signed them.

        Raises Malformed, Unsigned, UntrustedKey, BadSignature.
        """
        parsed = _parse(envelope)
        known = [key for key in self.keys if key.keyid in parsed.signatures]
        if not known:
            signers = ", ".join(keyid[:16] for keyid in parsed.signatures)
            trusted = ", ".join(sorted(keyid[:16] for keyid in self.key_ids)) or "none"
            raise UntrustedKey(f"signed by {signers}; trusted here: {trusted}")
        holding = [key.keyid for key in known if _holds(parsed, key)]
        if not holding:
            raise BadSignature(f"the signature by {known[0].keyid[:16]} does not fit the signed bytes")
        return parsed.payload, tuple(sorted(holding))


def public_key(pem: bytes, source: str) -> Key:
    """Read an Ed25519 public key. Raises TrustError naming the source."""
    if len(pem) > _PEM_CAP:
        raise TrustError(f"{source}: {len(pem)} bytes are too many for a public key")
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        hint = "; this is a private key, keep it away from here" if b"PRIVATE KEY" in pem else ""
        raise TrustError(f"{source}: not a PEM public key{hint}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise TrustError(f"{source}: must be an Ed25519 key; make one with `edgefleet keys create`")
    return SSlibKey.from_crypto(key)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_PEM_CAP + 1)
    except OSError as error:
        raise TrustError(f"{path}: {error.strerror}") from error


def _parse(data: bytes) -> Envelope:
    raw = strict_json(data, "the signature envelope", ENVELOPE_CAP)
    try:
        shape = msgspec.convert(raw, _Envelope)
    except msgspec.ValidationError as error:
        raise Malformed(f"the signature envelope: {error}") from error
    if not shape.signatures:
        raise Unsigned("the envelope carries no signature")
    if shape.payload_type != CONFIG_TYPE:
        raise Malformed(f"the signature is over {shape.payload_type!r}, not over {CONFIG_TYPE!r}")
    try:
        return Envelope.from_dict(msgspec.to_builtins(shape))
    except (ValueError, KeyError, TypeError) as error:
        raise Malformed(f"the signature envelope: {error}") from error


def _holds(envelope: Envelope, key: Key) -> bool:
    try:
        return key.keyid in envelope.verify([key], 1)
    except VerificationError:
        return False
