"""The site's own credential: a key that never leaves the site, and a certificate the hub signs for it.

The key is written to its Secret before anything is asked for, so a crash cannot orphan a certificate. Join uses
the one-time token; renewal, at two thirds of the certificate's life, uses the certificate itself.
"""

import asyncio
import base64
import hashlib
import logging
import secrets
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edgefleet.core import names
from edgefleet.kube import errors, kinds
from edgefleet.kube.client import Api, Explicit

log = logging.getLogger(__name__)

SECRET: Final = "edgefleet-identity"  # noqa: S105  the name of a Secret
SIGNER: Final = "kubernetes.io/kube-apiserver-client"
_POLL: Final = 0.5
_PATIENCE: Final = 60.0


class JoinRefused(Exception):  # noqa: N818  says what happened, like the errors of kube
    """The hub does not take this site in; `reason` is for conditions, the message says what to do."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Credential:
    """Key and certificate, PEM; either may be missing."""

    key_pem: bytes = b""
    certificate_pem: bytes = b""

    @property
    def key(self) -> ec.EllipticCurvePrivateKey:
        """The private key. Raises ValueError when there is none of the right kind."""
        key = serialization.load_pem_private_key(self.key_pem, None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError("not an elliptic curve key")  # noqa: TRY004  a bad file, no bug
        return key

    @property
    def fingerprint(self) -> str:
        """SHA-256, hex, of the public key (DER SubjectPublicKeyInfo)."""
        spki = self.key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return hashlib.sha256(spki).hexdigest()

    def usable(self, site: str) -> bool:
        """Return whether there is a certificate for this site and key.

        Whether it has expired is for the hub to say: the clock here may be years off.
        """
        return self._certificate(site) is not None

    def renewal_due(self, site: str, now: datetime) -> bool:
        """Return whether two thirds of the certificate's life are over."""
        certificate = self._certificate(site)
        if certificate is None:
            return True
        life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
        return now >= certificate.not_valid_before_utc + life * 2 / 3

    def life(self, site: str) -> float:
        """Return how long the certificate is good for from its first to its last second; 0 without one."""
        certificate = self._certificate(site)
        if certificate is None:
            return 0.0
        return (certificate.not_valid_after_utc - certificate.not_valid_before_utc).total_seconds()

    def _certificate(self, site: str) -> x509.Certificate | None:
        if not self.certificate_pem or not self.key_pem:
            return None
        try:
            certificate = x509.load_pem_x509_certificate(self.certificate_pem)
            mine = certificate.public_key() == self.key.public_key()
        except ValueError:
            return None
        named = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        right = bool(named) and named[0].value == names.site_user(site, self.fingerprint)
        return certificate if mine and right else None


class Identity:
    """Keeps the credential of one site in a Secret of the site's own API server."""

    def __init__(self, api: Api, namespace: str, site: str, hub: Explicit, token_file: Path | None) -> None:
        """`hub` says where the hub is, without a credential."""
        self._api = api
        self._namespace = namespace
        self._hub = hub
        self._token_file = token_file
        self.site = site
        self.credential = Credential()

    async def ensure(self) -> Credential:
        """Return the site's certificate, joining the hub if there is none.

        Raises JoinRefused and ApiError (of the site's server or the hub's).
        """
        self.credential = await self._read()
        if not self.credential.key_pem:
            key = ec.generate_private_key(ec.SECP256R1())
            pem = key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            self.credential = await self._store(Credential(pem))
        if not self.credential.usable(self.site):
            await self.join()
        return self.credential

    async def join(self) -> Credential:
        """Ask for a certificate with the join token. Raises JoinRefused, ApiError."""
        token = self._token()
        if not token:
            raise JoinRefused(
                "NoJoinToken",
                f"this site has no certificate and no join token: run `edgefleet site token {self.site}` on the "
                "hub and upgrade the chart with it",
            )
        try:
            return await self._request(Explicit(self._hub.server, self._hub.ca_pem, token=token))
        except errors.Unauthorized as error:
            raise JoinRefused(
                "JoinTokenInvalid",
                f"the hub does not accept the join token: it has expired or was used already; run `edgefleet site "
                f"token {self.site}` on the hub and upgrade the chart with the new one",
            ) from error

    async def renew(self) -> Credential:
        """Ask for a certificate with the one there is. Raises JoinRefused, ApiError."""
        return await self._request(self.access())

    def due(self, now: datetime) -> bool:
        """Return whether it is time to renew. `now` by the hub's clock, which is the one that made the certificate."""
        return self.credential.renewal_due(self.site, now)

    def access(self) -> Explicit:
        """Say how to reach the hub as this site."""
        return Explicit(
            self._hub.server,
            self._hub.ca_pem,
            cert_pem=self.credential.certificate_pem,
            key_pem=self.credential.key_pem,
        )

    def _token(self) -> str:
        try:
            return self._token_file.read_text().strip() if self._token_file else ""
        except OSError:
            return ""

    async def _request(self, access: Explicit) -> Credential:
        fingerprint = self.credential.fingerprint
        name = f"edgefleet-{self.site}-{fingerprint[:16]}-{secrets.token_hex(3)[:5]}"
        body = {
            "metadata": {"name": name},
            "spec": {
                "request": base64.b64encode(self._csr(fingerprint)).decode(),
                "signerName": SIGNER,
                "usages": ["client auth"],
            },
        }
        async with Api.explicit(access, manager=names.AGENT_MANAGER, keepalive=None) as api:
            await api.create(kinds.CSR, None, body)
            log.info("Certificate requested", extra={"csr": name})
            certificate = await self._signed(api, name)
        return await self._store(Credential(self.credential.key_pem, certificate))

    def _csr(self, fingerprint: str) -> bytes:
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, names.SITES_ORGANIZATION),
                x509.NameAttribute(NameOID.COMMON_NAME, names.site_user(self.site, fingerprint)),
            ]
        )
        request = x509.CertificateSigningRequestBuilder().subject_name(subject)
        return request.sign(self.credential.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    async def _signed(self, api: Api, name: str) -> bytes:
        """Wait for the hub's verdict. Raises JoinRefused, ApiError: Unauthorized when the token ends meanwhile."""
        for _ in range(int(_PATIENCE / _POLL)):
            status = (await api.get(kinds.CSR, None, name)).get("status") or {}
            for condition in status.get("conditions") or ():
                if condition.get("type") in ("Denied", "Failed"):
                    raise JoinRefused(
                        f"Join{condition['type']}",
                        f"the hub refused {name}: {condition.get('reason', '')}: {condition.get('message', '')}",
                    )
            if status.get("certificate"):
                return base64.b64decode(status["certificate"])
            await asyncio.sleep(_POLL)
        raise JoinRefused(
            "JoinPending",
            f"nobody approved {name} within {_PATIENCE:.0f} s: is the operator running on the hub, and is there an "
            f"EdgeSite {self.site}?",
        )

    async def _read(self) -> Credential:
        try:
            data = (await self._api.get(kinds.SECRET, self._namespace, SECRET)).get("data") or {}
        except errors.NotFound:
            return Credential()
        return Credential(
            base64.b64decode(data.get("tls.key", "")), base64.b64decode(data.get("tls.crt", ""))
        )

    async def _store(self, credential: Credential) -> Credential:
        data = {
            "tls.key": base64.b64encode(credential.key_pem).decode(),
            "tls.crt": base64.b64encode(credential.certificate_pem).decode(),
        }
        body: dict[str, Any] = {"metadata": {"name": SECRET, "namespace": self._namespace}, "data": data}
        try:
            await self._api.merge_patch(kinds.SECRET, self._namespace, SECRET, {"data": data})
        except errors.NotFound:
            await self._api.create(kinds.SECRET, self._namespace, body)
        self.credential = credential
        return credential
