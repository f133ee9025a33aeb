"""What comes over the wire from things that are not quite a registry; each answer has its own reason.

A small HTTP server says what no real registry says on demand. The protocol itself is tried on the real CNCF server in
tests/cluster/bundle_registry_test.py.
"""

import asyncio
import base64
import hashlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from edgefleet.bundle import BundleError, Reference, RegistryOptions, Store, check
from edgefleet.bundle import format as fmt
from edgefleet.bundle.disk import digest_of
from edgefleet.bundle.download import download
from edgefleet.bundle.oci import Registry
from edgefleet.bundle.part import Part
from support.bundles import ALICE, forge

FORGED = forge()
DATA = bytes(range(256)) * 2000
FILE = fmt.File(digest=digest_of(DATA), size=len(DATA))
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Answer every request with `handler`; yields host:port."""
    runner = web.ServerRunner(web.Server(handler))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    try:
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def bundle(request: web.Request) -> web.Response:
    """A registry that has one bundle."""
    digest = request.path.rpartition("/")[2]
    return web.Response(body=FORGED.manifest if "/manifests/" in request.path else FORGED.blobs[digest])


def certificate(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """Make a certificate for 127.0.0.1 that vouches for itself; return its PEM file and a server's context."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    public, private = folder / "cert.pem", folder / "key.pem"
    public.write_bytes(made.public_bytes(Encoding.PEM))
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    return public, context


async def checked(handler: Handler, **options: object) -> str:
    """Reason why a check failed, or an empty text."""
    async with serving(handler) as host:
        try:
            await check(
                f"oci://{host}/m@{FORGED.digest}",
                ALICE.trust,
                RegistryOptions(plain_http=frozenset({host}), **options),  # type: ignore[arg-type]
            )
        except BundleError as error:
            return error.reason
    return ""


async def test_a_registry_that_just_answers_is_enough() -> None:
    assert await checked(bundle) == ""


def always(status: int, body: bytes = b"", **headers: str) -> Handler:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(
            status=status, body=body, headers={key.replace("_", "-"): text for key, text in headers.items()}
        )

    return answer


@pytest.mark.parametrize(
    ("handler", "reason"),
    [
        pytest.param(always(200, b"<!doctype html><h1>Accept our terms", Content_Type="text/html; charset=utf-8"), "NotARegistry", id="captive-portal"),
        pytest.param(always(302, Location="http://login.example/"), "NotARegistry", id="sent-on-without-tls"),
        pytest.param(always(302, Location="/v2/again"), "RegistryFailed", id="redirects-without-end"),
        pytest.param(always(404, b"<html>", Content_Type="text/html"), "NotFound", id="not-found"),
        pytest.param(always(401), "RegistryRefused", id="login-without-saying-how"),
        pytest.param(always(401, WWW_Authenticate='Basic realm="x"'), "RegistryRefused", id="basic-without-credentials"),
        pytest.param(always(401, WWW_Authenticate='Bearer realm="http://tokens.example/"'), "RegistryRefused", id="token-without-tls"),
        pytest.param(always(401, WWW_Authenticate='Bearer realm="'), "RegistryRefused", id="challenge-cut-off"),
        pytest.param(always(403), "RegistryRefused", id="forbidden"),
        pytest.param(always(429), "RegistryFailed", id="too-many-requests"),
        pytest.param(always(503), "RegistryFailed", id="unavailable"),
        pytest.param(always(418), "RegistryFailed", id="teapot"),
        pytest.param(always(200, b"{}"), "DigestMismatch", id="another-manifest"),
        pytest.param(always(200, b" " * (fmt.DOCUMENT_CAP + 1)), "TooLarge", id="endless-manifest"),
    ],
)  # fmt: skip
async def test_every_odd_answer_has_its_reason(handler: Handler, reason: str) -> None:
    assert await checked(handler) == reason


async def test_the_pause_a_registry_asks_for_is_handed_on() -> None:
    async with serving(always(429, Retry_After="17")) as host:
        with pytest.raises(BundleError) as caught:
            await check(
                f"oci://{host}/m@{FORGED.digest}", ALICE.trust, RegistryOptions.create(plain_http=host)
            )
    assert getattr(caught.value, "retry_after", None) == 17


async def test_a_registry_that_goes_silent_is_given_up() -> None:
    async def silent(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = 100
        await response.prepare(request)
        await response.write(b"{")
        await asyncio.sleep(1)
        return response

    assert await checked(silent, read_timeout=0.3) == "RegistryUnreachable"


async def test_a_registry_that_drips_is_given_up() -> None:
    async def dripping(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = 1000
        await response.prepare(request)
        try:
            for _ in range(100):
                await response.write(b" ")
                await asyncio.sleep(0.05)
        except ConnectionError:
            pass
        return response

    begin = asyncio.get_running_loop().time()
    assert await checked(dripping, document_timeout=0.4) == "RegistryUnreachable"
    assert asyncio.get_running_loop().time() - begin < 3


async def test_nobody_there_and_no_such_name_are_unreachable_and_not_the_bundles_fault() -> None:
    for host in ("127.0.0.1:1", "no-such-host.invalid:5000"):
        with pytest.raises(BundleError, match=host.split(":")[0]) as caught:
            await check(f"oci://{host}/m@{FORGED.digest}", ALICE.trust)
        assert caught.value.reason == "RegistryUnreachable"
        assert caught.value.environment


async def test_a_registry_without_tls_has_to_be_listed() -> None:
    async with serving(bundle) as host:
        with pytest.raises(BundleError, match="plain HTTP") as caught:
            await check(f"oci://{host}/m@{FORGED.digest}", ALICE.trust)
    assert caught.value.reason == "RegistryUnreachable"


async def test_a_certificate_counts_when_its_authority_is_given_and_not_before(tmp_path: Path) -> None:
    authority, tls = certificate(tmp_path)
    async with serving(bundle, tls) as host:
        ref = f"oci://{host}/m@{FORGED.digest}"
        assert (await check(ref, ALICE.trust, RegistryOptions(ca_file=authority))).version == 1
        with pytest.raises(BundleError, match="certificate") as caught:
            await check(ref, ALICE.trust)
    assert caught.value.reason == "RegistryUnreachable"


async def test_a_token_is_fetched_once_with_the_credentials_and_used_for_all() -> None:
    asked: list[str] = []

    async def registry(request: web.Request) -> web.Response:
        if request.path == "/token":
            asked.append(
                f"{request.headers.get('Authorization')} {request.query['scope']} {request.query['service']}"
            )
            return web.json_response({"token": "T"})
        if request.headers.get("Authorization") != "Bearer T":
            realm = f'Bearer realm="http://{request.host}/token",service="s",scope="repository:m:pull"'
            return web.Response(status=401, headers={"WWW-Authenticate": realm})
        return await bundle(request)

    async with serving(registry) as host:
        options = RegistryOptions(plain_http=frozenset({host}), credentials={host: ("site", "secret")})
        await check(f"oci://{host}/m@{FORGED.digest}", ALICE.trust, options)
    basic = base64.b64encode(b"site:secret").decode()
    assert asked == [f"Basic {basic} repository:m:pull s"]


async def test_a_token_that_is_not_accepted_is_not_asked_for_again_and_again() -> None:
    asked = 0

    async def registry(request: web.Request) -> web.Response:
        nonlocal asked
        if request.path == "/token":
            asked += 1
            return web.json_response({"token": "T"})
        return web.Response(
            status=401, headers={"WWW-Authenticate": f'Bearer realm="http://{request.host}/token"'}
        )

    assert await checked(registry) == "RegistryRefused"
    assert asked == 1


async def test_credentials_do_not_follow_a_redirect_to_another_host() -> None:
    seen: list[str | None] = []

    async def elsewhere(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Authorization"))
        return await bundle(request)

    async with serving(elsewhere) as other:

        async def registry(request: web.Request) -> web.Response:
            if "Authorization" not in request.headers:
                return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})
            if "/blobs/" in request.path:
                raise web.HTTPTemporaryRedirect(f"http://{other}{request.path}")
            return await bundle(request)

        async with serving(registry) as host:
            options = RegistryOptions(
                plain_http=frozenset({host, other}), credentials={host: ("site", "secret")}
            )
            await check(f"oci://{host}/m@{FORGED.digest}", ALICE.trust, options)
    assert seen == [None, None]


# -- large files ----------------------------------------------------------------------------------------


async def fetched(handler: Handler, store: Store, **options: object) -> str:
    """Reason why a download failed, or an empty text."""
    async with serving(handler) as host:
        known = RegistryOptions(plain_http=frozenset({host}), **options)  # type: ignore[arg-type]
        async with Registry(known) as registry:
            try:
                await download(registry, Reference(host, "m"), FILE, store, lambda _: None)
            except BundleError as error:
                return error.reason
    return ""


def begun(store: Store, data: bytes) -> None:
    with store.part(FILE.digest) as part:
        part.write(data)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path, reserve=0)


async def test_a_registry_without_ranges_is_read_from_the_start(store: Store) -> None:
    begun(store, DATA[:1000])
    assert await fetched(always(200, DATA), store) == ""
    assert store.intact(FILE.digest)


async def test_a_part_that_was_damaged_on_the_disk_is_fetched_anew(store: Store) -> None:
    begun(store, bytes(1000))

    async def ranged(request: web.Request) -> web.Response:
        start = request.http_range.start or 0
        if not start:
            return web.Response(body=DATA)
        return web.Response(
            status=206,
            body=DATA[start:],
            headers={"Content-Range": f"bytes {start}-{len(DATA) - 1}/{len(DATA)}"},
        )

    assert await fetched(ranged, store) == ""
    assert store.intact(FILE.digest)


async def test_a_part_longer_than_the_file_is_fetched_anew(store: Store) -> None:
    begun(store, DATA + b"more")
    assert await fetched(always(200, DATA), store) == ""


class Overtaken(Store):
    """A store in which somebody else finishes the file just before we get hold of its part."""

    def part(self, digest: str) -> Part:
        mine = super().part(digest)
        self.path(digest).write_bytes(DATA)
        return mine


async def test_a_file_that_somebody_else_just_finished_is_not_fetched(tmp_path: Path) -> None:
    overtaken = Overtaken(tmp_path, reserve=0)
    assert await fetched(always(500), overtaken, attempts=1) == ""
    assert overtaken.usage().part_bytes == 0
    assert not list((tmp_path / "parts").iterdir())


@pytest.mark.parametrize(
    ("handler", "reason"),
    [
        pytest.param(always(200, DATA[:-1] + b"!"), "DigestMismatch", id="one-byte-flipped"),
        pytest.param(always(200, DATA + b"!"), "SizeMismatch", id="one-byte-more"),
        pytest.param(always(200, DATA[:-1]), "SizeMismatch", id="one-byte-less"),
        pytest.param(always(200, b"<html>", Content_Type="text/html"), "NotARegistry", id="captive-portal"),
        pytest.param(
            always(206, DATA, Content_Range="nonsense"), "RegistryFailed", id="range-that-says-nothing"
        ),
        pytest.param(always(404), "NotFound", id="not-found"),
    ],
)
async def test_a_file_that_is_not_right_never_gets_its_name(
    handler: Handler, reason: str, store: Store
) -> None:
    assert await fetched(handler, store, attempts=1) == reason
    assert not store.has(FILE.digest)


async def test_a_stream_without_a_length_stops_at_the_declared_size(store: Store) -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(DATA)
        except ConnectionError:
            return response

    assert await fetched(endless, store) == "SizeMismatch"
    assert store.usage().part_bytes <= FILE.size


async def test_a_web_page_in_the_middle_does_not_spoil_what_is_there(store: Store) -> None:
    begun(store, DATA[:1000])
    assert (
        await fetched(always(200, b"<html>", Content_Type="text/html"), store, attempts=1) == "NotARegistry"
    )
    with store.part(FILE.digest) as part:
        assert part.resume() == 1000
        assert hashlib.sha256(DATA[:1000]).hexdigest() == part._hash.hexdigest()


async def test_a_ca_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    for path in (tmp_path / "ca.pem", tmp_path / "missing.pem"):
        with pytest.raises(BundleError, match=path.name) as caught:
            await check(f"oci://localhost:1/m@{FORGED.digest}", ALICE.trust, RegistryOptions(ca_file=path))
        assert caught.value.reason == "RegistryUnreachable"
