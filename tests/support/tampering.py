"""Turns a good bundle in a registry into a bad one, as an attacker with access to the registry could."""

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

DSSE = "application/vnd.edgefleet.bundle.dsse.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def without_signature(reference: str) -> str:
    """The same bundle without its signature, under its new digest."""
    manifest = _manifest(reference)
    manifest["layers"] = [layer for layer in manifest["layers"] if layer["mediaType"] != DSSE]
    return _put(reference, manifest)


def _manifest(reference: str) -> dict[str, Any]:
    request = urllib.request.Request(_url(reference), headers={"Accept": MANIFEST})
    with urllib.request.urlopen(request, timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def _put(reference: str, manifest: dict[str, Any]) -> str:
    body = json.dumps(manifest).encode()
    digest = f"sha256:{sha256(body).hexdigest()}"
    changed = f"{reference.partition('@')[0]}@{digest}"
    headers = {"Content-Type": MANIFEST}
    with urllib.request.urlopen(
        urllib.request.Request(_url(changed), body, headers, method="PUT"), timeout=10
    ):
        return changed


def _url(reference: str) -> str:
    host, _, path = reference.removeprefix("oci://").partition("/")
    repository, _, digest = path.partition("@")
    return f"http://{host}/v2/{repository.partition(':')[0]}/manifests/{digest}"


@contextmanager
def flipped_byte_of_model(reference: str, registry_data: Path) -> Iterator[None]:
    """Change one byte of the bundle's first ONNX file where the registry keeps it, for a while.

    Every bundle with the same model shares that file: left as it is, later tests would meet it.
    """
    layer = next(each for each in _manifest(reference)["layers"] if "weight" in each["mediaType"])
    hexadecimal = layer["digest"].removeprefix("sha256:")
    blob = registry_data / "docker/registry/v2/blobs/sha256" / hexadecimal[:2] / hexadecimal / "data"
    whole = blob.read_bytes()
    content = bytearray(whole)
    content[len(content) // 2] ^= 0x01
    blob.write_bytes(content)
    try:
        yield
    finally:
        blob.write_bytes(whole)
