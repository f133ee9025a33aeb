"""A packed bundle to where others find it: a registry, or a folder in OCI image layout."""

import io
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO

from edgefleet.build.packing import Packed
from edgefleet.bundle.format import ARTIFACT_TYPE, MANIFEST_TYPE, File
from edgefleet.bundle.oci import Registry
from edgefleet.bundle.options import RegistryOptions
from edgefleet.bundle.reference import Reference


async def push(
    packed: Packed,
    reference: Reference,
    options: RegistryOptions,
    say: Callable[[str], None] = lambda _: None,
) -> Reference:
    """Push all blobs, then the manifest, so that nobody finds half a bundle. Raises BundleError."""
    async with Registry(options) as registry:
        for digest, path in packed.files.items():
            size = path.stat().st_size
            sent = await registry.push_blob(reference, File(digest=digest, size=size), partial(_open, path))
            say(f"{'pushed' if sent else 'already there:'} {path.name} ({size} bytes)")
        for digest, data in packed.documents.items():
            await registry.push_blob(
                reference, File(digest=digest, size=len(data)), partial(io.BytesIO, data)
            )
        return await registry.push_manifest(reference, packed.manifest)


def write_layout(packed: Packed, folder: Path) -> None:
    """Write the bundle as an OCI image layout, which other tools can copy to a registry."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)
    for digest, path in packed.files.items():
        shutil.copyfile(path, blobs / digest.removeprefix("sha256:"))
    for digest, data in {**packed.documents, packed.digest: packed.manifest}.items():
        (blobs / digest.removeprefix("sha256:")).write_bytes(data)
    index = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [
            {
                "mediaType": MANIFEST_TYPE,
                "artifactType": ARTIFACT_TYPE,
                "digest": packed.digest,
                "size": len(packed.manifest),
                "annotations": {"org.opencontainers.image.ref.name": str(packed.config.version)},
            }
        ],
    }
    (folder / "index.json").write_text(json.dumps(index, indent=1))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def _open(path: Path) -> IO[bytes]:
    return path.open("rb")
