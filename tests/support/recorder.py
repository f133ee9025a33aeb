"""A way to an API server that writes every request down: who asked for what, with which headers and body, in which order.

It ends TLS with a certificate of its own and passes requests on as whoever it met: a bearer token as it is, a client
certificate as impersonation of its name and groups by an administrator. So rights are the caller's own.
"""

import asyncio
import contextlib
import ipaddress
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from edgefleet.kube.client import Api
from support.fake_agent import ca_of

_LOOPBACK: Final = ipaddress.ip_address("127.0.0.1")
_DROPPED: Final = frozenset({"Host", "Transfer-Encoding", "Content-Length", "Connection", "Content-Encoding"})


@dataclass(frozen=True)
class Request:
    """One request as it came over the wire."""

    user: str
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any
    """Decoded JSON; None without one."""
    status: int


@dataclass
class Recorder:
    """Listens on loopback; `seen` grows in the order in which requests came."""

    target: str
    token: str
    """Authorization of an administrator, with its scheme."""
    authority: bytes
    """PEM of the CA of the API server, which signs clients too."""
    folder: Path
    seen: list[Request] = field(default_factory=list)
    port: int = 0

    @classmethod
    @contextlib.asynccontextmanager
    async def before(cls, admin: Api, folder: Path) -> AsyncIterator["Recorder"]:
        """Stand before the API server of an administrator, who came with a token."""
        where = await admin.connection()
        made = cls(where.server, where.token, ca_of(where), folder)
        async with made._running():
            yield made

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def ca(self) -> Path:
        """What callers have to trust."""
        return self.folder / "recorder.pem"

    def by(self, user: str) -> list[Request]:
        """Requests of one user so far."""
        return [item for item in self.seen if item.user == user]

    @contextlib.asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        app = web.Application(client_max_size=4 << 20)
        app.router.add_route("*", "/{path:.*}", self._pass)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self._tls())
        await site.start()
        assert site._server is not None
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
        up = ssl.create_default_context(cadata=self.authority.decode())
        connector = aiohttp.TCPConnector(ssl=up, limit=0)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as self._up:
            try:
                yield
            finally:
                await runner.cleanup()

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        user, headers = self._as_whom(request)
        raw = await request.read()
        url = self.target + request.raw_path
        async with self._up.request(
            request.method, url, data=raw or None, headers=headers, timeout=aiohttp.ClientTimeout(total=None)
        ) as answer:
            body = msgspec.json.decode(raw) if raw else None
            self.seen.append(
                Request(
                    user,
                    request.method,
                    request.path,
                    dict(request.query),
                    dict(request.headers),
                    body,
                    answer.status,
                )
            )
            kept = {key: value for key, value in answer.headers.items() if key not in _DROPPED}
            reply = web.StreamResponse(status=answer.status, headers=kept)
            await reply.prepare(request)
            with contextlib.suppress(ConnectionError, aiohttp.ClientError, asyncio.CancelledError):
                async for piece in answer.content.iter_any():
                    await reply.write(piece)
                await reply.write_eof()
            return reply

    def _as_whom(self, request: web.Request) -> tuple[str, dict[str, str]]:
        headers = {key: value for key, value in request.headers.items() if key not in _DROPPED}
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

    def _tls(self) -> ssl.SSLContext:
        self.folder.mkdir(parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "recorder")])
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
        pair = self.folder / "recorder.key"
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
