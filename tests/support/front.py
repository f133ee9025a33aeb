"""The front of an API server as a proxy has to be it for sites: TLS, and rights that stay the caller's own.

It ends TLS with a certificate of its own and says as whom to go on: a bearer token as it is, a client certificate as
impersonation of its name and groups by an administrator.
"""

import ipaddress
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from edgefleet.kube.client import Api
from support.fake_agent import ca_of

_LOOPBACK: Final = ipaddress.ip_address("127.0.0.1")
DROPPED: Final = frozenset({"Host", "Transfer-Encoding", "Content-Length", "Connection", "Content-Encoding"})


@dataclass(frozen=True)
class Front:
    """On loopback."""

    token: str
    """Authorization of an administrator, with its scheme."""
    authority: bytes
    """PEM of the CA of the API server, which signs clients too."""
    folder: Path

    @classmethod
    async def of(cls, admin: Api, folder: Path) -> "Front":
        """Stand before the API server of an administrator, who came with a token."""
        where = await admin.connection()
        return cls(where.token, ca_of(where), folder)

    @property
    def ca(self) -> Path:
        """What callers have to trust; there once `tls` was asked for."""
        return self.folder / "front.pem"

    def whom(self, request: web.Request) -> tuple[str, dict[str, str]]:
        """The user a request is from (`token`: whoever has it), and the headers with which it goes on."""
        headers = {key: value for key, value in request.headers.items() if key not in DROPPED}
        assert request.transport is not None
        certificate = request.transport.get_extra_info("peercert")
        if "Authorization" in headers or not certificate:
            return "token", headers
        subject = {key: value for part in certificate["subject"] for key, value in part}
        user = str(subject["commonName"])
        return user, {
            **headers,
            "Authorization": self.token,
            "Impersonate-User": user,
            "Impersonate-Group": str(subject["organizationName"]),
        }

    def tls(self) -> ssl.SSLContext:
        """Make a certificate, and the way to serve with it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "front")])
        now = datetime.now(UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(_LOOPBACK)]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .sign(key, hashes.SHA256())
        )
        self.ca.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        pair = self.folder / "front.key"
        pair.touch(mode=0o600)
        pair.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=self.authority.decode())
        context.load_cert_chain(self.ca, pair)
        context.verify_mode = ssl.CERT_OPTIONAL
        return context
