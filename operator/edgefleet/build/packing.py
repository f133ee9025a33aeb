"""Bundle documents from what was built: bundle.json, its signature, the manifest."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from securesystemslib.signer import CryptoSigner

from edgefleet.build import signing
from edgefleet.bundle import format as fmt
from edgefleet.bundle.disk import digest_of


@dataclass(frozen=True, slots=True)
class Packed:
    """A bundle on this disk, ready to be pushed."""

    config: fmt.BundleConfig
    manifest: bytes
    documents: Mapping[str, bytes]
    """bundle.json and envelope by digest."""
    files: Mapping[str, Path]
    """Models and golden set by digest."""

    @property
    def digest(self) -> str:
        """The bundle's digest."""
        return digest_of(self.manifest)


def describe(path: Path) -> fmt.File:
    """Digest and size of a file."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    return fmt.File(digest=f"sha256:{found}", size=path.stat().st_size)


def pack(config: fmt.BundleConfig, files: Mapping[str, Path], signer: CryptoSigner) -> Packed:
    """Sign bundle.json and put the manifest around it. `files`: by digest."""
    config_bytes = fmt.canonical(config)
    fmt.parse_bundle(config_bytes)  # nothing leaves that the readers would refuse
    envelope = signing.sign(config_bytes, signer)
    layers = {
        variant.file.digest: _layer(fmt.WEIGHT_TYPE, variant.file, f"{variant.name}.onnx")
        for variant in config.variants
    }
    layers[config.golden.file.digest] = _layer(fmt.DATASET_TYPE, config.golden.file, "golden.npz")
    manifest = fmt.Manifest(
        schema_version=2,
        media_type=fmt.MANIFEST_TYPE,
        artifact_type=fmt.ARTIFACT_TYPE,
        config=_document(fmt.CONFIG_TYPE, config_bytes),
        layers=(*layers.values(), _document(fmt.ENVELOPE_TYPE, envelope)),
        annotations={
            "org.opencontainers.image.title": config.name,
            "org.opencontainers.image.version": str(config.version),
            "org.opencontainers.image.created": config.created,
        },
    )
    manifest_bytes = fmt.canonical(manifest)
    fmt.parse_manifest(manifest_bytes)
    documents = {digest_of(data): data for data in (config_bytes, envelope)}
    return Packed(config, manifest_bytes, documents, dict(files))


def _layer(kind: str, file: fmt.File, name: str) -> fmt.Descriptor:
    return fmt.Descriptor(
        media_type=kind, digest=file.digest, size=file.size, annotations={fmt.FILEPATH: name}
    )


def _document(kind: str, data: bytes) -> fmt.Descriptor:
    return fmt.Descriptor(media_type=kind, digest=digest_of(data), size=len(data))
