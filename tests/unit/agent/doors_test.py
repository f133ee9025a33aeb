"""kopf at a site: what it takes for its end is not the agent's."""

import asyncio
import signal
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from edgefleet.agent import doors
from edgefleet.core import names
from edgefleet.kube import kinds
from edgefleet.kube.client import Api
from kubernetes.aio.client import Configuration
from support.little_api import LittleApi

VERSION = {"version": names.VERSION, "groupVersion": f"{names.GROUP}/{names.VERSION}"}
GROUP = {"name": names.GROUP, "versions": [VERSION], "preferredVersion": VERSION}
RESOURCE = {
    "name": kinds.EDGE_DEPLOYMENT.plural,
    "singularName": "edgedeployment",
    "kind": kinds.EDGE_DEPLOYMENT.name,
    "namespaced": True,
    "verbs": ["get", "list", "watch"],
}
NAMESPACES = {"name": "namespaces", "singularName": "namespace", "kind": "Namespace", "namespaced": False}
DISCOVERY = {
    "/api": {"versions": ["v1"]},
    "/api/v1": {"resources": [{**NAMESPACES, "verbs": ["list", "watch"]}]},
    "/api/v1/namespaces": {"metadata": {}, "items": [{"metadata": {"name": "models"}}]},
    "/apis": {"groups": [GROUP]},
    f"/apis/{names.GROUP}/{names.VERSION}": {"resources": [RESOURCE]},
}


class Forgetful(LittleApi):
    """Refuses the first watch: 410, as a status."""

    def __init__(self) -> None:
        super().__init__()
        self.watches = 0

    async def ask(self, request: web.Request) -> web.Response:
        if request.path in DISCOVERY:
            return web.json_response(DISCOVERY[request.path])
        if "watch" not in request.query:
            return await self.answer(request)
        self.watches += 1
        if self.watches == 1:
            return web.json_response({"kind": "Status", "code": 410, "reason": "Expired"}, status=410)
        await asyncio.sleep(0.05)
        return web.Response()


async def test_doors_that_kopf_shut_are_opened_again_and_the_agent_is_not_killed_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doors, "_AGAIN", 0.05)
    loop, timers = asyncio.get_running_loop(), []
    call_later = loop.call_later

    def noted(delay: float, callback: Any, *arguments: Any, **more: Any) -> asyncio.TimerHandle:
        timers.append(callback)
        return call_later(delay, callback, *arguments, **more)

    monkeypatch.setattr(loop, "call_later", noted)
    server, rung = Forgetful(), asyncio.Queue[str]()
    server.put(kinds.EDGE_DEPLOYMENT, "models", {"metadata": {"name": "team.digits"}})
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.ask)
    async with TestServer(app) as running:
        settings = Configuration()
        settings.host = f"http://127.0.0.1:{running.port}"
        async with Api(settings, manager="tests") as api:
            listening = asyncio.create_task(doors.listen(api, "models", rung.put_nowait))
            async with asyncio.timeout(20):
                assert [await rung.get(), await rung.get()] == ["team.digits"] * 2
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)
    assert timers
    assert signal.pthread_kill not in timers, "kopf kills who does not end ten minutes after it"
