"""Only what a trusted key signed, byte for byte, is believed."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from edgefleet.build import signing
from edgefleet.bundle import BundleError, Trust
from edgefleet.bundle.trust import TrustError
from support.bundles import ALICE, MALLORY

PAYLOAD = b'{"some": "bytes"}'


def envelope(change: Callable[[dict[str, Any]], object] = lambda _: None) -> bytes:
    document = json.loads(signing.sign(PAYLOAD, ALICE.signer))
    change(document)
    return json.dumps(document).encode()


def test_what_a_trusted_key_signed_comes_back_unchanged() -> None:
    payload, signed_by = ALICE.trust.verify(envelope())
    assert payload == PAYLOAD
    assert set(signed_by) == ALICE.trust.key_ids


def test_one_of_several_trusted_keys_is_enough() -> None:
    assert Trust.of(MALLORY.public, ALICE.public).verify(envelope())[0] == PAYLOAD


def test_a_broken_signature_beside_a_good_one_does_no_harm() -> None:
    def add(document: dict[str, Any]) -> None:
        document["signatures"].insert(0, {"keyid": "00", "sig": "AAAA"})

    assert ALICE.trust.verify(envelope(add))[0] == PAYLOAD


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(envelope(lambda d: d["signatures"].clear()), "Unsigned", id="no-signature"),
        pytest.param(signing.sign(PAYLOAD, MALLORY.signer), "UntrustedKey", id="another-key"),
        pytest.param(envelope(lambda d: d["signatures"][0].update(keyid="ff" * 32)), "UntrustedKey", id="unknown-key-id"),
        pytest.param(envelope(lambda d: d["signatures"][0].update(sig=base64.b64encode(bytes(64)).decode())), "BadSignature", id="zeros-for-a-signature"),
        pytest.param(envelope(lambda d: d["signatures"][0].update(sig="")), "BadSignature", id="empty-signature"),
        pytest.param(envelope(lambda d: d.update(payload=base64.b64encode(PAYLOAD + b" ").decode())), "BadSignature", id="one-space-more"),
        pytest.param(envelope(lambda d: d.update(payloadType="application/json")), "Malformed", id="another-payload-type"),
        pytest.param(envelope(lambda d: d["signatures"].append(d["signatures"][0])), "Malformed", id="one-key-twice"),
        pytest.param(envelope(lambda d: d.update(payload="%%%")), "Malformed", id="payload-not-base64"),
        pytest.param(envelope(lambda d: d.update(signatures={"keyid": "x"})), "Malformed", id="object-for-a-list"),
        pytest.param(envelope(lambda d: d.update(signatures=["x"])), "Malformed", id="text-for-an-object"),
        pytest.param(envelope(lambda d: d.pop("payload")), "Malformed", id="no-payload"),
        pytest.param(envelope().replace(b'"payloadType"', b'"payload":"","payloadType"'), "Malformed", id="payload-twice"),
        pytest.param(b"", "Malformed", id="empty"),
        pytest.param(b"<html>", "Malformed", id="a-web-page"),
        pytest.param(b"{" + b" " * (1 << 20) + b"}", "TooLarge", id="too-large"),
    ],
)  # fmt: skip
def test_anything_else_is_refused_with_its_own_reason(data: bytes, reason: str) -> None:
    with pytest.raises(BundleError) as caught:
        ALICE.trust.verify(data)
    assert caught.value.reason == reason
    assert not caught.value.environment


def test_a_key_that_borrows_a_trusted_keys_id_is_not_believed() -> None:
    (trusted,) = ALICE.trust.key_ids
    forged = json.loads(signing.sign(PAYLOAD, MALLORY.signer))
    forged["signatures"][0]["keyid"] = trusted
    with pytest.raises(BundleError) as caught:
        ALICE.trust.verify(json.dumps(forged).encode())
    assert caught.value.reason == "BadSignature"


def test_all_keys_of_a_folder_are_trusted_and_other_files_are_not_looked_at(tmp_path: Path) -> None:
    (tmp_path / "a.pem").write_bytes(ALICE.public)
    (tmp_path / "b.pub").write_bytes(MALLORY.public)
    (tmp_path / "readme.txt").write_text("no key")
    assert Trust.load(tmp_path).key_ids == ALICE.trust.key_ids | MALLORY.trust.key_ids
    assert Trust.load(tmp_path / "a.pem").key_ids == ALICE.trust.key_ids


RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())


@pytest.mark.parametrize(
    ("pem", "says"),
    [
        pytest.param(b"", "not a PEM public key", id="empty"),
        pytest.param(b"\0" * 40_000, "too many", id="too-large"),
        pytest.param(ALICE.public[:60], "not a PEM public key", id="truncated"),
        pytest.param(
            RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
            "Ed25519",
            id="rsa",
        ),
        pytest.param(
            EC.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), "Ed25519", id="ec"
        ),
        pytest.param(
            EC.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), "private key", id="private"
        ),
    ],
)
def test_a_file_that_is_no_ed25519_public_key_is_named(pem: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / "good.pem").write_bytes(ALICE.public)
    (tmp_path / "odd.pem").write_bytes(pem)
    with pytest.raises(TrustError, match=f"odd.pem.*{says}"):
        Trust.load(tmp_path)


def test_trusting_nobody_is_a_fault_and_not_a_way_to_accept_all(tmp_path: Path) -> None:
    with pytest.raises(TrustError, match="no public key"):
        Trust.load(tmp_path)
    with pytest.raises(TrustError, match="No such file"):
        Trust.load(tmp_path / "missing")
