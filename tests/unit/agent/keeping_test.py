"""A server that hangs up on silence finds none, and a site makes one connection instead of one a beat."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from edgefleet.agent import keeping
from edgefleet.kube import errors, kinds
from edgefleet.kube.client import Api
from kubernetes.aio.client import Configuration
from support import virtual

HANGS_UP = 2.0
BEAT = 2.6


class Hub:
    """Counts connections, and hangs up on those that were silent for a while."""

    def __init__(self) -> None:
        self.connections: set[object] = set()
        self.kept = 0

    async def answer(self, request: web.Request) -> web.Response:
        self.connections.add(request.protocol)
        await request.read()
        if request.path == "/livez":
            self.kept += 1
            return web.Response(text="ok")
        return web.json_response({"metadata": {}})


@pytest.fixture
async def hub() -> AsyncIterator[tuple[Hub, Api]]:
    made = Hub()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.answer)
    settings = Configuration()
    async with TestServer(app) as server:
        assert server.runner is not None
        server.runner.server._kwargs["keepalive_timeout"] = HANGS_UP  # type: ignore[union-attr]
        settings.host = str(server.make_url("")).rstrip("/")
        async with Api(settings, manager="test", in_flight=2) as api:
            yield made, api


async def beats(api: Api) -> None:
    for _ in range(2):
        await api.merge_patch(kinds.LEASE, "site-paris", "heartbeat", {})
        await asyncio.sleep(BEAT)


async def test_each_beat_is_a_connection_when_nothing_is_said_between(hub: tuple[Hub, Api]) -> None:
    seen, api = hub
    await beats(api)
    assert len(seen.connections) == 2


async def test_a_word_between_beats_keeps_one_connection(
    hub: tuple[Hub, Api], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "QUIET", 0.4)
    seen, api = hub
    await api.touch()  # to connect takes a slow machine longer than the silence allowed here
    keeper = asyncio.create_task(keeping.keep_open(api))
    await beats(api)
    keeper.cancel()
    assert len(seen.connections) == 1
    assert seen.kept >= 2


async def test_a_hub_that_is_away_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "QUIET", 0.05)
    settings = Configuration()
    settings.host = "http://127.0.0.1:1"
    async with Api(settings, manager="test") as api:
        keeper = asyncio.create_task(keeping.keep_open(api))
        await asyncio.sleep(0.3)
        assert not keeper.done()
        keeper.cancel()


class Gone:
    """The client of a site whose hub does not answer."""

    def __init__(self, tries: list[float]) -> None:
        self.tries = tries

    @property
    def quiet(self) -> float:
        return asyncio.get_running_loop().time()

    async def touch(self) -> None:
        self.tries.append(self.quiet)
        raise errors.Unreachable("refused")


def test_sites_that_lost_their_hub_together_do_not_call_for_it_in_chorus() -> None:
    tries: list[float] = []

    async def fleet() -> None:
        keepers = [asyncio.create_task(keeping.keep_open(Gone(tries))) for _ in range(60)]  # type: ignore[arg-type]
        await asyncio.sleep(15 * 60)
        for keeper in keepers:
            keeper.cancel()

    virtual.run(fleet())
    late = Counter(int(when) for when in tries if when > 10 * 60)
    assert max(late.values()) <= 12
