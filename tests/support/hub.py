"""The operator at work on a real API server, with a real registry: what hub tests start from."""

import asyncio
import contextlib
import os
import secrets
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from edgefleet.build import packing, pushing, signing
from edgefleet.bundle import RegistryOptions, reference
from edgefleet.bundle import format as fmt
from edgefleet.core import names
from edgefleet.kube import errors, kinds
from edgefleet.kube.client import Api, Object
from support import hub_chart, registry
from support.cluster import ROOT, condition, drained, eventually, put
from support.fake_agent import FakeAgent, Plan

POD_IMAGE: Final = "registry.test/edgepod@sha256:" + "1" * 64
_SPEEDY: Final = {"interval": "1s", "offlineAfter": "4s"}


def digest(bundle: str) -> str:
    """The digest of a reference."""
    return bundle.rpartition("@")[2]


@dataclass
class Shelf:
    """A registry with signed bundles on it. Their models are a few bytes: the hub never looks inside."""

    server: registry.Server
    folder: Path
    version: int = 0

    @property
    def trust(self) -> Path:
        return self.folder / "release.pub"

    async def bundle(self, *, key: str = "release.key", size: int = 0) -> str:
        """Push another version, its model of at least so many bytes; returns its reference with digest."""
        packed = self.packed(key=key, size=size)
        await self.push(packed)
        return self.reference(packed)

    def packed(self, *, key: str = "release.key", size: int = 0) -> packing.Packed:
        """Another version, not pushed yet."""
        self.version += 1
        model, golden = self.folder / f"{self.version}.onnx", self.folder / f"{self.version}.npz"
        model.write_bytes(b"model %d" % self.version + secrets.token_bytes(size))
        golden.write_bytes(b"golden %d" % self.version)
        config = _config(self.version, packing.describe(model), packing.describe(golden))
        files = {packing.describe(path).digest: path for path in (model, golden)}
        return packing.pack(config, files, signing.signer(self.folder / key))

    async def push(self, packed: packing.Packed) -> None:
        """Put a version on the shelf."""
        await pushing.push(packed, reference.parse(f"oci://{self.server.host}/test/digits"), self.options)

    def reference(self, packed: packing.Packed) -> str:
        """How an EdgeModel names a version."""
        return f"oci://{self.server.host}/test/digits@{packed.digest}"

    async def missing(self) -> str:
        """A reference to nothing."""
        return f"oci://{self.server.host}/test/digits@sha256:{secrets.token_hex(32)}"

    async def unreachable(self) -> str:
        """A reference into a registry that is not there."""
        return f"oci://{self.nowhere}/test/digits@sha256:{secrets.token_hex(32)}"

    @property
    def nowhere(self) -> str:
        """Where no registry listens."""
        return "127.0.0.1:1"

    @property
    def options(self) -> RegistryOptions:
        return RegistryOptions.create(plain_http=self.server.host)


def _config(version: int, model: fmt.File, golden: fmt.File) -> fmt.BundleConfig:
    tensor = fmt.Tensor(name="x", datatype="FP32", shape=(1, 4))
    return fmt.BundleConfig(
        format=1,
        name="digits",
        version=version,
        created="2026-01-01T00:00:00Z",
        variants=(fmt.Variant(name="int8", file=model, precision="int8", agreement=1.0),),
        golden=fmt.Golden(file=golden, samples=1, metric="top1"),
        inputs=(tensor,),
        outputs=(tensor,),
        report=fmt.BuildReport(
            max_drop=0.01,
            measured_by="agreement",
            before=fmt.Measured(variant="fp32", bytes=7, agreement=1.0, drop=0.0),
        ),
    )


@contextlib.contextmanager
def shelf(folder: Path) -> Iterator[Shelf]:
    """A registry and two key pairs, `release` (trusted) and `stranger`."""
    for name in ("release", "stranger"):
        signing.create_keys(folder / f"{name}.key", folder / f"{name}.pub")
    with registry.serve(folder) as server:
        yield Shelf(server, folder)


@dataclass
class Operator:
    """The operator as a process of its own."""

    kubeconfig: Path
    shelf: Shelf
    log: Path
    launcher: tuple[str, ...] = ("-c", "from edgefleet.handlers.main import main; main()")
    environment: Mapping[str, str] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    port: int = 0
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; it is not ready yet."""
        self.port = registry._free_port()
        environment = {
            **os.environ,
            "EDGEFLEET_TRUST": str(self.shelf.trust),
            "EDGEFLEET_PLAIN_HTTP_REGISTRIES": f"{self.shelf.server.host},{self.shelf.nowhere}",
            "EDGEFLEET_POD_IMAGE": POD_IMAGE,
            **self.environment,
        }
        command = [
            sys.executable,
            *self.launcher,
            "--kubeconfig",
            str(self.kubeconfig),
            "--port",
            str(self.port),
            *self.flags,
        ]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=ROOT / "tests", env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    async def ready(self, *, seconds: float = 30.0) -> None:
        """Wait until its caches are full."""

        async def answers() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, f"the operator ended: {self.tail()}"
            return await asyncio.to_thread(self.page, "/readyz") == "ok\n"

        await eventually(answers, f"the operator is ready; {self.tail()}", seconds=seconds)

    def page(self, path: str) -> str:
        """One of its pages; empty when it does not answer 200."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return str(answer.read().decode())
        except (urllib.error.URLError, OSError):
            return ""

    def tail(self, lines: int = 30) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text().splitlines()[-lines:]) if self.log.exists() else ""

    def kill(self) -> None:
        """As when the power goes."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> int:
        """As Kubernetes stops it; returns its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def memory_mib(self) -> float:
        """Resident memory."""
        assert self.process is not None
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


@contextlib.contextmanager
def running(
    api_server: Path, shelf: Shelf, folder: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Operator]:
    """An operator with the rights of the chart, ready, and stopped as Kubernetes would in the end."""
    kubeconfig = asyncio.run(hub_chart.install(api_server, folder))
    made = Operator(kubeconfig, shelf, folder / "operator.log", environment=environment or {})
    made.start()
    try:
        asyncio.run(made.ready())
        yield made
    finally:
        assert made.stop() == 0


@contextlib.asynccontextmanager
async def at_work(operator: Operator) -> AsyncIterator[Operator]:
    """The operator, ready; stopped afterwards, which must go well."""
    operator.start()
    try:
        await operator.ready()
        yield operator
    finally:
        if operator.process and operator.process.poll() is None:
            operator.stop()


class Fleet:
    """Sites and a namespace for models of one test, told apart from other tests' by a label and by names."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.id = secrets.token_hex(3)
        self.namespace = f"t{self.id}"
        self.agents: dict[str, FakeAgent] = {}
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> "Fleet":
        await self.api.create(kinds.NAMESPACE, None, {"metadata": {"name": self.namespace}})
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()
        for agent in self.agents.values():
            await agent.close()
        await drained(self.api, kinds.EDGE_MODEL, self.namespace)
        await drained(self.api, kinds.EDGE_SITE, None, labels=f"test={self.id}")
        for name in (self.namespace, *(agent.namespace for agent in self.agents.values())):
            with contextlib.suppress(errors.NotFound):
                await self.api.delete(kinds.NAMESPACE, None, name, uid=None)

    def name(self, short: str) -> str:
        """The whole name of a site."""
        return f"s{self.id}-{short}"

    async def site(self, short: str, *, labels: Mapping[str, str] | None = None, **spec: Any) -> Object:
        """Make an EdgeSite."""
        meta = {"name": self.name(short), "labels": {"test": self.id, **(labels or {})}}
        body = {"metadata": meta, "spec": {"heartbeat": _SPEEDY, **spec}}
        return await self.api.create(kinds.EDGE_SITE, None, body)

    async def join(
        self, short: str, *, labels: Mapping[str, str] | None = None, plan: Plan | None = None, **spec: Any
    ) -> FakeAgent:
        """Make an EdgeSite, join it with a token, and let it work."""
        await self.site(short, labels=labels, **spec)
        agent = await FakeAgent.join(self.api, self.name(short), plan=plan)
        self.agents[short] = agent
        await self._stack.enter_async_context(agent.working())
        return agent

    async def joined(self, *shorts: str, plan: Plan | None = None) -> list[FakeAgent]:
        """Join several sites at once; each has label `site` with its short name."""
        return list(await asyncio.gather(*(self.join(s, labels={"site": s}, plan=plan) for s in shorts)))

    async def apply(self, name: str, bundle: str, **spec: Any) -> Object:
        """Make or change an EdgeModel."""
        whole = {"bundle": bundle, "placement": {"siteSelector": {"matchLabels": {"test": self.id}}}, **spec}
        body = {"metadata": {"name": name, "namespace": self.namespace}, "spec": whole}
        try:
            live = await self.api.get(kinds.EDGE_MODEL, self.namespace, name)
        except errors.NotFound:
            return await put(self.api, kinds.EDGE_MODEL, self.namespace, body)
        kept = {key: None for key in live["spec"] if key not in whole}
        return await self.api.merge_patch(kinds.EDGE_MODEL, self.namespace, name, {"spec": {**kept, **whole}})

    async def model(self, name: str) -> Object:
        return await self.api.get(kinds.EDGE_MODEL, self.namespace, name)

    async def rollouts(self, name: str) -> list[Object]:
        """Rollouts of a model, oldest first."""
        found = await self.api.list(kinds.EDGE_ROLLOUT, self.namespace)
        mine = [raw for raw in found if raw["spec"]["model"] == name]
        return sorted(mine, key=lambda raw: int(raw["spec"]["number"]))

    async def order(self, short: str, model: str) -> Object | None:
        """The order of a model to a site; None: there is none."""
        try:
            return await self.api.get(
                kinds.EDGE_DEPLOYMENT,
                names.site_namespace(self.name(short)),
                names.order_name(self.namespace, model),
            )
        except errors.NotFound:
            return None

    async def offered(self, short: str, model: str, bundle: str) -> Object:
        """Wait until the order of a model to a site names a bundle."""

        async def named() -> Object | None:
            order = await self.order(short, model)
            return order if order and order["spec"]["bundle"] == bundle else None

        found: Object = await eventually(named, f"the order to {short} names {bundle}", seconds=25)
        return found

    async def connectivity(self, short: str, wanted: str) -> Object:
        """Wait for what is said of a site's connectivity."""

        async def said() -> Object | None:
            site = await self.api.get(kinds.EDGE_SITE, None, self.name(short))
            return site if site["status"].get("connectivity") == wanted else None

        found: Object = await eventually(said, f"{short} is {wanted}", seconds=25)
        return found

    async def until(
        self, model: str, kind: str, status: str, reason: str = "", *, seconds: float = 25.0
    ) -> Object:
        """Wait for a condition of an EdgeModel about its present spec; returns the model."""
        last: Object = {}

        async def holds() -> Object | None:
            nonlocal last
            last = await self.model(model)
            found = condition(last, kind)
            fresh = found.get("observedGeneration") == last["metadata"]["generation"]
            good = found.get("status") == status and reason in ("", found.get("reason"))
            return last if fresh and good else None

        try:
            raw: Object = await eventually(holds, f"{model} is {kind}={status} {reason}", seconds=seconds)
        except AssertionError as error:
            rollouts = [(r["metadata"]["name"], r.get("status")) for r in await self.rollouts(model)]
            raise AssertionError(f"{error}; status: {last.get('status')}; rollouts: {rollouts}") from None
        return raw

    async def ready(self, model: str, **options: Any) -> Object:
        return await self.until(model, "Ready", "True", **options)
