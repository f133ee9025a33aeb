"""From a digest to what is believed: every link is checked, and what does not hold has its own reason."""

import base64
import json
from pathlib import Path

import pytest
from edgefleet.bundle import BundleError
from edgefleet.bundle.layout import Layout
from edgefleet.bundle.pull import examine
from support.bundles import ALICE, MALLORY, Forged, Json, forge


async def examined(forged: Forged, folder: Path) -> str:
    """Reason for a refusal, or an empty text."""
    forged.write(folder)
    layout = Layout(folder)
    try:
        await examine(layout, layout.reference(), ALICE.trust)
    except BundleError as error:
        return error.reason
    return ""


async def test_a_signed_bundle_is_believed(tmp_path: Path) -> None:
    forge().write(tmp_path)
    layout = Layout(tmp_path)
    info = (await examine(layout, layout.reference(), ALICE.trust)).info
    assert (info.name, info.version, [variant.name for variant in info.variants]) == (
        "demo",
        1,
        ["int8", "fp32"],
    )
    assert set(info.signed_by) == ALICE.trust.key_ids


def _without_envelope(manifest: Json) -> None:
    manifest["layers"] = [layer for layer in manifest["layers"] if "dsse" not in layer["mediaType"]]


def _reserialised(made: bytes, config: bytes) -> bytes:
    """Return Alice's signature over bundle.json written with other spaces: same meaning, other bytes."""
    from edgefleet.build import signing

    del made
    return signing.sign(json.dumps(json.loads(config), indent=1).encode(), ALICE.signer)


def _foreign_payload(made: bytes, config: bytes) -> bytes:
    """Return the envelope with a payload put in that nobody signed."""
    document = json.loads(made)
    document["payload"] = base64.b64encode(config + b" ").decode()
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("forged", "reason"),
    [
        pytest.param(forge(edit_manifest=_without_envelope), "Unsigned", id="unsigned"),
        pytest.param(forge(by=MALLORY), "UntrustedKey", id="signed-by-somebody-else"),
        pytest.param(forge(envelope=_reserialised), "Malformed", id="payload-written-anew"),
        pytest.param(forge(envelope=_foreign_payload), "BadSignature", id="payload-exchanged"),
        pytest.param(
            forge(edit_manifest=lambda m: m["layers"].append(m["layers"][-1])),
            "Malformed",
            id="two-envelopes",
        ),
        pytest.param(
            forge(
                edit_manifest=lambda m: m["layers"].append({**m["layers"][0], "digest": "sha256:" + "e" * 64})
            ),
            "Malformed",
            id="a-file-nobody-signed",
        ),
        pytest.param(
            forge(edit_manifest=lambda m: m["layers"].pop(0)), "Malformed", id="a-signed-file-is-missing"
        ),
        pytest.param(
            forge(edit_manifest=lambda m: m["layers"][0].update(size=8)), "SizeMismatch", id="sizes-disagree"
        ),
        pytest.param(
            forge({"a": b"same", "b": b"same"}, edit=lambda d: d["variants"][1]["file"].update(size=5)),
            "SizeMismatch",
            id="one-file-two-sizes",
        ),
        pytest.param(
            forge(edit_manifest=lambda m: m["config"].update(size=m["config"]["size"] - 1)),
            "SizeMismatch",
            id="config-of-another-size",
        ),
        pytest.param(forge(edit=lambda d: d.update(surprise=1)), "Malformed", id="signed-but-not-strict"),
        pytest.param(
            forge(config=lambda data: data.replace(b'"version":1', b'"version":1,"version":9')),
            "Malformed",
            id="signed-with-a-key-twice",
        ),
        pytest.param(forge(edit=lambda d: d.update(format=2)), "UnsupportedFormat", id="newer-format"),
        pytest.param(
            forge(edit_manifest=lambda m: m["config"].update(size=1 << 20)),
            "TooLarge",
            id="config-declared-too-large",
        ),
    ],
)
async def test_a_bundle_that_does_not_hold_together_is_refused(
    forged: Forged, reason: str, tmp_path: Path
) -> None:
    assert await examined(forged, tmp_path) == reason


@pytest.mark.parametrize("which", ["manifest", "config"])
async def test_one_flipped_byte_in_a_document_is_found(which: str, tmp_path: Path) -> None:
    forged = forge()
    forged.write(tmp_path)
    layout = Layout(tmp_path)
    reference = layout.reference()
    digest = forged.digest if which == "manifest" else json.loads(forged.manifest)["config"]["digest"]
    data = bytearray(layout.path(digest).read_bytes())
    data[20] ^= 1
    layout.path(digest).write_bytes(data)
    with pytest.raises(BundleError) as caught:
        await examine(layout, reference, ALICE.trust)
    assert caught.value.reason == "DigestMismatch"
