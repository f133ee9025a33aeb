"""Downloads of a site: what one ended with is true of its order, its attempt and its files, and of nothing else."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from edgefleet.agent import inventory
from edgefleet.agent.fetch import Fetcher
from edgefleet.bundle import RegistryOptions, Store
from edgefleet.core.local import Fetch, FetchFailed, Fetching
from edgefleet.core.local_record import Record, Staged
from edgefleet.core.order import Cause, Order, OrderIdentity
from support.bundles import ALICE, Forged, forge
from support.site import order

ACTIVE = ("", 0, "")


class Registry:
    """A registry over HTTP that has one bundle and may be told to give nothing more."""

    def __init__(self, forged: Forged) -> None:
        self.forged = forged
        self.damaged = False
        self.open = asyncio.Event()
        self.open.set()

    async def answer(self, request: web.Request) -> web.Response:
        await self.open.wait()
        digest = request.path.rpartition("/")[2]
        if "/manifests/" in request.path:
            return web.Response(body=self.forged.manifest)
        found = self.forged.blobs[digest]
        return web.Response(body=bytes(len(found)) if self.damaged else found)


class Place:
    """A real fetcher with its store, and a registry to fetch from."""

    def __init__(self, folder: Path, registry: Registry, host: str) -> None:
        self.registry, self._host = registry, host
        self.rung: list[str] = []
        self.store = Store(folder, reserve=0)
        self.fetcher = Fetcher(
            self.store,
            ALICE.trust,
            RegistryOptions.create(plain_http=host),
            inventory.read(),
            self.rung.append,
        )

    def order(self, revision: str = "aa", **fields: object) -> Order:
        """An order for the registry's bundle."""
        made = order(revision, variants=(), **fields)
        bundle = f"oci://{self._host}/models/forged@{self.registry.forged.digest}"
        return msgspec.structs.replace(made, bundle=bundle)

    async def fetch(
        self, wanted: Order, record: Record, active: tuple[str, int, str] = ACTIVE, name: str = "team.digits"
    ) -> Fetch:
        """Download to the end."""
        self.fetcher.start(name, wanted, record, active)
        return await self.ended(wanted, record, name)

    async def ended(self, wanted: Order, record: Record, name: str = "team.digits") -> Fetch:
        """Wait until nothing is under way."""
        async with asyncio.timeout(20):
            while isinstance(self.fetcher.state(name, wanted, record), Fetching):  # noqa: ASYNC110  `ring` is under test
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.01)
        return self.fetcher.state(name, wanted, record)


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    registry = Registry(forge())
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", registry.answer)
    async with TestServer(app) as server:
        made = Place(tmp_path, registry, f"127.0.0.1:{server.port}")
        yield made
        await made.fetcher.close()


def asked(generation: int, **fields: object) -> Record:
    return msgspec.structs.replace(Record(identity=OrderIdentity(uid="u1", generation=generation)), **fields)


async def test_files_that_were_evicted_are_not_staged_any_more(place: Place) -> None:
    wanted, record = place.order(), asked(1)
    assert isinstance(await place.fetch(wanted, record), Staged)
    place.store.evict(())
    assert place.fetcher.state("team.digits", wanted, record) is None


async def test_a_damaged_file_is_fetched_again_though_the_download_had_ended_well(place: Place) -> None:
    wanted, record = place.order(), asked(1)
    staged = await place.fetch(wanted, record)
    assert isinstance(staged, Staged)
    place.store.path(staged.blobs[-1]).write_bytes(b"rotten")
    await place.fetcher.drop_damaged(staged)
    assert (
        place.fetcher.state("team.digits", wanted, msgspec.structs.replace(record, staged=(staged,))) is None
    )


async def test_a_hub_that_was_behind_is_obeyed_once_it_says_what_to_leave(place: Place) -> None:
    wanted, serving = place.order(), ("sha256:" + "5" * 64, 5, "int8")
    failed = await place.fetch(wanted, asked(1), serving)
    assert isinstance(failed, FetchFailed)
    assert failed.rejected
    again = msgspec.structs.replace(wanted, replaces=serving[0])
    assert place.fetcher.state("team.digits", again, asked(2)) is None
    assert isinstance(await place.fetch(again, asked(2), serving), Staged)


async def test_another_attempt_does_not_inherit_the_failure_of_the_one_before(place: Place) -> None:
    place.registry.damaged = True
    wanted = place.order()
    failed = await place.fetch(wanted, asked(1))
    assert isinstance(failed, FetchFailed)
    assert failed.trouble.reason == "DigestMismatch"
    place.registry.damaged = False
    again = msgspec.structs.replace(wanted, attempt=2)
    assert place.fetcher.state("team.digits", again, asked(1)) is None
    assert isinstance(await place.fetch(again, asked(1)), Staged)


async def test_an_order_that_changes_during_the_download_has_its_own_and_ends_well(place: Place) -> None:
    place.registry.open.clear()
    wanted = place.order()
    place.fetcher.start("team.digits", wanted, asked(1), ACTIVE)
    await asyncio.sleep(0.05)
    place.fetcher.start("team.digits", wanted, asked(2), ACTIVE)
    place.registry.open.set()
    assert isinstance(await place.ended(wanted, asked(2)), Staged)
    assert place.rung == ["team.digits"]


async def test_what_was_fetched_is_held_until_it_is_forgotten(place: Place) -> None:
    wanted, record = place.order(), asked(1)
    staged = await place.fetch(wanted, record)
    assert isinstance(staged, Staged)
    assert place.fetcher.held() == set(staged.blobs)
    place.fetcher.keep_only(place.fetcher.held())
    assert place.fetcher.complete(staged)
    place.fetcher.drop("team.digits")
    assert place.fetcher.held() == frozenset()
    assert place.fetcher.state("team.digits", wanted, record) is None


async def test_a_download_nobody_wants_any_more_ends_and_the_store_is_cleaned(place: Place) -> None:
    place.registry.open.clear()
    wanted, record = place.order("bb"), asked(1)
    left = place.store.put_bytes(b"left over")
    place.fetcher.start("team.digits", wanted, record, ACTIVE)
    await asyncio.sleep(0.05)
    assert not place.fetcher.keep_only(frozenset())
    assert place.store.has(left)
    place.fetcher.settle("team.digits", place.order("cc"), asked(2))
    assert place.fetcher.keep_only(frozenset())
    assert not place.store.has(left)


async def test_what_came_of_a_download_that_failed_does_not_stay(place: Place) -> None:
    assert place.fetcher.keep_only(frozenset())
    place.registry.damaged = True
    assert isinstance(await place.fetch(place.order(), asked(1)), FetchFailed)
    left = place.store.put_bytes(b"came with it")
    place.fetcher.drop("team.digits")
    assert place.fetcher.keep_only(frozenset())
    assert not place.store.has(left)


async def test_a_download_that_will_be_tried_again_keeps_what_it_has(place: Place) -> None:
    wanted, record = place.order(), asked(1)
    staged = await place.fetch(wanted, record)
    assert isinstance(staged, Staged)
    place.store.discard(place.registry.forged.digest)
    place.fetcher.use(RegistryOptions.create(plain_http="127.0.0.1:1"))  # TLS with a server that has none
    failed = await place.fetch(wanted, record)
    assert isinstance(failed, FetchFailed)
    assert failed.trouble.cause is Cause.ENVIRONMENT
    place.fetcher.keep_only(place.fetcher.held())
    model = next(digest for digest, data in place.registry.forged.blobs.items() if data == b"a model")
    assert place.store.has(model)
