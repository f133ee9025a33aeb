"""Thousands of simulated sites in one process: `python -m bench.simulator`, told by flags, telling in JSON lines.

Each site has a client certificate of its own, signed by the CA of the cluster, so authentication and RBAC are those
of real sites. Sites that joined by a certificate request have theirs in the folder `--joined`.
"""

import argparse
import asyncio
import base64
import contextlib
import json
import resource
import signal
import ssl
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import uvloop
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from edgefleet.core import names

from bench.lines import Lines, Traffic
from bench.simulated import SimulatedSite
from bench.simulated_orders import Nature

TELL_EVERY: Final = 1.0
_DAY: Final = timedelta(days=1)


@dataclass(frozen=True)
class Signer:
    """Makes client certificates as the hub's controller manager would, all for one key."""

    authority: x509.Certificate
    authority_key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def of_cluster(cls, pki: Path, key: Path) -> "Signer":
        """Use the CA a localkube cluster keeps in `pki`, and the sites' key from a PEM file."""
        authority_key = serialization.load_pem_private_key((pki / "ca.key").read_bytes(), None)
        own = serialization.load_pem_private_key(key.read_bytes(), None)
        assert isinstance(authority_key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)
        assert isinstance(own, ec.EllipticCurvePrivateKey)
        return cls(x509.load_pem_x509_certificate((pki / "ca.crt").read_bytes()), authority_key, own)

    def pair(self, site: str) -> bytes:
        """Key and certificate of a site, PEM."""
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, names.SITES_ORGANIZATION),
                x509.NameAttribute(NameOID.COMMON_NAME, names.site_user(site, key_id(self.key))),
            ]
        )
        now = datetime.now(UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.authority.subject)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _DAY)
            .not_valid_after(now + 30 * _DAY)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .sign(self.authority_key, hashes.SHA256())
        )
        return key_pem(self.key) + made.public_bytes(serialization.Encoding.PEM)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key as PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def key_id(key: ec.EllipticCurvePrivateKey) -> str:
    """What a key is known by: SHA-256 of its public half, hex."""
    digest = hashes.Hash(hashes.SHA256())
    digest.update(
        key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return digest.finalize().hex()


def hub_of(kubeconfig: Path) -> tuple[str, int, str]:
    """Host, port and CA (PEM) of the server of a kubeconfig."""
    cluster = yaml.safe_load(kubeconfig.read_text())["clusters"][0]["cluster"]
    where = urlsplit(cluster["server"])
    assert where.hostname
    authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
    return where.hostname, where.port or 443, authority


def context(authority: str, pair: bytes, scratch: Path) -> ssl.SSLContext:
    """TLS of one site. The key is on disk for as long as OpenSSL needs to read it."""
    made = ssl.create_default_context(cadata=authority)
    scratch.touch(mode=0o600)
    scratch.write_bytes(pair)
    made.load_cert_chain(scratch)
    scratch.unlink()
    return made


@dataclass
class Tally:
    """What all sites of this process have seen."""

    ordered: dict[str, float] = field(default_factory=dict)
    """Site → when its latest order arrived, on the machine's monotonic clock."""
    served: dict[str, float] = field(default_factory=dict)
    orders: int = 0
    """Orders that arrived, in all rollouts together."""
    reports: int = 0
    """Orders carried out and reported, likewise."""
    beats: int = 0
    slow: deque[float] = field(default_factory=lambda: deque(maxlen=5000))
    trouble: Counter[str] = field(default_factory=Counter)

    def nature(self, stage: float) -> Nature:
        """A site's nature that tells this tally."""

        def beat(seconds: float) -> None:
            self.beats += 1
            self.slow.append(seconds)

        def ordered(site: str) -> None:
            self.orders += 1
            self.ordered[site] = time.monotonic()

        def served(site: str) -> None:
            self.reports += 1
            self.served[site] = time.monotonic()

        return Nature(
            stage=stage,
            ordered=ordered,
            served=served,
            beat=beat,
            trouble=lambda what: self.trouble.update([what]),
        )

    def told(self, traffic: Traffic) -> dict[str, Any]:
        """One line of what was seen so far."""
        slow = sorted(self.slow)
        return {
            "at": time.monotonic(),
            "ordered": len(self.ordered),
            "last_ordered": max(self.ordered.values(), default=0.0),
            "served": len(self.served),
            "last_served": max(self.served.values(), default=0.0),
            "orders": self.orders,
            "reports": self.reports,
            "beats": self.beats,
            "beat_p50": slow[len(slow) // 2] if slow else 0.0,
            "beat_p99": slow[len(slow) * 99 // 100] if slow else 0.0,
            "requests": traffic.requests,
            "refused": traffic.refused,
            "connections": traffic.connections,
            "bytes": traffic.bytes,
            "trouble": dict(self.trouble.most_common(5)),
        }


async def run(options: argparse.Namespace) -> None:
    """Let the sites live until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    host, port, authority = hub_of(options.kubeconfig)
    signer = Signer.of_cluster(options.kubeconfig.parent / "pki", options.key)
    traffic, tally = Traffic(), Tally()
    nature = tally.nature(options.stage)
    tasks: list[asyncio.Task[None]] = []

    async def start() -> None:
        pause = options.ramp / max(1, options.count)
        for number in range(options.first, options.first + options.count):
            site = site_name(number)
            joined = options.joined / f"{site}.pem"
            pair = joined.read_bytes() if joined.exists() else signer.pair(site)
            own = serialization.load_pem_private_key(pair, None)
            assert isinstance(own, ec.EllipticCurvePrivateKey)
            tls = context(authority, pair, options.joined / f"{site}.tmp")
            lines = Lines(host, port, tls, traffic, source_of(number) if host == "127.0.0.1" else "")
            made = SimulatedSite(site, key_id(own), lines, nature)
            tasks.append(asyncio.create_task(made.run()))
            await asyncio.sleep(pause)

    starting = asyncio.create_task(start())
    try:
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), TELL_EVERY)
            dead = [task for task in tasks if task.done()]
            for task in dead:
                tally.trouble.update([f"ended {task.exception()!r}"[:60]])
            if starting.done():
                starting.result()
            print(json.dumps({"sites": len(tasks), **tally.told(traffic)}), flush=True)
    finally:
        starting.cancel()
        for task in tasks:
            task.cancel()
        await asyncio.gather(starting, *tasks, return_exceptions=True)


def source_of(number: int) -> str:
    """The loopback address of the site of that number: from one alone go 28,232 connections, three a site."""
    return f"127.{1 + number // 62500}.{number // 250 % 250}.{1 + number % 250}"


def site_name(number: int) -> str:
    """The name of the site of that number."""
    return f"b{number:05d}"


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--kubeconfig", type=Path, required=True, help="of a localkube cluster, in its folder"
    )
    parser.add_argument("--key", type=Path, required=True, help="private key of the sites, PEM")
    parser.add_argument("--joined", type=Path, required=True, help="credentials of sites that really joined")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--stage", type=float, default=1.0, help="mean seconds in each stage of an order")
    parser.add_argument("--ramp", type=float, default=10.0, help="seconds until all sites are connected")
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    uvloop.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
