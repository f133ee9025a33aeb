"""Whatever comes for a bundle, the answer is a bundle or a BundleError: never a traceback, never a belief in lies."""

import json
import random
from collections.abc import Mapping

import pytest
from edgefleet.bundle import BundleError, Reference
from edgefleet.bundle import format as fmt
from edgefleet.bundle.pull import examine
from support.bundles import ALICE, Forged, forge

GOOD = forge()
PIECES = (
    b'"',
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"null",
    b"-1",
    b"1e400",
    b"\\ud800",
    b"\xff",
    b"\x00",
    b"9" * 40,
)


class Memory:
    """Documents that hash to whatever is asked of them: only what comes after the digest is tried."""

    def __init__(self, forged: Forged, exchanged: Mapping[str, bytes]) -> None:
        self._documents = {**forged.blobs, forged.digest: forged.manifest, **exchanged}

    async def manifest(self, reference: Reference) -> bytes:
        return self._documents[reference.digest]

    async def document(self, reference: Reference, descriptor: fmt.Descriptor, cap: int) -> bytes:
        return self._documents.get(descriptor.digest, b"")


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Return the bytes with a piece overwritten, put in, or cut out."""
    at, length = rng.randrange(len(data)), rng.choice((0, 1, 1, 4, 40))
    return data[:at] + rng.choice((b"", *PIECES, bytes([rng.randrange(256)]))) + data[at + length :]


@pytest.mark.parametrize("seed", range(4))
async def test_a_mutated_document_is_refused_or_means_the_same(seed: int) -> None:
    rng = random.Random(seed)
    manifest = json.loads(GOOD.manifest)
    envelope = next(layer["digest"] for layer in manifest["layers"] if "dsse" in layer["mediaType"])
    believed = 0
    for _ in range(250):
        digest = rng.choice((GOOD.digest, manifest["config"]["digest"], envelope))
        data = {**GOOD.blobs, GOOD.digest: GOOD.manifest}[digest]
        source = Memory(GOOD, {digest: mutated(data, rng)})
        try:
            found = await examine(source, Reference("h", "r", digest=GOOD.digest), ALICE.trust)
        except BundleError as error:
            assert str(error)
            continue
        believed += 1
        assert found.info.config == fmt.parse_bundle(GOOD.config)
    assert believed < 100, "most mutations must matter, or this tries nothing"


@pytest.mark.parametrize("seed", range(4))
async def test_a_bundle_json_that_was_signed_mutated_is_refused_or_read_strictly(seed: int) -> None:
    rng = random.Random(seed)
    refused = 0
    for _ in range(100):
        forged = forge(config=lambda data: mutated(data, rng))
        try:
            found = await examine(Memory(forged, {}), Reference("h", "r", digest=forged.digest), ALICE.trust)
        except BundleError as error:
            assert str(error)
            refused += 1
            continue
        assert fmt.parse_bundle(fmt.canonical(found.info.config)) == found.info.config
    assert refused > 50
