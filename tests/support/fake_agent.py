"""A site without pods: joins, beats and reports through the real API with its own certificate, and says only what
an agent could say. What becomes of an order is told beforehand, by bundle."""

import asyncio
import base64
import contextlib
import hashlib
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from edgefleet import schedule
from edgefleet.core import fingerprint, names, parse, window
from edgefleet.core.order import (
    Condition,
    Order,
    OrderIdentity,
    Refusal,
    Report,
    Stage,
    State,
    parse_order,
    to_wire,
)
from edgefleet.core.specs import SiteWindows
from edgefleet.core.window import NO_WINDOWS
from edgefleet.kube import errors, kinds
from edgefleet.kube.client import Api, Explicit, Object
from edgefleet.kube.credentials import Connection
from support.cluster import eventually

SIGNER: Final = "kubernetes.io/kube-apiserver-client"


@dataclass(frozen=True)
class Key:
    """A site's key pair."""

    private: ec.EllipticCurvePrivateKey

    @classmethod
    def new(cls) -> "Key":
        return cls(ec.generate_private_key(ec.SECP256R1()))

    @property
    def sha256(self) -> str:
        public = self.private.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return hashlib.sha256(public).hexdigest()

    @property
    def pem(self) -> bytes:
        return self.private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    def request(
        self, common_name: str, organization: str = names.SITES_ORGANIZATION, *, also: str = ""
    ) -> bytes:
        """A certificate request, PEM; `also`: a DNS name asked for besides."""
        attributes = [
            x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name),
            x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, organization),
        ]
        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(attributes))
        if also:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(also)]), critical=False)
        return builder.sign(self.private, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def ca_of(where: Connection) -> bytes:
    """The CA of an API server reached by a kubeconfig."""
    assert where.ca_path
    return Path(where.ca_path).read_bytes()


async def join_token(admin: Api, site: str, *, seconds: int = 3600) -> str:
    """What `edgefleet site token` does: a ServiceAccount of the site's name, and a token for it."""
    namespace = names.JOIN_NAMESPACE
    with contextlib.suppress(errors.AlreadyExists):
        await admin.create(kinds.NAMESPACE, None, {"metadata": {"name": namespace}})
    with contextlib.suppress(errors.NotFound):
        await admin.delete(kinds.SERVICE_ACCOUNT, namespace, site, uid=None)
    await admin.create(kinds.SERVICE_ACCOUNT, namespace, {"metadata": {"name": site}})
    asked = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"expirationSeconds": seconds},
    }
    answer = await admin.create(kinds.SERVICE_ACCOUNT, namespace, asked, name=site, sub="token")
    return str(answer["status"]["token"])


async def ask(api: Api, site: str, key: Key, *, common_name: str = "", **changes: Any) -> str:
    """Hand in a certificate request; returns its name."""
    name = f"edgefleet-{site}-{key.sha256[:16]}-{secrets.token_hex(3)[:5]}"
    common = common_name or names.site_user(site, key.sha256)
    request = key.request(
        common, changes.pop("organization", names.SITES_ORGANIZATION), also=changes.pop("also", "")
    )
    spec = {
        "request": base64.b64encode(request).decode(),
        "signerName": SIGNER,
        "usages": ["client auth"],
        **changes,
    }
    await api.create(kinds.CSR, None, {"metadata": {"name": name}, "spec": spec})
    return name


async def answered(api: Api, request: str) -> Object:
    """Wait for the answer to a certificate request: its condition, with the certificate once there is one."""

    async def answer() -> Object | None:
        raw = await api.get(kinds.CSR, None, request)
        status = raw.get("status") or {}
        for condition in status.get("conditions") or ():
            if condition["type"] == "Denied" or status.get("certificate"):
                return {**condition, "certificate": status.get("certificate", "")}
        return None

    found: Object = await eventually(answer, f"an answer to {request}", seconds=180)
    return found


@dataclass
class Plan:
    """What becomes of orders at a site, by bundle digest."""

    fails: dict[str, str] = field(default_factory=dict)
    """Bundle digest → reason: refused, and the site goes back to what it ran."""
    blocked: dict[str, str] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    """Bundles whose orders are never answered."""
    inventory: Object = field(default_factory=dict)
    """What the site says it is made of, beside the usual."""
    obeys_windows: bool = False
    """Whether it begins nothing while its windows are closed, and says so; else it knows nothing of windows."""


class FakeAgent:
    """One joined site at work."""

    def __init__(self, site: str, api: Api, key: Key, plan: Plan | None = None) -> None:
        self.site = site
        self.api = api
        self.key = key
        self.plan = plan or Plan()
        self.certificate = b""
        """PEM; empty for one that did not join here."""
        self.beat_every = 0.5
        self.clock_offset = timedelta()
        """How wrong the site's clock is."""
        self.orders: dict[str, Object] = {}
        self.obeyed: list[Order] = []
        """Every different order ever seen, in order."""
        self.policy_generation = 0
        self.fingerprint = ""
        """As the answer to the latest beat had it."""
        self._windows = NO_WINDOWS
        self._active: dict[str, Order] = {}
        self._served: set[str] = set()
        """Revisions it knows: back to them it goes at any time."""
        self._refused: dict[str, list[Refusal]] = {}
        self._reported: dict[str, Object] = {}
        self._task: asyncio.Task[None] | None = None

    @classmethod
    async def join(
        cls, admin: Api, site: str, *, key: Key | None = None, plan: Plan | None = None
    ) -> "FakeAgent":
        """Join as a site does: token, certificate request, certificate."""
        key = key or Key.new()
        where = await admin.connection()
        token = await join_token(admin, site)
        async with Api.explicit(
            Explicit(where.server, ca_of(where), token=token), manager=names.AGENT_MANAGER
        ) as api:
            answer = await answered(api, await ask(api, site, key))
        assert answer["type"] == "Approved", answer
        certificate = base64.b64decode(answer["certificate"])
        identity = Explicit(where.server, ca_of(where), cert_pem=certificate, key_pem=key.pem)
        made = cls(site, Api.explicit(identity, manager=names.AGENT_MANAGER), key, plan)
        made.certificate = certificate
        return made

    @property
    def namespace(self) -> str:
        return names.site_namespace(self.site)

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncIterator["FakeAgent"]:
        """Beat and report until the end of the block; then be silent."""
        await self.announce()
        self._task = asyncio.create_task(self._work())
        try:
            yield self
        finally:
            await self.rest()

    async def serving(self, order: str) -> str:
        """The revision it serves by an order; empty: none."""
        active = self._active.get(order)
        return active.revision if active else ""

    async def rest(self) -> None:
        """Be silent, as when the link is cut."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def wake(self) -> None:
        """Go on where it stopped."""
        if self._task is None:
            self._task = asyncio.create_task(self._work())

    async def close(self) -> None:
        await self.rest()
        await self.api.close()

    async def announce(self) -> None:
        """Report the site's inventory, which orders it understands, and that it obeys its policy."""
        policy = await self.api.get(kinds.EDGE_AGENT, self.namespace, names.AGENT)
        self.policy_generation = policy["metadata"]["generation"]
        status = {
            "observedGeneration": self.policy_generation,
            "agentVersion": "0.1.0-fake",
            "kubernetesVersion": "v1.36.3",
            "understands": [names.ORDER_VERSION],
            "publicKeySHA256": self.key.sha256,
            "inventory": {
                "arch": "amd64",
                "cpuFeatures": ["avx2"],
                "cpus": 2,
                "memoryBytes": 2**31,
                **self.plan.inventory,
            },
        }
        if self.plan.obeys_windows:
            listed = msgspec.convert(policy["spec"].get("windows") or {}, SiteWindows)
            found = self._windows = schedule.evaluate(listed, datetime.now(UTC), "")
            status["windows"] = {"download": found.download.open, "update": found.update.open}
        await self.api.merge_patch(
            kinds.EDGE_AGENT, self.namespace, names.AGENT, {"status": status}, status=True
        )

    async def beat(self) -> None:
        """One beat, with the site's own idea of the time."""
        now = datetime.now(UTC) + self.clock_offset
        spec = {
            "holderIdentity": self.site,
            "renewTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "leaseDurationSeconds": 60,
        }
        lease = await self.api.merge_patch(kinds.LEASE, self.namespace, names.LEASE, {"spec": spec})
        self.fingerprint = (lease["metadata"].get("annotations") or {}).get(names.FINGERPRINT, "")

    def expected_fingerprint(self, agent_generation: int) -> str:
        """What the hub should write, from what this site holds."""
        return fingerprint.fingerprint((parse.meta(raw) for raw in self.orders.values()), agent_generation)

    async def _work(self) -> None:
        while True:
            with contextlib.suppress(errors.ApiError):
                await self.beat()
                await self.look()
                if self.fingerprint != self.expected_fingerprint(self.policy_generation):
                    await self.announce()
            await asyncio.sleep(self.beat_every)

    async def look(self) -> None:
        """Read the orders and report on each."""
        listed = await self.api.list(kinds.EDGE_DEPLOYMENT, self.namespace)
        self.orders = {raw["metadata"]["name"]: raw for raw in listed}
        for name, raw in self.orders.items():
            order = parse_order(raw["spec"])
            if not self.obeyed or order not in self.obeyed:
                self.obeyed.append(order)
            if order.bundle.rpartition("@")[2] in self.plan.silent:
                continue
            report = to_wire(self._report(name, raw, order))
            if self._reported.get(name) != {**report, "reportedAt": ""}:
                self._reported[name] = {**report, "reportedAt": ""}
                await self.api.merge_patch(
                    kinds.EDGE_DEPLOYMENT, self.namespace, name, {"status": report}, status=True
                )

    def _report(self, name: str, raw: Object, order: Order) -> Report:
        digest = order.bundle.rpartition("@")[2]
        refused = self._refused.setdefault(name, [])
        stage, reason = Stage.SERVING, "Promoted"
        if order.state is not State.RUN:
            stage, reason = Stage.REMOVED, order.state.value
            self._active.pop(name, None)
        elif any((r.revision, r.attempt) == (order.revision, order.attempt) for r in refused):
            stage, reason = Stage.ROLLED_BACK, refused[-1].reason
        elif order.revision not in self._served and not self._windows.download.open:
            stage, reason = Stage.WAITING, window.CLOSED
        elif order.revision not in self._served and not self._windows.update.open:
            stage, reason = Stage.STAGED, window.CLOSED
        elif digest in self.plan.fails:
            stage, reason = Stage.ROLLED_BACK, self.plan.fails[digest]
            refused.append(
                Refusal(
                    revision=order.revision,
                    attempt=order.attempt,
                    reason=reason,
                    message=f"the golden set agrees on 12 % at {self.site}",
                    time=_now(),
                )
            )
        elif digest in self.plan.blocked:
            stage, reason = Stage.BLOCKED, self.plan.blocked[digest]
        else:
            self._active[name] = order
            self._served.add(order.revision)
        active = self._active.get(name)
        serving = stage is Stage.SERVING
        before = (self._reported.get(name) or {}).get("conditions") or [{}]
        same = before[0].get("status") == ("True" if serving else "False")
        return Report(
            observed_generation=raw["metadata"]["generation"],
            order=OrderIdentity(uid=raw["metadata"]["uid"], generation=raw["metadata"]["generation"]),
            conditions=(
                Condition(
                    type="Ready",
                    status="True" if serving else "False",
                    reason=reason,
                    last_transition_time=before[0]["lastTransitionTime"] if same else _now(),
                    observed_generation=raw["metadata"]["generation"],
                ),
            ),
            stage=stage,
            reason=reason,
            active_revision=active.revision if active else "",
            active_bundle=active.bundle.rpartition("@")[2] if active else "",
            refused=tuple(refused),
            reported_at=_now(),
        )


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
