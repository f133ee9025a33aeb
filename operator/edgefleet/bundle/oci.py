"""The little of the OCI distribution protocol that bundles need. Every byte that comes in is checked by digest."""

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
from yarl import URL

from edgefleet.bundle.disk import digest_of
from edgefleet.bundle.errors import DigestMismatch, NotFound, RegistryFailed, SizeMismatch, TooLarge
from edgefleet.bundle.format import DOCUMENT_CAP, MANIFEST_TYPE, Descriptor, File
from edgefleet.bundle.reference import Reference
from edgefleet.bundle.transport import Body, Transport, is_web_page, naming, web_page


@dataclass(slots=True)
class Blob:
    """An answer with the bytes of a file from `start` on."""

    start: int
    answer: aiohttp.ClientResponse
    transport: Transport
    host: str

    async def chunks(self) -> AsyncIterator[bytes]:
        """Bytes as they come. Raises RegistryUnreachable when the connection breaks."""
        throttle = self.transport.throttle
        while True:
            with naming(self.host):
                chunk = await self.answer.content.read(throttle.portion)
            if not chunk:
                return
            self.transport.received += len(chunk)
            yield chunk
            await throttle.passed(len(chunk))


class Registry(Transport):
    """A client for registries; use it as an async context manager."""

    async def manifest(self, reference: Reference) -> bytes:
        """Fetch a manifest by digest, which is checked, or by tag. Raises BundleError."""
        with naming(reference.host):
            async with asyncio.timeout(self.options.document_timeout):
                return await self._manifest(reference)

    async def _manifest(self, reference: Reference) -> bytes:
        url = self.url(reference, f"manifests/{reference.digest or reference.tag or 'latest'}")
        async with self.exchange("GET", url, reference, headers={"Accept": MANIFEST_TYPE}) as answer:
            data = await self.read(answer, DOCUMENT_CAP)
            page = is_web_page(answer)
        if page:
            raise web_page(reference.host)
        if len(data) > DOCUMENT_CAP:
            raise TooLarge(f"the manifest of {reference} has more than the {DOCUMENT_CAP} bytes allowed")
        if reference.digest:
            _same(data, reference.digest, reference.host)
        return data

    async def document(self, reference: Reference, descriptor: Descriptor, cap: int) -> bytes:
        """Fetch a small blob whole. Raises BundleError."""
        with naming(reference.host):
            async with asyncio.timeout(self.options.document_timeout):
                return await self._document(reference, descriptor, cap)

    async def _document(self, reference: Reference, descriptor: Descriptor, cap: int) -> bytes:
        if descriptor.size > cap:
            raise TooLarge(f"{descriptor.media_type} of {descriptor.size} bytes; {cap} are allowed")
        async with self.blob(reference, descriptor.digest) as blob:
            data = await self.read(blob.answer, descriptor.size)
        if len(data) != descriptor.size:
            raise SizeMismatch(
                f"{descriptor.digest} should have {descriptor.size} bytes, {reference.host} sent "
                f"{'more' if len(data) > descriptor.size else len(data)}"
            )
        _same(data, descriptor.digest, reference.host)
        return data

    @contextlib.asynccontextmanager
    async def blob(self, reference: Reference, digest: str, start: int = 0) -> AsyncIterator[Blob]:
        """Open a blob, from byte `start` on when the registry can; look at `.start` of what comes."""
        headers = {"Range": f"bytes={start}-"} if start else {}
        url = self.url(reference, f"blobs/{digest}")
        async with self.exchange(
            "GET", url, reference, headers=headers, accept=frozenset({200, 206})
        ) as answer:
            if is_web_page(answer):
                raise web_page(reference.host)
            begin = _range_start(answer, reference.host) if answer.status == 206 else 0
            yield Blob(begin, answer, self, reference.host)

    async def has(self, reference: Reference, digest: str) -> bool:
        """Whether the repository has a blob."""
        try:
            async with self.exchange("HEAD", self.url(reference, f"blobs/{digest}"), reference):
                return True
        except NotFound:
            return False

    async def push_blob(self, reference: Reference, file: File, body: Body) -> bool:
        """Send a blob unless it is there; return whether bytes were sent. `body()` opens its bytes."""
        if await self.has(reference, file.digest):
            return False
        start = self.url(reference, "blobs/uploads/")
        async with self.exchange("POST", start, reference, accept=frozenset({202})) as answer:
            if "Location" not in answer.headers:
                raise RegistryFailed(f"{reference.host} opened an upload without saying where")
            place = start.join(URL(answer.headers["Location"], encoded=True))
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(file.size)}
        url = place.update_query({**place.query, "digest": file.digest})
        async with self.exchange("PUT", url, reference, headers=headers, body=body, accept=frozenset({201})):
            return True

    async def push_manifest(self, reference: Reference, data: bytes) -> Reference:
        """Send a manifest, under the reference's tag if it has one; return the reference with its digest."""
        digest = digest_of(data)
        url = self.url(reference, f"manifests/{reference.tag or digest}")
        headers = {"Content-Type": MANIFEST_TYPE}
        async with self.exchange(
            "PUT", url, reference, headers=headers, body=lambda: io.BytesIO(data), accept=frozenset({201})
        ):
            return reference.pinned(digest)


def _range_start(answer: aiohttp.ClientResponse, host: str) -> int:
    text = answer.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
    if not text.isdecimal():
        raise RegistryFailed(f"{host} answered a range without saying which")
    return int(text)


def _same(data: bytes, digest: str, host: str) -> None:
    found = digest_of(data)
    if found != digest:
        raise DigestMismatch(f"asked {host} for {digest}, got {len(data)} bytes with {found}")
