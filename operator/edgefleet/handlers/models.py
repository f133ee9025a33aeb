"""The pass over one EdgeModel: read it and its rollouts, decide, write."""

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime

from edgefleet.core import model_pass, names, parse, quarantine
from edgefleet.core.quarantine import Evidence
from edgefleet.core.seen import ModelObject, ModelSeen, SpecError
from edgefleet.handlers.bundles import Bundles
from edgefleet.handlers.carrying import Carrier
from edgefleet.handlers.gather import Seen
from edgefleet.handlers.metrics import Metrics
from edgefleet.handlers.pen import Pen
from edgefleet.kube import errors, kinds
from edgefleet.kube.cache import Key
from edgefleet.kube.client import Api, Object
from edgefleet.kube.records import rollouts_of

log = logging.getLogger(__name__)


class Models:
    """Passes over EdgeModels. `known` are those that exist, as far as heard."""

    def __init__(
        self,
        api: Api,
        seen: Seen,
        bundles: Bundles,
        metrics: Metrics,
        *,
        pod_image: str,
        listening: Callable[[], datetime],
        learnt: Callable[[Key, Evidence | None], None],
    ) -> None:
        """`listening()` is since when beats are heard without a gap.

        `learnt(model, evidence)` is told what the rollouts say against sites; None: the model is gone.
        """
        self.known: set[Key] = set()
        self._api = api
        self._seen = seen
        self._bundles = bundles
        self._metrics = metrics
        self._pen = Pen(api)
        self._pod_image = pod_image
        self._listening = listening
        self._learnt = learnt

    async def look(self, key: Key) -> float | None:
        """Bring everything about one EdgeModel in line. Returns seconds until it wants to look again."""
        began = time.monotonic()
        raw = await self._read(key)
        rollouts = await self._rollouts(key)
        seen = await self._gather(key, raw, rollouts)
        self._learnt(key, quarantine.evidence(*key, seen.rollouts) if raw else None)
        decision = model_pass.decide_model(seen, datetime.now(UTC))
        carrier = Carrier(self._api, self._seen, self._metrics, self._pen, key, raw, rollouts, began=began)
        return await carrier.carry_out(decision)

    async def _read(self, key: Key) -> Object | None:
        try:
            raw = await self._api.get(kinds.EDGE_MODEL, *key)
        except errors.NotFound:
            self.known.discard(key)
            self._bundles.forget(key)
            return None
        self.known.add(key)
        return raw

    async def _rollouts(self, key: Key) -> dict[str, Object]:
        """Every attempt at the model."""
        try:
            found = await self._api.list(kinds.EDGE_ROLLOUT, key.namespace)
        except errors.NotFound:  # its CRD is gone
            return {}
        return rollouts_of(key.name, found)

    async def _gather(self, key: Key, raw: Object | None, rollouts: dict[str, Object]) -> ModelSeen:
        model = parse.model(raw) if raw else None
        bundle = None
        if model and not isinstance(model.spec, SpecError) and not model.meta.deleting:
            bundle = self._bundles.outcome(key, model.spec.bundle)
        return self._seen.model_seen(
            key,
            model,
            rollouts.values(),
            bundle,
            pod_image=self._pod_image,
            started=self._listening(),
            crd_deleting=await self._crd_deleting(model),
        )

    async def _crd_deleting(self, model: ModelObject | None) -> bool:
        if model is None or not model.meta.deleting:
            return False
        try:
            crd = await self._api.get(kinds.CRD, None, f"{kinds.EDGE_MODEL.plural}.{names.GROUP}")
        except errors.NotFound:
            return True
        return "deletionTimestamp" in crd["metadata"]
