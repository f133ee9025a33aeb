"""Asking pods what they say of themselves, over real connections."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web
from edgefleet.agent.pods import Pods
from edgefleet.core.local import PodSeen
from edgepod.contract import HEALTH_PATH, CanaryCounters, Counters, HealthDocument

POD = PodSeen(name="p", uid="u", revision="r", ip="127.0.0.1")
SIDE = Counters(requests=10**6, latency=(10**6,) * 59)
DOCUMENT = HealthDocument(
    start_id="s",
    revision="r",
    ready=True,
    served=SIDE,
    canary=CanaryCounters("step", sent=SIDE, shadowed=SIDE),
)


async def asked(answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> dict[str, HealthDocument]:
    app = web.Application()
    app.router.add_get(HEALTH_PATH, answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    pods = Pods(runner.addresses[0][1])
    try:
        return await pods.read([POD])
    finally:
        await pods.close()
        await runner.cleanup()


@pytest.mark.parametrize("length", [True, False], ids=["with its length", "in chunks"])
def test_a_document_that_comes_in_pieces_is_read_to_its_end(length: bool) -> None:
    body = DOCUMENT.to_json()

    async def in_pieces(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(len(body))} if length else {})
        await response.prepare(request)
        for start in range(0, len(body), 700):
            await response.write(body[start : start + 700])
            await asyncio.sleep(0.02)
        return response

    assert asyncio.run(asked(in_pieces)) == {"u": DOCUMENT}


def test_a_pod_that_talks_without_end_has_no_document() -> None:
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        while sent < 64 * 1024 * 1024:
            await response.write(b" " * 65536)
            sent += 65536
        return response

    assert asyncio.run(asked(endless)) == {}
    assert sent < 32 * 1024 * 1024
