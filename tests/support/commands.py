"""`edgefleet` as its users call it, against a test's API server."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from click.testing import CliRunner, Result
from edgefleet.cli.main import cli
from edgefleet.core import names
from edgefleet.kube import errors, kinds
from edgefleet.kube.client import Api, Object
from edgefleet.kube.kinds import Kind
from support.cluster import admin

_T = TypeVar("_T")


@dataclass(frozen=True)
class Cluster:
    """An API server with a namespace of the test's own."""

    kubeconfig: Path
    namespace: str

    def edgefleet(self, *arguments: str) -> Result:
        """Run a command."""
        return CliRunner().invoke(cli, [*arguments, "--kubeconfig", str(self.kubeconfig)])

    def rollout(self, verb: str, *arguments: str) -> Result:
        """Run a verb in the test's namespace."""
        return self.edgefleet("rollout", verb, *arguments, "-n", self.namespace)

    def ask(self, work: Callable[[Api], Awaitable[_T]]) -> _T:
        """Do something as an administrator."""

        async def doing() -> _T:
            async with admin(self.kubeconfig) as api:
                return await work(api)

        return asyncio.run(doing())

    def get(self, kind: Kind, name: str) -> Object:
        """Read an object of the test's namespace, or of none."""
        return self.ask(lambda api: api.get(kind, self.namespace if kind.namespaced else None, name))

    def create(self, kind: Kind, body: Object) -> Object:
        """Create an object with its status."""

        async def work(api: Api) -> Object:
            space = self.namespace if kind.namespaced else None
            made = await api.create(kind, space, {k: v for k, v in body.items() if k != "status"})
            if "status" in body:
                await self._status(api, kind, made["metadata"]["name"], body["status"])
            return made

        return self.ask(work)

    def set_status(self, kind: Kind, name: str, status: dict[str, Any]) -> None:
        """Write a status as the operator would."""
        self.ask(lambda api: self._status(api, kind, name, status))

    async def _status(self, api: Api, kind: Kind, name: str, status: dict[str, Any]) -> Object:
        space = self.namespace if kind.namespaced else None
        return await api.merge_patch(kind, space, name, {"status": status}, status=True)


async def with_join_namespace(api: Api) -> None:
    """The namespace the hub's chart makes."""
    try:
        await api.create(kinds.NAMESPACE, None, {"metadata": {"name": names.JOIN_NAMESPACE}})
    except errors.AlreadyExists:
        return


def run_as(kubeconfig: Path, token: str, *arguments: str) -> Result:
    """Run a command with a bearer token instead of the kubeconfig's own credential."""
    config = yaml.safe_load(kubeconfig.read_text())
    config["users"] = [{"name": user["name"], "user": {"token": token}} for user in config["users"]]
    other = kubeconfig.with_name(f"{kubeconfig.name}-{secrets.token_hex(3)}")
    other.write_text(yaml.safe_dump(config))
    try:
        return CliRunner().invoke(cli, [*arguments, "--kubeconfig", str(other)])
    finally:
        other.unlink()
