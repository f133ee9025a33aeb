"""A real API server for the tests, and a hub at work on it.

`api_server` starts one with localkube for the whole run (no root, a few seconds), puts the CRDs in, and leaves
nothing behind. Tests share it: they take names of their own and clear up what is theirs (`Fleet` does).
"""

import asyncio
import contextlib
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from edgefleet.kube import errors
from edgefleet.kube.client import Api, Object
from edgefleet.kube.kinds import CRD, Kind

ROOT: Final = Path(__file__).parents[2]
LOCALKUBE: Final = (sys.executable, str(ROOT / "localkube"))
CRDS: Final = ROOT / "crds"
_MANAGER: Final = "edgefleet-tests"


@contextlib.contextmanager
def running(name: str, *, crds: bool = True, store: str = "kine") -> Iterator[Path]:
    """An API-only cluster of its own, as the path of an administrator's kubeconfig; gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="edgefleet-") as state:
        environment = {**os.environ, "LOCALKUBE_STATE": state}

        def localkube(*arguments: str) -> str:
            done = subprocess.run(
                [*LOCALKUBE, *arguments],
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=1200,  # the first start of a machine builds the programs
            )
            assert done.returncode == 0, f"localkube {arguments}: {done.stdout}\n{done.stderr}"
            return done.stdout.strip()

        try:
            localkube("up", name, "--api-only", "--store", store)
            kubeconfig = Path(localkube("kubeconfig", name))
            if crds:
                asyncio.run(apply_crds(kubeconfig))
            yield kubeconfig
        finally:
            localkube("down", name)


@pytest.fixture(scope="session")
def api_server() -> Iterator[Path]:
    """Kubeconfig of an administrator of the API server all cluster tests share. CRDs are in.

    With TEST_KUBECONFIG set, that server is used and left running.
    """
    given = os.environ.get("TEST_KUBECONFIG")
    if given:
        asyncio.run(apply_crds(Path(given)))
        yield Path(given)
        return
    with running(f"test-{secrets.token_hex(3)}") as kubeconfig:
        yield kubeconfig


@pytest.fixture(scope="session")
def site_api_server() -> Iterator[Path]:
    """A second API server, for tests that need a hub and a site apart; TEST_SITE_KUBECONFIG as above."""
    given = os.environ.get("TEST_SITE_KUBECONFIG")
    if given:
        asyncio.run(apply_crds(Path(given)))
        yield Path(given)
        return
    with running(f"site-{secrets.token_hex(3)}") as kubeconfig:
        yield kubeconfig


@contextlib.asynccontextmanager
async def admin(kubeconfig: Path) -> AsyncIterator[Api]:
    """A client with all rights."""
    async with await Api.from_kubeconfig(kubeconfig, manager=_MANAGER) as api:
        yield api


async def apply_crds(kubeconfig: Path, folder: Path = CRDS) -> None:
    """Create or replace the CRDs and wait until they are served."""
    async with admin(kubeconfig) as api:
        definitions = _definitions(folder)
        for body in definitions:
            await put(api, CRD, None, body)
        for body in definitions:
            name = body["metadata"]["name"]
            await eventually(partial(_established, api, name), f"CRD {name} is established")


def _definitions(folder: Path) -> list[Object]:
    return [yaml.safe_load(file.read_text()) for file in sorted(folder.glob("*.yaml"))]


async def _established(api: Api, name: str) -> bool:
    crd = await api.get(CRD, None, name)
    conditions = {c["type"]: c["status"] for c in (crd.get("status") or {}).get("conditions") or ()}
    return conditions.get("Established") == "True"


async def put(api: Api, kind: Kind, namespace: str | None, body: Object) -> Object:
    """Create an object, or replace the one that is there."""
    try:
        return await api.create(kind, namespace, body)
    except errors.AlreadyExists:
        live = await api.get(kind, namespace, body["metadata"]["name"])
        body["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"]
        return await api.replace(kind, namespace, body["metadata"]["name"], body)


async def eventually(
    condition: Callable[[], Awaitable[Any]], what: str, *, seconds: float = 60.0, every: float = 0.1
) -> Any:
    """Wait until the condition is truthy; returns it. Fails naming `what` and the last thing seen."""
    end = time.monotonic() + seconds
    last: Any = None
    while time.monotonic() < end:
        try:
            last = await condition()
        except errors.NotFound as error:
            last = error
        else:
            if last:
                return last
        await asyncio.sleep(every)
    raise AssertionError(f"not within {seconds:g} s: {what}; last seen: {last!r}")


def condition(raw: Object, kind: str) -> Object:
    """One condition of an object; empty when it is not there."""
    conditions = (raw.get("status") or {}).get("conditions") or ()
    return next((c for c in conditions if c["type"] == kind), {})


async def drained(api: Api, kind: Kind, namespace: str | None, *, labels: str = "") -> None:
    """Delete every object of a kind (in a namespace, or in all) and strip what holds it."""
    for raw in await api.list(kind, namespace, labels=labels):
        meta = raw["metadata"]
        with contextlib.suppress(errors.NotFound, errors.Conflict):
            await api.delete(kind, meta.get("namespace"), meta["name"], uid=meta["uid"])
            if meta.get("finalizers"):
                await api.merge_patch(
                    kind, meta.get("namespace"), meta["name"], {"metadata": {"finalizers": None}}
                )
