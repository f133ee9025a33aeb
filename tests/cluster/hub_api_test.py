"""The API layer of hub and agent against a real API server."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from edgefleet.kube import apply, errors, kinds, watching
from edgefleet.kube.cache import Cache
from edgefleet.kube.client import Api, Explicit, Object
from edgefleet.kube.watching import Pace, Watcher
from support.cluster import admin, eventually

pytestmark = pytest.mark.cluster


@pytest.fixture
async def api(api_server: Path) -> AsyncIterator[Api]:
    async with admin(api_server) as made:
        yield made


@pytest.fixture
async def namespace(api: Api) -> AsyncIterator[str]:
    name = f"api-{secrets.token_hex(3)}"
    await api.create(kinds.NAMESPACE, None, {"metadata": {"name": name}})
    yield name
    await api.delete(kinds.NAMESPACE, None, name, uid=None)


def config(name: str, **data: str) -> Object:
    return {"metadata": {"name": name}, "data": data}


@contextlib.asynccontextmanager
async def following(watcher: Watcher) -> AsyncIterator[Watcher]:
    task = asyncio.create_task(watcher.run())
    try:
        async with asyncio.timeout(10):
            await watcher.synced.wait()
        yield watcher
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_collection_is_read_whole_in_pages(api: Api, namespace: str) -> None:
    await asyncio.gather(*(api.create(kinds.CONFIG_MAP, namespace, config(f"c{i}")) for i in range(23)))
    pages = [items async for items, _ in api.pages(kinds.CONFIG_MAP, namespace, limit=10)]
    found = {item["metadata"]["name"] for page in pages for item in page}
    assert len(pages) >= 3
    assert {f"c{i}" for i in range(23)} <= found


async def test_a_field_the_server_does_not_know_is_refused_by_its_name_and_nothing_is_written(
    api: Api,
) -> None:
    name = f"s{secrets.token_hex(3)}"
    with pytest.raises(errors.Invalid, match="gravity"):
        await api.create(kinds.EDGE_SITE, None, {"metadata": {"name": name}, "spec": {"gravity": 1}})
    with pytest.raises(errors.NotFound):
        await api.get(kinds.EDGE_SITE, None, name)

    made = await api.create(kinds.EDGE_SITE, None, {"metadata": {"name": name}, "spec": {}})
    try:
        with pytest.raises(errors.Invalid, match="gravity"):
            await api.merge_patch(
                kinds.EDGE_SITE, None, name, {"status": {"gravity": 1, "agentVersion": "1"}}, status=True
            )
        assert "agentVersion" not in (await api.get(kinds.EDGE_SITE, None, name))["status"]
    finally:
        await api.delete(kinds.EDGE_SITE, None, name, uid=made["metadata"]["uid"])


async def test_a_write_meant_for_an_object_that_was_made_anew_is_refused(api: Api, namespace: str) -> None:
    old = await api.create(kinds.CONFIG_MAP, namespace, config("a", v="1"))
    await api.delete(kinds.CONFIG_MAP, namespace, "a", uid=old["metadata"]["uid"])
    await api.create(kinds.CONFIG_MAP, namespace, config("a", v="2"))

    change: Object = {"metadata": {"uid": old["metadata"]["uid"]}, "data": {"v": "3"}}
    with pytest.raises(errors.Conflict):
        await api.merge_patch(kinds.CONFIG_MAP, namespace, "a", change)
    with pytest.raises(errors.Conflict):
        await api.delete(kinds.CONFIG_MAP, namespace, "a", uid=old["metadata"]["uid"])
    await apply.remove(api, kinds.CONFIG_MAP, namespace, "a", uid=old["metadata"]["uid"])
    assert (await api.get(kinds.CONFIG_MAP, namespace, "a"))["data"] == {"v": "2"}


async def test_ensuring_an_object_twice_writes_once_and_leaves_others_fields_alone(
    api: Api, namespace: str
) -> None:
    wanted = {"metadata": {"name": "e", "namespace": namespace, "labels": {"ours": "1"}}, "data": {"a": "1"}}
    await apply.ensure(api, kinds.CONFIG_MAP, wanted)
    theirs = await api.merge_patch(
        kinds.CONFIG_MAP, namespace, "e", {"metadata": {"labels": {"theirs": "2"}}, "data": {"b": "2"}}
    )
    again = await apply.ensure(api, kinds.CONFIG_MAP, wanted)
    assert again["metadata"]["resourceVersion"] == theirs["metadata"]["resourceVersion"]
    assert again["data"] == {"a": "1", "b": "2"}
    assert again["metadata"]["labels"] == {"ours": "1", "theirs": "2"}


async def test_a_status_that_is_as_it_should_be_is_not_written(api: Api) -> None:
    name = f"s{secrets.token_hex(3)}"
    live = await api.create(kinds.EDGE_SITE, None, {"metadata": {"name": name}, "spec": {}})
    try:
        want: dict[str, Any] = {"observedGeneration": 1, "agentVersion": "1", "models": {"serving": 1}}
        first = await apply.patch_status(api, kinds.EDGE_SITE, live, want)
        assert first is not None
        assert await apply.patch_status(api, kinds.EDGE_SITE, first, want) is None
        del want["models"]
        second = await apply.patch_status(api, kinds.EDGE_SITE, first, want)
        assert second is not None
        assert "models" not in second["status"]
        with pytest.raises(errors.Conflict):  # what it was decided on is not what is there now
            await apply.patch_status(api, kinds.EDGE_SITE, first, {"observedGeneration": 2})
    finally:
        await api.delete(kinds.EDGE_SITE, None, name, uid=None)


async def test_a_cache_follows_a_collection_and_notices_after_a_silence_what_has_gone(
    api: Api, namespace: str
) -> None:
    for name in ("a", "b"):
        await api.create(kinds.CONFIG_MAP, namespace, config(name, v="1"))
    cache: Cache[dict[str, str]] = Cache(lambda raw: dict(raw.get("data") or {}))
    watcher = Watcher(api, kinds.CONFIG_MAP, cache.sink, namespace=namespace)
    async with following(watcher):
        assert cache.get(namespace, "a") == {"v": "1"}
        await api.merge_patch(kinds.CONFIG_MAP, namespace, "a", {"data": {"v": "2"}})
        await api.delete(kinds.CONFIG_MAP, namespace, "b", uid=None)
        await api.create(kinds.CONFIG_MAP, namespace, config("c", v="3"))

        async def caught_up() -> bool:
            seen = [cache.get(namespace, name) for name in ("a", "b", "c")]
            return seen == [{"v": "2"}, None, {"v": "3"}]

        await eventually(caught_up, "the cache has followed")

    # the watch is dead and something goes: no DELETED event ever tells
    await api.delete(kinds.CONFIG_MAP, namespace, "c", uid=None)
    watcher.relist()
    async with following(watcher):

        async def gone() -> bool:
            return cache.get(namespace, "c") is None

        await eventually(gone, "the next list shows what has gone")


async def test_a_version_the_server_has_forgotten_leads_to_a_new_list(api: Api, namespace: str) -> None:
    await api.create(kinds.CONFIG_MAP, namespace, config("a"))
    told: list[tuple[str, str]] = []
    watcher = Watcher(
        api,
        kinds.CONFIG_MAP,
        lambda event, raw: told.append((event, (raw.get("metadata") or {}).get("name", ""))),
        namespace=namespace,
    )
    watcher._version = "1"  # long compacted: what a box holds that was away for weeks
    async with following(watcher):
        assert (watching.ADDED, "a") in told
        assert (watching.SYNCED, "") in told


async def test_a_watch_that_ends_goes_on_without_losing_or_repeating(api: Api, namespace: str) -> None:
    told: list[tuple[str, str]] = []
    watcher = Watcher(
        api,
        kinds.CONFIG_MAP,
        lambda event, raw: told.append((event, (raw.get("metadata") or {}).get("name", ""))),
        namespace=namespace,
        pace=Pace(shortest=1.0, longest=1.0),
    )
    async with following(watcher):
        for number in range(6):
            await api.create(kinds.CONFIG_MAP, namespace, config(f"c{number}"))
            await asyncio.sleep(0.5)

        async def all_told() -> bool:
            return sum(name.startswith("c") for _, name in told) >= 6

        await eventually(all_told, "all six are told")
    names = [name for event, name in told if event == watching.ADDED and name.startswith("c")]
    assert names == [f"c{number}" for number in range(6)]
    assert sum(event == watching.SYNCED for event, _ in told) == 1


async def test_an_object_the_callback_cannot_take_does_not_end_the_watch(api: Api, namespace: str) -> None:
    told: list[str] = []

    def sink(_event: str, raw: Object) -> None:
        if raw:
            told.append(raw["metadata"]["name"])
            if raw["metadata"]["name"] == "odd":
                raise ValueError("odd")

    async with following(Watcher(api, kinds.CONFIG_MAP, sink, namespace=namespace)):
        await api.create(kinds.CONFIG_MAP, namespace, config("odd"))
        await api.create(kinds.CONFIG_MAP, namespace, config("even"))

        async def both() -> bool:
            return {"odd", "even"} <= set(told)

        await eventually(both, "both are told")


async def test_a_wrong_credential_and_a_dead_server_are_told_apart(api: Api) -> None:
    where = await api.connection()
    authority = await asyncio.to_thread(Path(str(where.ca_path)).read_bytes)
    async with Api.explicit(Explicit(where.server, authority, token="wrong"), manager="test") as stranger:
        with pytest.raises(errors.Unauthorized):
            await stranger.list(kinds.EDGE_SITE)
    dead = Explicit("https://127.0.0.1:1", authority, token="any")
    async with Api.explicit(dead, manager="test") as nobody:
        with pytest.raises(errors.Unreachable, match=r"127\.0\.0\.1"):
            await nobody.create(kinds.CONFIG_MAP, "default", config("x"))


async def test_a_server_of_another_authority_is_not_spoken_to(api: Api) -> None:
    where = await api.connection()
    stranger = Explicit(where.server, _authority("somebody else"), token="any")
    async with Api.explicit(stranger, manager="test") as deceived:
        with pytest.raises(errors.Unreachable, match="certificate"):
            await deceived.create(kinds.CONFIG_MAP, "default", config("x"))


def test_what_is_no_certificate_is_named_at_once() -> None:
    with pytest.raises(ValueError, match=r"hub\.example"):
        Api.explicit(Explicit("https://hub.example", b"nonsense", token="any"), manager="test")


def _authority(name: str) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)
