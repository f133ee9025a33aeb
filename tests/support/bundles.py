"""Bundles made of any bytes, whole ones and ones that lie, in a folder or in a registry. No ONNX is involved."""

import copy
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from edgefleet.build import signing
from edgefleet.bundle import Reference, RegistryOptions, Trust
from edgefleet.bundle import format as fmt
from edgefleet.bundle.disk import digest_of
from edgefleet.bundle.oci import Registry
from securesystemslib.signer import CryptoSigner

Json = dict[str, Any]
Edit = Callable[[Json], None]


@dataclass(frozen=True, slots=True)
class Author:
    """Somebody with a key."""

    signer: CryptoSigner
    public: bytes
    """PEM."""

    @property
    def trust(self) -> Trust:
        """Trust in this author alone."""
        return Trust.of(self.public)


def author(seed: int) -> Author:
    """Return the same author for the same seed."""
    key = Ed25519PrivateKey.from_private_bytes(seed.to_bytes(32, "big"))
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return Author(CryptoSigner(key), pem)


ALICE, MALLORY = author(1), author(2)


@dataclass(frozen=True, slots=True)
class Forged:
    """Blobs by digest, and the manifest's bytes."""

    manifest: bytes
    blobs: Mapping[str, bytes]
    config: bytes

    @property
    def digest(self) -> str:
        """The bundle's digest."""
        return digest_of(self.manifest)

    def write(self, folder: Path) -> None:
        """Write an OCI image layout."""
        blobs = folder / "blobs" / "sha256"
        blobs.mkdir(parents=True)
        for digest, data in {**self.blobs, self.digest: self.manifest}.items():
            (blobs / digest.removeprefix("sha256:")).write_bytes(data)
        entry = {"digest": self.digest, "artifactType": fmt.ARTIFACT_TYPE}
        (folder / "index.json").write_text(json.dumps({"manifests": [entry]}))

    async def push(self, host: str, options: RegistryOptions | None = None) -> str:
        """Push it; return the reference."""
        target = Reference(host, "models/forged")
        async with Registry(options or RegistryOptions.create(plain_http=host)) as registry:
            for digest, data in self.blobs.items():
                await registry.push_blob(
                    target, fmt.File(digest=digest, size=len(data)), partial(io.BytesIO, data)
                )
            return str(await registry.push_manifest(target, self.manifest))


def forge(
    models: Mapping[str, bytes] | None = None,
    *,
    golden: bytes = b"golden",
    by: Author = ALICE,
    version: int = 1,
    edit: Edit = lambda _: None,
    config: Callable[[bytes], bytes] = lambda data: data,
    envelope: Callable[[bytes, bytes], bytes] = lambda made, _: made,
    edit_manifest: Edit = lambda _: None,
) -> Forged:
    """Make a bundle of one variant a model. The editors change it on the way:

    `edit` bundle.json before it is signed · `config` its bytes before they are signed · `envelope(made, config)` the
    signature · `edit_manifest` the manifest, at last.
    """
    files = dict(models or {"int8": b"a model", "fp32": b"a larger model"})
    document = _document(files, golden, version)
    edit(document)
    config_bytes = config(json.dumps(document, sort_keys=True, separators=(",", ":")).encode())
    signed = envelope(signing.sign(config_bytes, by.signer), config_bytes)
    manifest = {
        "schemaVersion": 2,
        "mediaType": fmt.MANIFEST_TYPE,
        "artifactType": fmt.ARTIFACT_TYPE,
        "config": _descriptor(fmt.CONFIG_TYPE, config_bytes),
        "layers": [
            *(_descriptor(fmt.WEIGHT_TYPE, data) for data in files.values()),
            _descriptor(fmt.DATASET_TYPE, golden),
            _descriptor(fmt.ENVELOPE_TYPE, signed),
        ],
    }
    edit_manifest(manifest)
    blobs = {digest_of(data): data for data in (config_bytes, signed, golden, *files.values())}
    return Forged(json.dumps(manifest).encode(), blobs, config_bytes)


def _document(files: Mapping[str, bytes], golden: bytes, version: int) -> Json:
    line = {"variant": "float", "bytes": 1, "agreement": 1.0, "drop": 0.0}
    tensor = {"name": "x", "datatype": "FP32", "shape": [-1, 4]}
    return {
        "format": 1,
        "name": "demo",
        "version": version,
        "created": "2030-01-01T00:00:00Z",
        "variants": [
            {"name": name, "file": _file(data), "precision": name, "agreement": 1.0}
            for name, data in files.items()
        ],
        "golden": {"file": _file(golden), "samples": 1, "metric": "top1"},
        "inputs": [tensor],
        "outputs": [copy.deepcopy(tensor)],
        "report": {"maxDrop": 0.01, "measuredBy": "labels", "before": line},
    }


def _file(data: bytes) -> Json:
    return {"digest": digest_of(data), "size": len(data)}


def _descriptor(kind: str, data: bytes) -> Json:
    return {"mediaType": kind, **_file(data)}
