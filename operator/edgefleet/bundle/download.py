"""One file from a registry into the store: goes on where it stopped, stops at the declared size, checks the digest."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Final, TypeVar

from edgefleet.bundle.errors import (
    DigestMismatch,
    RegistryFailed,
    RegistryUnreachable,
    SizeMismatch,
    TransferInterrupted,
)
from edgefleet.bundle.format import File
from edgefleet.bundle.oci import Blob, Registry
from edgefleet.bundle.part import Part
from edgefleet.bundle.reference import Reference
from edgefleet.bundle.store import Store

_T = TypeVar("_T")

_SYNC_EVERY: Final = 8 << 20
_BUSY_PAUSE: Final = 0.5
"""Seconds between looks at a download that somebody else has under way."""
_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 5.0


async def download(
    registry: Registry, reference: Reference, file: File, store: Store, progress: Callable[[int], None]
) -> None:
    """Bring a file into the store. `progress` gets the bytes on disk so far. Raises BundleError."""
    async with _open(store, file) as part:
        if part is None:
            return
        resumed = await _in_thread(part.resume)
        if resumed > file.size:
            part.restart()
        progress(part.offset)
        await _fill(registry, reference, file, part, progress)
        try:
            await _in_thread(part.finish)
        except DigestMismatch:
            if not resumed:
                raise
        else:
            return
    # the old part may have been damaged by a power cut: once more, from the first byte
    await download(registry, reference, file, store, progress)


@contextlib.asynccontextmanager
async def _open(store: Store, file: File) -> AsyncIterator[Part | None]:
    """Wait for the file's part; None when the file is whole, perhaps because somebody else finished it."""
    while not store.has(file.digest):
        try:
            part = store.part(file.digest)
        except BlockingIOError:
            await asyncio.sleep(_BUSY_PAUSE)
            continue
        with part:
            if store.has(file.digest):
                part.drop()
                break
            yield part
            return
    yield None


async def _fill(
    registry: Registry, reference: Reference, file: File, part: Part, progress: Callable[[int], None]
) -> None:
    """Fetch until the declared size is there, over as many connections as it takes."""
    fruitless = 0
    while part.offset < file.size:
        part.room_for(file.size - part.offset)
        before = part.offset
        try:
            await _stream(registry, reference, file, part, progress)
        except (RegistryUnreachable, RegistryFailed, TransferInterrupted) as error:
            fruitless = 0 if part.offset > before else fruitless + 1
            if fruitless >= registry.options.attempts:
                raise
            wait = getattr(error, "retry_after", None) or min(_FIRST_PAUSE * 2**fruitless, _LONGEST_PAUSE)
            if wait > _LONGEST_PAUSE:
                raise
            await asyncio.sleep(wait)


async def _stream(
    registry: Registry, reference: Reference, file: File, part: Part, progress: Callable[[int], None]
) -> None:
    """Fetch over one connection. Raises TransferInterrupted when it ends early."""
    async with registry.blob(reference, file.digest, part.offset) as blob:
        if blob.start != part.offset:
            part.restart()  # the registry knows no ranges
        _announced(blob, file, part.offset)
        unsynced = 0
        async for chunk in blob.chunks():
            if part.offset + len(chunk) > file.size:
                raise SizeMismatch(f"{reference.host} sends more than the {file.size} bytes of {file.digest}")
            part.write(chunk)
            unsynced += len(chunk)
            if unsynced >= _SYNC_EVERY:
                await _in_thread(part.sync)
                unsynced = 0
            progress(part.offset)
    if part.offset < file.size:
        raise TransferInterrupted(
            f"{reference.host} ended after {part.offset} of {file.size} bytes of {file.digest}"
        )


def _announced(blob: Blob, file: File, offset: int) -> None:
    """Refuse before the first byte what is announced with a wrong length."""
    length = blob.answer.content_length
    if length is not None and offset + length != file.size:
        raise SizeMismatch(
            f"{blob.host} announces {offset + length} bytes for {file.digest}, the bundle says {file.size}"
        )


async def _in_thread(call: Callable[[], _T]) -> _T:
    """Run off the loop; when cancelled, wait until it is over, because the part's file is closed next."""
    task = asyncio.ensure_future(asyncio.to_thread(call))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
