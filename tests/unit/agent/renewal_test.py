"""Renewal of a site's certificate: by the hub's clock, seldom, and never at the price of the link."""

import asyncio
import base64
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from edgefleet.agent.identity import Credential, Identity
from edgefleet.agent.renewal import Renewals
from edgefleet.core import names
from edgefleet.kube import kinds
from edgefleet.kube.client import Explicit
from support.little_api import little_api

MADE = datetime(2030, 1, 1, tzinfo=UTC)
LIFE = timedelta(days=360)
DAY = 86400.0


def credential() -> Credential:
    """A key and a certificate over it, good for 360 days."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    user = names.site_user("shop", Credential(pem).fingerprint)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, user)])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, MADE, MADE + LIFE)
    return Credential(pem, builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))


class Clock:
    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


def date(days: float) -> str:
    return format_datetime(MADE + timedelta(days=days), usegmt=True)


async def test_only_the_hubs_clock_says_when() -> None:
    clock = Clock()
    async with little_api() as (server, api):
        identity = Identity(api, "agent", "shop", Explicit(server.url, b""), None)
        identity.credential = credential()
        renewals = Renewals(identity, clock)
        assert not renewals.due()  # no hub was heard
        renewals.heard(date(239))
        assert not renewals.due()
        clock.now += 2 * DAY
        assert renewals.due()


@pytest.mark.parametrize("code", [403, 500])
async def test_a_renewal_that_fails_is_tried_again_in_hours_and_raises_nothing(code: int) -> None:
    clock = Clock()
    async with little_api() as (server, api):
        server.refuse["POST", kinds.CSR.plural] = code, "not today"
        identity = Identity(api, "agent", "shop", Explicit(server.url, b""), None)
        identity.credential = before = credential()
        renewals = Renewals(identity, clock)
        renewals.heard(date(300))
        assert not await renewals.attempt()
        assert identity.credential == before
        assert not renewals.due()
        clock.now += 3600.0
        assert not renewals.due()
        clock.now += 3 * 3600.0
        assert renewals.due()


async def test_a_renewed_certificate_is_left_alone_for_a_day_even_if_it_looks_old() -> None:
    clock = Clock()
    async with little_api() as (server, api):
        identity = Identity(api, "agent", "shop", Explicit(server.url, b""), None)
        identity.credential = credential()
        signed = identity.credential.certificate_pem

        async def sign() -> None:
            while not server.names(kinds.CSR, None):  # noqa: ASYNC110  the server has no bell
                await asyncio.sleep(0.02)
            for name in server.names(kinds.CSR, None):
                server.objects[kinds.CSR.path(None, name)]["status"] = {
                    "certificate": base64.b64encode(signed).decode()
                }

        renewals = Renewals(identity, clock)
        renewals.heard(date(300))
        signer = asyncio.create_task(sign())
        assert await renewals.attempt()
        await signer
        assert not renewals.due()
        clock.now += DAY - 1
        assert not renewals.due()
        clock.now += DAY
        assert renewals.due()
