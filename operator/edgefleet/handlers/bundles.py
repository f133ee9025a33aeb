"""Whether the bundles people name exist and are signed. Never waited for by a pass: it comes back when known."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from edgefleet.bundle import BundleError, BundleInfo
from edgefleet.bundle.needs import needs
from edgefleet.core.seen import BundleCheck
from edgefleet.kube.cache import Key

log = logging.getLogger(__name__)

FIRST_PAUSE: Final = 5.0
LONGEST_PAUSE: Final = 300.0
RECHECK: Final = 600.0
"""Seconds after which a bundle found bad is looked at again: a key may be trusted or a signature pushed later."""


@dataclass(slots=True)
class _Known:
    check: BundleCheck | None = None
    task: asyncio.Task[None] | None = None
    failures: int = 0


class Bundles:
    """Outcomes by reference. A good one is kept for ever, as a digest never changes; a bad one is asked again."""

    def __init__(self, check: Callable[[str], Awaitable[BundleInfo]], known: Callable[[Key], None]) -> None:
        """`check` looks a reference up; `known(model)` is called when the outcome for its bundle has changed."""
        self._check = check
        self._tell = known
        self._known: dict[str, _Known] = {}
        self._wanted: dict[Key, str] = {}

    def outcome(self, model: Key, reference: str) -> BundleCheck | None:
        """What is known of a model's bundle; None: it is being looked up."""
        before = self._wanted.get(model)
        self._wanted[model] = reference
        if before is not None and before != reference:
            self._drop_unwanted(before)
        entry = self._known.setdefault(reference, _Known())
        if entry.task is None and (entry.check is None or not entry.check.ok):
            entry.task = asyncio.create_task(self._look_up(reference, entry), name=f"bundle {reference}")
        return entry.check

    def forget(self, model: Key) -> None:
        """The model is gone."""
        reference = self._wanted.pop(model, None)
        if reference is not None:
            self._drop_unwanted(reference)

    async def close(self) -> None:
        """End all look-ups."""
        tasks = [entry.task for entry in self._known.values() if entry.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _drop_unwanted(self, reference: str) -> None:
        if reference not in self._wanted.values():
            entry = self._known.pop(reference, None)
            if entry and entry.task:
                entry.task.cancel()

    async def _look_up(self, reference: str, entry: _Known) -> None:
        while entry.check is None or not entry.check.ok:
            before, entry.check = entry.check, await self._ask(reference)
            if entry.check != before:
                for model in [m for m, wanted in self._wanted.items() if wanted == reference]:
                    self._tell(model)
            if not entry.check.ok:
                entry.failures += 1
                await asyncio.sleep(_pause(entry))
        entry.task = None

    async def _ask(self, reference: str) -> BundleCheck:
        try:
            info = await self._check(reference)
        except BundleError as error:
            log.info(
                "Bundle not usable", extra={"bundle": reference, "reason": error.reason, "error": str(error)}
            )
            return BundleCheck(
                bundle=reference,
                ok=False,
                reason=error.reason,
                message=str(error),
                environment=error.environment,
            )
        except Exception as error:  # whatever a registry answers must not stop the look-ups
            log.exception("Bundle check failed", extra={"bundle": reference})
            text = f"the check itself failed: {type(error).__name__}: {error}"
            return BundleCheck(
                bundle=reference, ok=False, reason="CheckFailed", message=text, environment=True
            )
        return BundleCheck(
            bundle=reference,
            ok=True,
            version=info.version,
            variants=tuple(variant.name for variant in info.variants),
            needs=needs(info.config),
        )


def _pause(entry: _Known) -> float:
    if entry.check is not None and not entry.check.environment:
        return RECHECK
    pause: float = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(entry.failures - 1, 10))
    return pause * random.uniform(0.7, 1.0)  # noqa: S311  jitter is no secret
