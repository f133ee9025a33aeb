"""Bundles on the real CNCF distribution server: pushed, checked, pulled, cut, damaged, refused."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from edgefleet.bundle import (
    BundleError,
    BundleInfo,
    DigestMismatch,
    DiskFull,
    Progress,
    Pulled,
    RegistryOptions,
    Store,
    Throttle,
    Trust,
    Variant,
    check,
    load,
    parse,
    pull,
)
from edgefleet.bundle.disk import digest_of
from support import models, registry
from support.bundles import ALICE, MALLORY, forge
from support.cutting import line

pytestmark = pytest.mark.cluster

MODEL = random.Random(5).randbytes(3 << 20)
OTHER = random.Random(6).randbytes(100_000)
GOLDEN = random.Random(7).randbytes(50_000)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[registry.Server]:
    if registry.program() is None:
        pytest.skip("no CNCF distribution server and no way to get one: install docker-registry")
    with registry.serve(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store", reserve=0)


def first(info: BundleInfo) -> Variant:
    return info.variants[0]


def through(ref: str, host: str) -> str:
    """The same reference by another address."""
    return ref.replace(parse(ref).host, host)


async def pulled(
    ref: str,
    store: Store,
    *,
    trust: object = None,
    seen: list[Progress] | None = None,
    throttle: Throttle | None = None,
) -> Pulled:
    options = RegistryOptions.create(plain_http=parse(ref).host)
    tell = seen.append if seen is not None else lambda _: None
    return await pull(
        ref,
        trust or ALICE.trust,
        store,
        choose=first,
        options=options,
        progress=tell,
        throttle=throttle,  # type: ignore[arg-type]
    )


async def refused(ref: str, store: Store) -> BundleError:
    with pytest.raises(BundleError) as caught:
        await pulled(ref, store)
    return caught.value


async def part_grown(store: Store, size: int) -> None:
    """Wait until a part has so many bytes."""
    deadline = time.monotonic() + 30
    while store.usage().part_bytes < size and time.monotonic() < deadline:  # noqa: ASYNC110 - seen from outside
        await asyncio.sleep(0.02)


def fetches(server: registry.Server, data: bytes) -> int:
    """How often the server was asked for a blob."""
    return sum(request.startswith("GET") and digest_of(data) in request for request in server.requests())


async def test_what_is_pushed_is_checked_and_pulled_and_known_without_the_registry(
    server: registry.Server, store: Store
) -> None:
    forged = forge({"int8": MODEL, "fp32": OTHER}, golden=GOLDEN, version=3)
    ref = await forged.push(server.host)
    assert ref == f"oci://{server.host}/models/forged@{forged.digest}"
    before = fetches(server, MODEL)
    info = await check(ref, ALICE.trust, RegistryOptions.create(plain_http=server.host))
    assert (info.name, info.version, info.digest) == ("demo", 3, forged.digest)
    assert fetches(server, MODEL) == before, "a check fetches no model"

    seen: list[Progress] = []
    outcome = await pulled(ref, store, seen=seen)
    assert store.read(digest_of(MODEL), len(MODEL)) == MODEL
    assert store.read(outcome.info.golden.file.digest, len(GOLDEN)) == GOLDEN
    assert not store.has(digest_of(OTHER)), "only the variant that was chosen"
    assert seen[0] == Progress(0, len(MODEL) + len(GOLDEN), 0)
    assert seen[-1].done == seen[-1].total
    assert [step.done for step in seen] == sorted(step.done for step in seen)

    requests = len(server.requests())
    again = await pulled(ref, store)
    assert (again.fetched, again.saved) == (0, again.total)
    assert (await load(store, ref, ALICE.trust)).version == 3
    assert len(server.requests()) == requests, "nothing was asked for a second time"
    assert store.evict(keep=outcome.digests) == 0


async def test_a_file_that_two_bundles_share_is_fetched_once(server: registry.Server, store: Store) -> None:
    await pulled(await forge({"int8": OTHER}, golden=GOLDEN).push(server.host), store)
    outcome = await pulled(
        await forge({"int8": b"new weights"}, golden=GOLDEN, version=2).push(server.host), store
    )
    assert outcome.saved == len(GOLDEN)
    assert outcome.fetched < 10_000


async def test_pushing_again_sends_no_file_twice(server: registry.Server) -> None:
    forged = forge({"int8": b"pushed twice"})
    await forged.push(server.host)
    uploads = sum(request.startswith("PUT") and "/blobs/uploads/" in request for request in server.requests())
    await forged.push(server.host)
    assert uploads == sum(
        request.startswith("PUT") and "/blobs/uploads/" in request for request in server.requests()
    )


# -- links that break -------------------------------------------------------------------------------------


async def test_a_pull_over_a_line_that_keeps_breaking_goes_on_where_it_stopped(
    server: registry.Server, store: Store
) -> None:
    ref = await forge({"int8": MODEL}, golden=GOLDEN).push(server.host)
    async with line(server.host, cut_after=400_000) as broken:
        outcome = await pulled(through(ref, broken.host), store)
    assert store.intact(digest_of(MODEL))
    assert broken.connections >= 8
    assert broken.carried < 1.02 * outcome.total, "what came before a cut is not sent again"


async def test_a_line_that_gives_nothing_ends_the_pull_and_keeps_what_came(
    server: registry.Server, store: Store
) -> None:
    ref = await forge({"int8": MODEL}, golden=GOLDEN).push(server.host)
    async with line(server.host, cut_after=500_000) as broken:
        options = RegistryOptions(plain_http=frozenset({broken.host}), attempts=1)

        def dies(progress: Progress) -> None:
            if progress.done > 200_000:
                broken.cut_after = 0

        with pytest.raises(BundleError) as caught:
            await pull(
                through(ref, broken.host), ALICE.trust, store, choose=first, options=options, progress=dies
            )
    assert caught.value.environment
    assert caught.value.reason in {"RegistryUnreachable", "TransferInterrupted"}
    kept = store.usage().part_bytes
    assert kept > 200_000
    outcome = await pulled(ref, store)
    assert outcome.fetched < outcome.total - kept + 10_000


async def test_a_pull_killed_in_the_middle_goes_on_in_the_next_life(
    server: registry.Server, store: Store
) -> None:
    ref = await forge({"int8": MODEL}, golden=GOLDEN).push(server.host)
    before = store.put_bytes(b"what serves now")
    code = f"""
import asyncio, sys
from edgefleet.bundle import RegistryOptions, Store, Trust, pull
ref, host = sys.argv[1:]
asyncio.run(pull(ref, Trust.of({ALICE.public!r}), Store({str(store.root)!r}, reserve=0), choose=lambda i: i.variants[0],
                 options=RegistryOptions.create(plain_http=host)))
"""
    async with line(server.host, pause=0.02) as slow:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, through(ref, slow.host), slow.host
        )
        await part_grown(store, 600_000)
        child.send_signal(signal.SIGKILL)
        assert await child.wait() == -signal.SIGKILL, "it was still at work"
    assert not store.has(digest_of(MODEL))
    kept = store.usage().part_bytes
    assert kept >= 600_000

    seen: list[Progress] = []
    outcome = await pulled(ref, store, seen=seen)
    assert store.intact(digest_of(MODEL))
    assert store.intact(before)
    assert outcome.fetched < outcome.total - kept + 10_000
    assert seen[0].done == kept, "progress starts where the first life ended"


async def test_a_cancelled_pull_lets_go_at_once_and_goes_on_later(
    server: registry.Server, store: Store
) -> None:
    ref = await forge({"int8": MODEL}, golden=GOLDEN).push(server.host)
    async with line(server.host, pause=0.02) as slow:
        task = asyncio.create_task(pulled(through(ref, slow.host), store))
        await part_grown(store, 300_000)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await asyncio.wait_for(pulled(ref, store), 20)
    assert store.intact(digest_of(MODEL))


async def test_two_pulls_at_once_fetch_each_file_once(server: registry.Server, store: Store) -> None:
    model = MODEL[::-1]
    ref = await forge({"int8": model}, golden=GOLDEN).push(server.host)
    async with line(server.host, pause=0.002) as slow:
        await asyncio.gather(*(pulled(through(ref, slow.host), store) for _ in range(3)))
    assert store.intact(digest_of(model))
    assert fetches(server, model) == 1


async def test_eviction_in_the_middle_of_a_pull_takes_nothing_the_pull_needs(
    server: registry.Server, store: Store
) -> None:
    await pulled(await forge({"int8": b"older"}, golden=GOLDEN).push(server.host), store)
    ref = await forge({"int8": OTHER}, golden=GOLDEN, version=2).push(server.host)
    options = RegistryOptions.create(plain_http=server.host)
    outcome = await pull(
        ref, ALICE.trust, store, choose=first, options=options, progress=lambda _: store.evict([]) and None
    )
    assert all(store.intact(digest) for digest in outcome.digests)
    assert not store.has(digest_of(b"older"))


# -- what must be refused -----------------------------------------------------------------------------------


def _unsigned(manifest: dict[str, object]) -> None:
    manifest["layers"] = [layer for layer in manifest["layers"] if "dsse" not in layer["mediaType"]]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("unsigned", "Unsigned"), ("wrong key", "UntrustedKey"), ("wrong payload type", "Malformed")],
)
async def test_before_the_signature_holds_no_byte_of_a_model_is_fetched(
    kind: str, reason: str, server: registry.Server, store: Store
) -> None:
    model = f"never to be fetched: {kind}".encode()
    forged = {
        "unsigned": lambda: forge({"int8": model}, edit_manifest=_unsigned),
        "wrong key": lambda: forge({"int8": model}, by=MALLORY),
        "wrong payload type": lambda: forge(
            {"int8": model}, envelope=lambda made, _: made.replace(b"bundle.config", b"bundle.kitten")
        ),
    }[kind]()
    error = await refused(await forged.push(server.host), store)
    assert error.reason == reason
    assert not error.environment
    assert fetches(server, model) == 0
    assert store.usage().blobs == 0


async def test_a_flipped_byte_in_a_model_is_refused_and_what_serves_is_untouched(
    server: registry.Server, store: Store
) -> None:
    serving = await pulled(await forge({"int8": b"serving"}, golden=GOLDEN).push(server.host), store)
    model = OTHER[::-1]
    ref = await forge({"int8": model}, golden=GOLDEN, version=2).push(server.host)
    damaged = bytearray(model)
    damaged[len(model) // 2] ^= 1
    server.blob(digest_of(model)).write_bytes(damaged)
    error = await refused(ref, store)
    assert isinstance(error, DigestMismatch)
    assert error.environment, "the registry's disk is at fault, not the model"
    assert not store.has(digest_of(model))
    assert store.usage().part_bytes == 0
    assert all(store.intact(digest) for digest in serving.digests)

    server.blob(digest_of(model)).write_bytes(model)
    await pulled(ref, store)
    assert store.intact(digest_of(model))


async def test_a_truncated_model_in_the_registry_is_refused(server: registry.Server, store: Store) -> None:
    model = b"to be truncated" * 1000
    ref = await forge({"int8": model}).push(server.host)
    server.blob(digest_of(model)).write_bytes(model[:-7])
    assert (await refused(ref, store)).reason in {"SizeMismatch", "RegistryFailed"}
    assert not store.has(digest_of(model))


@pytest.mark.parametrize("which", ["config", "manifest"])
async def test_a_flipped_byte_in_a_document_is_refused(
    which: str, server: registry.Server, store: Store
) -> None:
    forged = forge({"int8": f"document {which}".encode()})
    ref = await forged.push(server.host)
    digest = forged.digest if which == "manifest" else digest_of(forged.config)
    data = server.blob(digest).read_bytes()
    server.blob(digest).write_bytes(
        data.replace(b"demo", b"dema") if which == "config" else data.replace(b"1", b"2", 1)
    )
    error = await refused(ref, store)
    assert error.reason in {"DigestMismatch", "RegistryFailed", "NotFound"}
    assert error.environment


async def test_a_manifest_replaced_by_a_web_page_is_refused(server: registry.Server, store: Store) -> None:
    forged = forge({"int8": b"web page"})
    ref = await forged.push(server.host)
    server.blob(forged.digest).write_bytes(b"<!doctype html><title>Welcome</title>")
    assert (await refused(ref, store)).environment


async def test_a_container_image_is_not_a_bundle(server: registry.Server, store: Store) -> None:
    image = forge(
        edit_manifest=lambda m: (
            m.pop("artifactType"),
            m["config"].update(mediaType="application/vnd.oci.image.config.v1+json"),
        )
    )  # type: ignore[func-returns-value]
    error = await refused(await image.push(server.host), store)
    assert error.reason == "NotABundle"
    assert not error.environment


@pytest.mark.parametrize(
    "ref", ["oci://{host}/models/forged@sha256:" + "0" * 64, "oci://{host}/nothing/here@sha256:" + "0" * 64]
)
async def test_what_the_registry_does_not_have_is_not_found(
    ref: str, server: registry.Server, store: Store
) -> None:
    error = await refused(ref.format(host=server.host), store)
    assert error.reason == "NotFound"
    assert error.environment, "it may still be pushed"


async def test_documents_damaged_in_the_store_are_fetched_again(
    server: registry.Server, store: Store
) -> None:
    forged = forge({"int8": b"bit rot"})
    ref = await forged.push(server.host)
    await pulled(ref, store)
    for digest in (forged.digest, digest_of(forged.config)):
        path = store.path(digest)
        path.write_bytes(path.read_bytes()[:-1] + b"!")
        with pytest.raises(DigestMismatch):
            await load(store, ref, ALICE.trust)
        await pulled(ref, store)
        assert store.intact(digest)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("a disk of its own to fill needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], check=True)
    yield disk
    subprocess.run(["umount", disk], check=True)


async def test_a_disk_that_fills_up_leaves_what_was_whole_and_takes_the_part_away(
    server: registry.Server, small_disk: Path
) -> None:
    store = Store(small_disk, reserve=0)
    kept = await pulled(await forge({"int8": b"serving"}, golden=GOLDEN).push(server.host), store)
    ref = await forge({"int8": MODEL}, golden=GOLDEN, version=2).push(server.host)
    assert (await refused(ref, store)).reason == "DiskFull"
    assert store.usage().part_bytes == 0

    store.free = lambda: 1 << 40  # type: ignore[method-assign]  # as if somebody else filled the disk meanwhile
    error = await refused(ref, store)
    assert isinstance(error, DiskFull)
    assert error.environment
    assert store.usage().part_bytes == 0, "a part that cannot grow must not keep the disk full"
    assert all(store.intact(digest) for digest in kept.digests)


# -- who may -------------------------------------------------------------------------------------------------

# bcrypt of "secret"
HTPASSWD = "site:$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n"


async def test_a_registry_with_a_password_wants_the_right_one(
    tmp_path: Path, server: registry.Server
) -> None:
    del server  # only to skip when there is no program
    with registry.serve(tmp_path, htpasswd=HTPASSWD) as locked:

        def options(password: str) -> RegistryOptions:
            config = {"auths": {locked.host: {"username": "site", "password": password}}} if password else {}
            return RegistryOptions.create(plain_http=locked.host, docker_config=json.dumps(config))

        ref = await forge().push(locked.host, options("secret"))
        assert (await check(ref, ALICE.trust, options("secret"))).version == 1
        for password in ("", "wrong"):
            with pytest.raises(BundleError, match="credentials") as caught:
                await check(ref, ALICE.trust, options(password))
            assert caught.value.reason == "RegistryRefused"
            assert caught.value.environment


# -- from a model to a site, by the commands a person types -----------------------------------------------------


def command(*arguments: str | Path) -> str:
    """Run one of our programs; return what it printed."""
    program = Path(sys.executable).with_name(str(arguments[0]))
    found = subprocess.run([program, *map(str, arguments[1:])], text=True, capture_output=True, timeout=100)
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout


def test_a_model_built_by_command_passes_the_pods_self_test_at_the_site(
    server: registry.Server, store: Store, tmp_path: Path
) -> None:
    models.label_map(tmp_path / "m.onnx")
    models.golden(tmp_path / "g.npz", image=(10, 1, 16, 16))
    command("edgefleet", "keys", "create", "--out", tmp_path, "--name", "me")
    target = f"oci://{server.host}/models/map"
    printed = command(
        *(
            "edgefleet",
            "bundle",
            "build",
            tmp_path / "m.onnx",
            "--name",
            "map",
            "--version",
            "4",
            "--keep-float",
        ),
        *("--golden", tmp_path / "g.npz", "--max-drop", "20%", "--key", tmp_path / "me.key"),
        *("--push", f"{target}:4", "--plain-http", "--output", tmp_path / "layout"),
    )
    ref = printed.split("pushed")[1].strip()
    assert ref.startswith(f"{target}@sha256:")
    assert "int8" in command("edgefleet", "bundle", "inspect", f"{target}:4", "--plain-http")
    for place in (f"{target}:4", ref):
        verified = command(
            "edgefleet", "bundle", "verify", place, "--plain-http", "--trust", tmp_path / "me.pub", "--deep"
        )
        assert parse(ref).digest in verified

    options = RegistryOptions.create(plain_http=server.host)
    outcome = asyncio.run(pull(ref, Trust.load(tmp_path / "me.pub"), store, choose=first, options=options))
    golden = outcome.info.golden
    report = command(
        *(
            "edgepod",
            "selftest",
            store.path(outcome.variant.file.digest),
            "--golden",
            store.path(golden.file.digest),
        ),
        *(
            "--metric",
            golden.metric,
            "--rtol",
            str(golden.rtol),
            "--atol",
            str(golden.atol),
            "--min-agreement",
            "0.8",
        ),
    )
    measured = json.loads(report.splitlines()[-1])
    assert measured["samples"] == golden.samples
    assert measured["agreement"] == pytest.approx(outcome.variant.agreement, abs=0.01), (
        "the site measures as the build did"
    )


async def test_a_limit_holds_for_a_fresh_pull_and_for_one_that_goes_on(
    server: registry.Server, store: Store
) -> None:
    """3 MiB at 1 MiB a second. Only that it takes long enough is looked at; how long else is the machine's business."""
    ref = await forge({"int8": MODEL}, golden=GOLDEN).push(server.host)
    limit = 1 << 20
    begun = time.monotonic()
    task = asyncio.create_task(pulled(ref, store, throttle=Throttle(limit)))
    await part_grown(store, 1 << 20)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    kept, took = store.usage().part_bytes, time.monotonic() - begun
    assert 0 < kept < len(MODEL)
    assert took >= 0.8 * kept / limit - 0.5

    begun = time.monotonic()
    outcome = await pulled(ref, store, throttle=Throttle(limit))
    assert store.intact(digest_of(MODEL))
    assert outcome.fetched < len(MODEL)
    assert time.monotonic() - begun >= 0.8 * (len(MODEL) - kept) / limit


async def test_a_limit_that_is_lifted_lets_a_pull_under_way_run(
    server: registry.Server, store: Store
) -> None:
    """At 8 KiB a second it would be more than six minutes."""
    ref = await forge({"int8": MODEL}, golden=GOLDEN).push(server.host)
    throttle = Throttle(8 << 10)
    task = asyncio.create_task(pulled(ref, store, throttle=throttle))
    await part_grown(store, 10_000)
    throttle.limit = None

    async with asyncio.timeout(60):
        await task
    assert store.intact(digest_of(MODEL))
