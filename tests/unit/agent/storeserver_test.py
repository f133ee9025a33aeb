"""The store's own server: files by digest, by range, and nothing else."""

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from edgefleet.agent import storeserver
from edgefleet.bundle import Store

DATA = bytes(range(256)) * 4096


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    Store(tmp_path / "store").put_bytes(DATA)
    (tmp_path / "store" / "journal.json").write_text("secret")
    runner = web.AppRunner(storeserver.application(tmp_path / "store"))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.fixture
def digest(tmp_path: Path) -> str:
    return Store(tmp_path / "other").put_bytes(DATA).removeprefix("sha256:")


async def get(url: str, **headers: str) -> tuple[int, bytes]:
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as answer:
        return answer.status, await answer.read()


async def test_a_file_comes_whole(url: str, digest: str) -> None:
    assert await get(f"{url}/sha256/{digest}") == (200, DATA)


async def test_a_file_comes_from_where_a_pod_left_off(url: str, digest: str) -> None:
    assert await get(f"{url}/sha256/{digest}", Range="bytes=1000000-") == (206, DATA[1_000_000:])


async def test_a_range_past_the_end_is_refused(url: str, digest: str) -> None:
    assert (await get(f"{url}/sha256/{digest}", Range="bytes=99999999-"))[0] == 416


async def test_a_file_that_is_not_there_is_said_so(url: str) -> None:
    status, body = await get(f"{url}/sha256/{'0' * 64}")
    assert status == 404
    assert b"is not in the store" in body


@pytest.mark.parametrize(
    "path", ["/sha256/..%2f..%2fjournal.json", "/sha256/ABC", "/journal.json", "/", "/sha256/"]
)
async def test_nothing_else_is_served(url: str, path: str) -> None:
    status, body = await get(url + path)
    assert status in (400, 404)
    assert b"secret" not in body


async def test_it_is_healthy_without_agent_and_hub(url: str) -> None:
    assert (await get(f"{url}/healthz"))[0] == 200
