"""Where an API server is and how to speak to it, by the official client's own rules.

`kubernetes.aio.config` reads kubeconfigs (files, inline data, exec plugins, token files, proxies) and the
in-cluster ServiceAccount, whose token it reads again before it expires.
"""

import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path

from kubernetes.aio import config
from kubernetes.aio.client import Configuration
from kubernetes.aio.client.rest import RESTClientObject


@dataclass(frozen=True, slots=True)
class Explicit:
    """An API server named by hand, with a client certificate or a bearer token. All PEM."""

    server: str
    ca_pem: bytes
    cert_pem: bytes = b""
    key_pem: bytes = b""
    token: str = ""


@dataclass(frozen=True, slots=True)
class Connection:
    """What another library needs to speak to the same server as the same user. Paths are of PEM files."""

    server: str
    ca_path: str | None
    certificate_path: str | None
    private_key_path: str | None
    token: str
    """As in the Authorization header, with its scheme."""
    insecure: bool
    proxy: str | None


def connection(settings: Configuration, authorization: str) -> Connection:
    """Read the connection out of settings that came from a kubeconfig or from the pod."""
    return Connection(
        server=settings.host,
        ca_path=settings.ssl_ca_cert,
        certificate_path=settings.cert_file,
        private_key_path=settings.key_file,
        token=authorization,
        insecure=not settings.verify_ssl,
        proxy=settings.proxy,
    )


async def from_kubeconfig(path: Path | None, context: str | None = None) -> Configuration:
    """Read a kubeconfig (default: `KUBECONFIG` or `~/.kube/config`).

    Raises ValueError naming the file when it cannot be used.
    """
    settings = Configuration()
    try:
        await config.load_kube_config(str(path) if path else None, context, settings)  # type: ignore[no-untyped-call]
    except (config.ConfigException, OSError) as error:
        raise ValueError(f"kubeconfig {path or 'by default'}: {error}") from error
    return settings


def in_cluster() -> Configuration:
    """Use the ServiceAccount of the pod this process runs in. Raises ValueError outside a pod."""
    settings = Configuration()
    try:
        config.load_incluster_config(settings)  # type: ignore[no-untyped-call]
    except config.ConfigException as error:
        raise ValueError(f"not in a pod with a ServiceAccount token: {error}") from error
    return settings


def from_explicit(where: Explicit) -> tuple[Configuration, ssl.SSLContext]:
    """Use what is given. The key touches the disk only for as long as OpenSSL needs to read it.

    Raises ValueError when the certificates or the key do not parse or do not belong together.
    """
    settings = Configuration()
    settings.host = where.server.rstrip("/")
    if where.token:
        settings.api_key["BearerToken"] = f"Bearer {where.token}"
    try:
        context = ssl.create_default_context(cadata=where.ca_pem.decode())
        if where.cert_pem:
            with tempfile.TemporaryDirectory(prefix="edgefleet-") as folder:
                pair = Path(folder) / "pair.pem"
                pair.touch(mode=0o600)
                pair.write_bytes(where.key_pem.rstrip() + b"\n" + where.cert_pem)
                context.load_cert_chain(pair)
    except (ssl.SSLError, UnicodeDecodeError, OSError) as error:
        raise ValueError(f"credentials for {where.server}: {error}") from error
    return settings, context


def tls_context(settings: Configuration) -> ssl.SSLContext:
    """TLS as the official client would set it up for these settings."""
    # The settings' property is all we take: no pool is made until its first request, and it makes none.
    context: ssl.SSLContext = RESTClientObject(settings).ssl_context
    return context
