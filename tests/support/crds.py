"""The five kinds as the tests see them: schemas from `crds/`, a full example of each, and a server to ask."""

import copy
import re
import secrets
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml
from edgefleet.kube import errors, kinds
from edgefleet.kube.client import Api
from edgefleet.kube.kinds import Kind
from support.crd_examples import FULL, Object

Changes = Mapping[str, Any]
"""Dotted path → value; ABSENT takes the field away."""
ABSENT: Final = object()
CRDS: Final = Path(__file__).parents[2] / "crds"
OURS: Final = (
    kinds.EDGE_MODEL,
    kinds.EDGE_SITE,
    kinds.EDGE_ROLLOUT,
    kinds.EDGE_AGENT,
    kinds.EDGE_DEPLOYMENT,
)


@cache
def definition(kind: Kind) -> Object:
    """The CustomResourceDefinition as it is in `crds/`."""
    found: Object = yaml.safe_load((CRDS / f"{kind.plural}.yaml").read_text())
    return found


def schema(kind: Kind) -> Object:
    """The kind's OpenAPI schema."""
    found: Object = definition(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


def walk(node: Object, path: str = "") -> Iterator[tuple[str, Object]]:
    """Every field below a schema node with its dotted path; items of a list are `0`."""
    if path:
        yield path, node
    for name, child in node.get("properties", {}).items():
        yield from walk(child, f"{path}.{name}".lstrip("."))
    if "items" in node:
        yield from walk(node["items"], f"{path}.0")


def example(kind: Kind, changes: Changes | None = None) -> Object:
    """The full example of a kind, changed."""
    found = copy.deepcopy(FULL[kind])
    for path, value in (changes or {}).items():
        put(found, path, value)
    return found


def put(whole: Object, path: str, value: Any) -> None:
    """Set the field at a dotted path, or take it away with ABSENT."""
    *way, last = path.split(".")
    place: Any = whole
    for step in way:
        place = place[int(step) if isinstance(place, list) else step]
    key: Any = int(last) if isinstance(place, list) else last
    if value is ABSENT:
        del place[key]
    else:
        place[key] = copy.deepcopy(value)


def pick(whole: Object, path: str) -> Any:
    """The value at a dotted path. Raises KeyError or IndexError."""
    place: Any = whole
    for step in path.split("."):
        place = place[int(step)] if isinstance(place, list) else place[step]
    return place


def concrete(whole: Any, path: str) -> str:
    """`path` with each item `0` replaced by the first item that has the rest of it. Raises KeyError."""
    head, _, rest = path.partition(".")
    for key in range(len(whole)) if isinstance(whole, list) else [head]:
        try:
            inner = whole[key]
            return f"{key}.{concrete(inner, rest)}" if rest else str(key)
        except (KeyError, IndexError):
            continue
    raise KeyError(path)


@dataclass(frozen=True)
class Server:
    """A real API server that is asked what it would say: nothing is kept unless `keep` is called."""

    api: Api
    namespace: str = "kube-public"  # there from the start, and nobody else's tests use it

    async def refusal(self, kind: Kind, body: Object) -> str:
        """What the server says against creating the object; empty when it would take it."""
        return await self._try("POST", kind.path(self._namespace(kind)), {**body, "status": {}}, kind)

    async def status_refusal(self, kind: Kind, name: str, body: Object) -> str:
        """What the server says against the status of `body` on the object that is there."""
        path = kind.path(self._namespace(kind), name, "status")
        return await self._try("PATCH", path, {"status": body["status"]}, kind)

    async def patch_refusal(self, kind: Kind, name: str, patch: Object) -> str:
        """What the server says against a merge patch of the object that is there."""
        return await self._try("PATCH", kind.path(self._namespace(kind), name), patch, kind)

    async def keep(self, kind: Kind, body: Object) -> Object:
        """Create the object for real."""
        bare = {key: value for key, value in body.items() if key != "status"}
        return await self.api.create(kind, self._namespace(kind), bare)

    def _namespace(self, kind: Kind) -> str | None:
        return self.namespace if kind.namespaced else None

    async def _try(self, method: str, path: str, body: Object, kind: Kind) -> str:
        query = {"fieldValidation": "Strict", "dryRun": "All"}
        content = "application/json" if method == "POST" else "application/merge-patch+json"
        whole = {"apiVersion": kind.api_version, "kind": kind.name, **body} if method == "POST" else body
        if method == "POST":
            whole.pop("status")
        try:
            await self.api.request(method, path, query, whole, content_type=content)
        except errors.Invalid as error:
            return error.message
        return ""


@asynccontextmanager
async def asking(kubeconfig: Path) -> AsyncIterator[Server]:
    """A server to ask; nothing is kept."""
    async with await Api.from_kubeconfig(kubeconfig, manager="edgefleet-tests") as api:
        yield Server(api)


@asynccontextmanager
async def keeping(kubeconfig: Path) -> AsyncIterator[Server]:
    """A server with a namespace of its own for what is kept."""
    namespace = f"crds-{secrets.token_hex(4)}"
    async with asking(kubeconfig) as server:
        await server.api.create(kinds.NAMESPACE, None, {"metadata": {"name": namespace}})
        try:
            yield Server(server.api, namespace)
        finally:
            await server.api.delete(kinds.NAMESPACE, None, namespace, uid=None)


def field_path(path: str) -> str:
    """A dotted path as the API server writes it: `spec.steps.0.weight` → `spec.steps[0].weight`."""
    return re.sub(r"\.(\d+)(?=\.|$)", r"[\1]", path)


def rules(kind: Kind) -> Iterator[tuple[str, str]]:
    """(path, message) of every CEL rule of the kind."""
    for path, node in [("", schema(kind)), *walk(schema(kind))]:
        for rule in node.get("x-kubernetes-validations", ()):
            yield path, rule["message"]


def schema_path(path: str) -> str:
    """A dotted path as `walk` gives it: any item of a list is `0`."""
    return re.sub(r"\.\d+(?=\.|$)", ".0", path)
