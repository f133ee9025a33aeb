"""The pass over the whole fleet: who is set aside. The only writer of `EdgeSite.status.quarantine` and `releasedAt`.

One pass at a time, releases before admissions, and every answer into the cache: so there are never more than the
policy allows, wherever a pass is cut off.
"""

import logging
from collections.abc import Callable, Set
from datetime import UTC, datetime
from typing import Final

from edgefleet.core import quarantine
from edgefleet.core.quarantine import Change, Decision, Evidence, Policy
from edgefleet.core.seen import SiteObject
from edgefleet.handlers.gather import Seen
from edgefleet.handlers.pen import to_raw
from edgefleet.kube import errors, kinds
from edgefleet.kube.cache import Key
from edgefleet.kube.client import Api

log = logging.getLogger(__name__)

FLEET: Final = "fleet"
"""The one key of its queue."""


class Quarantining:
    """Passes over all sites. Evidence comes from the passes over models, which read the rollouts anyway."""

    def __init__(
        self,
        api: Api,
        seen: Seen,
        policy: Policy,
        *,
        models: Callable[[], Set[Key] | None],
        ask: Callable[[], None],
        tell: Callable[[str], None],
    ) -> None:
        """`models()` are all there are; None: not known yet. Nobody is set aside before all were looked at.

        `ask()` wants a pass; `tell(site)` says that another reason keeps a site out of quarantine than before.
        """
        self._api = api
        self._seen = seen
        self._policy = policy
        self._models = models
        self._ask = ask
        self._tell = tell
        self._evidence: dict[Key, Evidence] = {}
        self._kept_out: dict[str, str] | None = None

    def learn(self, model: Key, found: Evidence | None) -> None:
        """Take what a pass over a model has found; None: it is gone."""
        if self._evidence.get(model) == found:
            return
        if found is None:
            self._evidence.pop(model, None)
        else:
            self._evidence[model] = found
        self._ask()

    def kept_out(self, site: str) -> str | None:
        """Why a site is not set aside though it should be; empty: it should not; None: not known yet."""
        return None if self._kept_out is None else self._kept_out.get(site, "")

    async def look(self, _: str) -> float | None:
        """Set aside and release. Returns seconds until it wants to look again. Raises ApiError."""
        decision = quarantine.decide(
            self._seen.sites, self._evidence.values(), self._policy, datetime.now(UTC)
        )
        for change in decision.releases:
            await self._write(change)
        if not self._complete():
            return decision.requeue_after
        for change in decision.admissions:
            await self._write(change)
        self._remember(decision)
        return decision.requeue_after

    def _complete(self) -> bool:
        models = self._models()
        return models is not None and models <= self._evidence.keys()

    def _remember(self, decision: Decision) -> None:
        before, self._kept_out = self._kept_out or {}, dict(decision.kept_out)
        for site in before.keys() | self._kept_out.keys():
            if before.get(site) != self._kept_out.get(site):
                self._tell(site)

    async def _write(self, change: Change) -> None:
        site = change.site
        patch = {
            "metadata": {"resourceVersion": site.meta.resource_version},
            "status": {"quarantine": to_raw(change.quarantine), "releasedAt": change.released},
        }
        try:
            written = await self._api.merge_patch(kinds.EDGE_SITE, None, site.meta.name, patch, status=True)
        except errors.NotFound:  # deleted meanwhile; the watch tells
            return
        self._seen.sites.put(written)
        _log(site, change)


def _log(site: SiteObject, change: Change) -> None:
    if change.quarantine is None:
        log.info("Site released from quarantine", extra={"site": site.meta.name})
    else:
        log.warning(
            "Site in quarantine",
            extra={
                "site": site.meta.name,
                "reason": change.quarantine.reason,
                "detail": change.quarantine.message,
                "until": change.quarantine.until,
            },
        )
