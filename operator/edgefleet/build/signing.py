"""Keys that sign bundles, and signing. The private key stays with whoever builds."""

import json
import os
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner

from edgefleet.build.errors import KeyInvalid
from edgefleet.bundle.format import CONFIG_TYPE


def create_keys(private: Path, public: Path) -> str:
    """Write a new key pair, PEM; the private one readable by its owner only. Return the key id.

    Raises FileExistsError rather than overwrite a key.
    """
    key = Ed25519PrivateKey.generate()
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    _write_new(private, secret, 0o600)
    try:
        _write_new(
            public, key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), 0o644
        )
    except FileExistsError:
        private.unlink()
        raise
    return CryptoSigner(key).public_key.keyid


def signer(path: Path) -> CryptoSigner:
    """Read a private key. Raises KeyInvalid."""
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise KeyInvalid(f"{path}: {error.strerror}") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyInvalid(f"{path} is no PEM private key without a password: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyInvalid(f"{path} must be an Ed25519 key; make one with `edgefleet keys create`")
    return CryptoSigner(key)


def sign(config: bytes, with_: CryptoSigner) -> bytes:
    """Return the DSSE envelope over exactly these bytes of bundle.json."""
    envelope = Envelope(config, CONFIG_TYPE, {})
    envelope.sign(with_)
    return json.dumps(envelope.to_dict(), sort_keys=True, separators=(",", ":")).encode()


def _write_new(path: Path, data: bytes, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
