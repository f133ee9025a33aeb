"""The site's memory that survives power cuts: one JSON file, replaced as a whole.

Written beside, flushed to the disk, moved into place, and the folder flushed: afterwards there is the old file
or the new one. An order counts as acknowledged only when it is in here.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from edgefleet.core.local_record import Record, Remembered

log = logging.getLogger(__name__)

FORMAT: Final = 1
FILE: Final = "journal.json"


class Policy(Remembered, frozen=True, kw_only=True):
    """The EdgeAgent as it was last fetched from the hub."""

    spec: dict[str, Any] = msgspec.field(default_factory=dict)
    generation: int = 0


class Content(Remembered, frozen=True, kw_only=True):
    """The whole file."""

    format: int
    models: dict[str, Record] = msgspec.field(default_factory=dict)
    """By name of the order, `<namespace>.<model>`."""
    policy: Policy = Policy()
    silent: float = 0.0
    """Seconds the hub had been silent when last written; 0 when it was heard since."""


class JournalError(Exception):
    """The journal cannot be written; the message names the file. What serves is not touched by that."""


class Journal:
    """Everything one site remembers. Changes are on the disk when the call returns."""

    def __init__(self, folder: Path) -> None:
        """Read the journal in `folder`; a broken one is set aside and `lost` says so. Raises JournalError."""
        self.path = folder / FILE
        self.lost = ""
        """Why the journal could not be read; empty when it could."""
        self.fresh = False
        """There was no journal, or none that could be read."""
        self._lock = asyncio.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._content = self._load()
        except OSError as error:
            raise JournalError(f"{self.path}: {error}") from error

    @property
    def models(self) -> Mapping[str, Record]:
        """Records by name of the order."""
        return self._content.models

    @property
    def policy(self) -> Policy:
        """The EdgeAgent as last fetched."""
        return self._content.policy

    @property
    def silent(self) -> float:
        """Seconds the hub had been silent when last written."""
        return self._content.silent

    async def set_silent(self, seconds: float) -> None:
        """Remember how long the hub has been silent. Raises JournalError."""
        async with self._lock:
            if seconds != self._content.silent:
                await self._write(msgspec.structs.replace(self._content, silent=seconds))

    async def update(self, name: str, change: Callable[[Record], Record]) -> Record:
        """Change one model's record. Raises JournalError, and nothing has changed."""
        async with self._lock:
            before = self._content.models.get(name, Record())
            after = change(before)
            if after != before or name not in self._content.models:
                await self._write(
                    msgspec.structs.replace(self._content, models={**self._content.models, name: after})
                )
            return after

    async def fill(self, records: Mapping[str, Record], policy: Policy | None = None) -> None:
        """Add records for models there are none of, and a policy where there is none, all or none. Raises JournalError, and nothing has changed."""
        async with self._lock:
            content = msgspec.structs.replace(self._content, models={**records, **self._content.models})
            if policy is not None and not content.policy.spec:
                content = msgspec.structs.replace(content, policy=policy)
            if content != self._content:
                await self._write(content)

    async def leave(self, name: str, before: Record, rest: Record | None) -> bool:
        """Forget a model but for `rest`, unless its record is not `before` any more. Returns whether it was done.

        Raises JournalError, and nothing has changed.
        """
        async with self._lock:
            if self._content.models.get(name) != before:
                return False
            models = {key: item for key, item in self._content.models.items() if key != name}
            if rest is not None:
                models[name] = rest
            if models != self._content.models:
                await self._write(msgspec.structs.replace(self._content, models=models))
            return True

    async def set_policy(self, policy: Policy) -> None:
        """Remember the EdgeAgent. Raises JournalError."""
        async with self._lock:
            if policy != self._content.policy:
                await self._write(msgspec.structs.replace(self._content, policy=policy))

    def _load(self) -> Content:
        self.path.with_suffix(".new").unlink(missing_ok=True)  # a power cut came while it was written
        try:
            raw = self.path.read_bytes()
        except FileNotFoundError:
            self.fresh = True
            return Content(format=FORMAT)
        try:
            content = msgspec.json.decode(raw, type=Content)
            if content.format != FORMAT:
                raise msgspec.ValidationError(f"format {content.format}, this agent reads {FORMAT}")
        except msgspec.DecodeError as error:
            aside = self.path.with_suffix(".broken")
            os.replace(self.path, aside)  # noqa: PTH105  one way to move files into place, watched by tests
            self.fresh = True
            self.lost = f"{self.path} could not be read ({error}); it was set aside as {aside.name}"
            log.critical("Journal lost", extra={"error": self.lost})
            return Content(format=FORMAT)
        return content

    async def _write(self, content: Content) -> None:
        data = msgspec.json.format(msgspec.json.encode(content), indent=1)
        work = asyncio.ensure_future(asyncio.to_thread(self._replace, data))
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            await work  # never leave a write half under way to a next one
            self._content = content
            raise
        except OSError as error:
            raise JournalError(f"{self.path}: {error.strerror or error}") from error
        self._content = content

    def _replace(self, data: bytes) -> None:
        new = self.path.with_suffix(".new")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, self.path)  # noqa: PTH105  see above
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
