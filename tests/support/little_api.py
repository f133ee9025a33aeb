"""An API server in memory, just enough to be asked, told, and to refuse. The real one is the matter of tests/cluster."""

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer
from edgefleet.kube.client import Api, Object
from edgefleet.kube.kinds import Kind
from kubernetes.aio.client import Configuration


class LittleApi:
    """Objects by path; a write to a collection named in `refuse` is answered with that status code."""

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}
        self.refuse: dict[tuple[str, str], tuple[int, str]] = {}
        """(method, plural) → (code, message)."""
        self.asked: list[tuple[str, str]] = []
        """Method and path of every write."""
        self.meanwhile: Callable[[], Awaitable[None]] | None = None
        """What happens once, while the next request is being answered."""
        self.url = ""
        self._ids = itertools.count(1)

    def put(self, kind: Kind, namespace: str | None, item: Object) -> Object:
        """Place an object as if somebody had."""
        meta = item["metadata"]
        number = next(self._ids)
        known = {
            "uid": f"uid-{number}",
            "resourceVersion": str(number),
            "generation": 1,
            "namespace": namespace,
        }
        item["metadata"] = {**known, **meta}
        self.objects[kind.path(namespace, meta["name"])] = item
        return item

    def names(self, kind: Kind, namespace: str | None) -> list[str]:
        """Names of what there is."""
        folder = kind.path(namespace) + "/"
        return [path.removeprefix(folder) for path in self.objects if path.startswith(folder)]

    async def answer(self, request: web.Request) -> web.Response:
        """Answer any request."""
        path, method = request.path.removesuffix("/status"), request.method
        folder, _, _name = path.rpartition("/")
        plural = (path if method == "POST" else folder).rpartition("/")[2]
        if self.meanwhile is not None:
            happens, self.meanwhile = self.meanwhile, None
            await happens()
        if method != "GET":
            self.asked.append((method, path))
        if (method, plural) in self.refuse:
            code, message = self.refuse[method, plural]
            return web.json_response({"kind": "Status", "reason": "Refused", "message": message}, status=code)
        if method == "POST":
            return self._create(path, await request.json())
        if _many(path):
            found = [self.objects[key] for key in self.objects if key.startswith(path + "/")]
            return web.json_response({"metadata": {"resourceVersion": "1"}, "items": found})
        if path not in self.objects:
            return web.json_response({"kind": "Status", "reason": "NotFound"}, status=404)
        if method == "DELETE":
            return web.json_response(self.objects.pop(path))
        if method == "PATCH":
            _merge(self.objects[path], await request.json())
            self.objects[path]["metadata"]["resourceVersion"] = str(next(self._ids))
        return web.json_response(self.objects[path])

    def _create(self, folder: str, item: dict[str, Any]) -> web.Response:
        path = f"{folder}/{item['metadata']['name']}"
        if path in self.objects:
            return web.json_response({"kind": "Status", "reason": "AlreadyExists"}, status=409)
        number = next(self._ids)
        item["metadata"] |= {"uid": f"uid-{number}", "resourceVersion": str(number), "generation": 1}
        self.objects[path] = item
        return web.json_response(item, status=201)


def _many(path: str) -> bool:
    """Whether a path is of a collection in a namespace: /…/namespaces/<namespace>/<plural>."""
    return path.partition("/namespaces/")[2].count("/") == 1


def _merge(into: dict[str, Any], patch: dict[str, Any]) -> None:
    for key, value in patch.items():
        if value is None:
            into.pop(key, None)
        elif isinstance(value, dict):
            have = into.get(key)
            into[key] = have if isinstance(have, dict) else {}
            _merge(into[key], value)
        else:
            into[key] = value


@asynccontextmanager
async def little_api() -> AsyncIterator[tuple[LittleApi, Api]]:
    """Yield a server and a client of it."""
    made = LittleApi()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.answer)
    async with TestServer(app) as server:
        made.url = f"http://127.0.0.1:{server.port}"
        settings = Configuration()
        settings.host = made.url
        async with Api(settings, manager="tests", keepalive=None) as api:
            yield made, api
