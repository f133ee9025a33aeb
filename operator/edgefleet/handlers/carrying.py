"""What was decided about an EdgeModel, written in an order that may be cut off anywhere."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

from edgefleet.core import names
from edgefleet.core.decisions import (
    Finalizer,
    ModelDecision,
    ObjectDelete,
    OrderWrite,
    RolloutCreate,
    RolloutPatch,
)
from edgefleet.core.seen import SpecError
from edgefleet.handlers.gather import Seen, body
from edgefleet.handlers.metrics import Metrics
from edgefleet.handlers.pen import Pen, to_raw
from edgefleet.kube import apply, errors, kinds
from edgefleet.kube.apply import Write
from edgefleet.kube.cache import Key
from edgefleet.kube.client import Api, Object

log = logging.getLogger(__name__)

T = TypeVar("T")
_ORDERS_AT_A_TIME = 16
_ORDERS_FOR = 2.0
"""Seconds after which a pass begins no more orders: what sites said meanwhile may change what is right."""
_OF_A_PASS = 4.0
"""Or so many times what the pass took so far, when a slow API server makes that longer: else it mostly looks."""
_LONGEST = 20.0


class Carrier:
    """Carries one decision out.

    The rollouts' statuses are the hub's memory, so they are written before the orders that follow from them: a
    ban is durable before the order whose report is its evidence is rewritten. When that fails, nothing after it
    is tried. Orders are independent of each other: one that cannot be written does not keep back the others.
    """

    def __init__(
        self,
        api: Api,
        seen: Seen,
        metrics: Metrics,
        pen: Pen,
        key: Key,
        model: Object | None,
        rollouts: dict[str, Object],
        *,
        began: float | None = None,
    ) -> None:
        """`began` is when the pass did, on the monotonic clock; None: now."""
        self._api = api
        self._seen = seen
        self._metrics = metrics
        self._pen = pen
        self._key = key
        self._model = model
        self._rollouts = rollouts
        self._began = time.monotonic() if began is None else began
        self._again: list[float] = []
        """Reasons to look again, in seconds."""

    async def carry_out(self, decision: ModelDecision) -> float | None:
        """Write what was decided, in an order that may be cut off anywhere. Raises ApiError, WritesFailed."""
        if decision.finalizer is Finalizer.ADD:
            await self._finalizer(add=True)
        for create in decision.create_rollouts:
            await self._create_rollout(create)
        for patch in decision.patch_rollouts:
            await self._patch_rollout(patch)
        writes = [
            *(Write(f"order {w.site}/{w.name}", _later(self._order, w)) for w in decision.orders),
            *(
                Write(f"order {d.site}/{d.name}", _later(self._delete_order, d))
                for d in decision.delete_orders
            ),
        ]
        failed, whole = await self._many(writes)
        for gone in decision.delete_rollouts if whole else ():
            await apply.remove(self._api, kinds.EDGE_ROLLOUT, self._key.namespace, gone.name, uid=gone.uid)
        if decision.status is not None and self._model is not None:
            _, wait = await self._pen.write(kinds.EDGE_MODEL, self._model, decision.status)
            self._again += [wait] if wait is not None else []
        if failed:
            self._metrics.refused(error for _, error in failed)
            raise apply.WritesFailed(failed, len(writes))
        if decision.finalizer is Finalizer.DROP and whole:
            await self._finalizer(add=False)
        if decision.requeue_after is not None:
            self._again.append(decision.requeue_after)
        return min(self._again, default=None)

    async def _many(self, writes: list[Write]) -> tuple[list[tuple[str, errors.ApiError]], bool]:
        """Make independent writes, a few at a time and not for long; returns what failed, and whether none is left."""
        now = time.monotonic()
        until = now + min(_LONGEST, max(_ORDERS_FOR, _OF_A_PASS * (now - self._began)))
        rest = iter(writes)

        def in_time() -> Iterator[Write]:
            while time.monotonic() < until and (write := next(rest, None)) is not None:
                yield write

        lanes = min(_ORDERS_AT_A_TIME, len(writes))
        done = await asyncio.gather(*(apply.carry_out(in_time()) for _ in range(lanes)))
        whole = next(rest, None) is None
        if not whole:
            self._again.append(0.0)
        return [failure for lane in done for failure in lane], whole

    async def _finalizer(self, *, add: bool) -> None:
        if self._model is None:
            return
        meta = self._model["metadata"]
        others = [f for f in meta.get("finalizers") or [] if f != names.MODEL_FINALIZER]
        wanted = [*others, names.MODEL_FINALIZER] if add else others
        change = {
            "metadata": {
                "uid": meta["uid"],
                "resourceVersion": meta["resourceVersion"],  # somebody else's finalizer must not be lost
                "finalizers": wanted or None,
            }
        }
        try:
            written = await self._api.merge_patch(kinds.EDGE_MODEL, *self._key, change)
        except errors.NotFound:
            return
        except errors.Conflict:
            log.debug("Model changed meanwhile", extra={"model": "/".join(self._key)})
            self._again.append(0.0)
            if add:
                raise  # nothing may exist that the finalizer does not guard
            return
        if add:
            self._model = written

    async def _create_rollout(self, create: RolloutCreate) -> None:
        if self._model is None:
            return
        owner = {
            "apiVersion": names.API_VERSION,
            "kind": kinds.EDGE_MODEL.name,
            "name": self._key.name,
            "uid": self._model["metadata"]["uid"],
            "controller": True,
            "blockOwnerDeletion": False,
        }
        wanted = body(kinds.EDGE_ROLLOUT, self._key.namespace, create.name, spec=to_raw(create.spec))
        wanted["metadata"] |= {
            "labels": {**create.labels, names.MODEL: names.order_name(*self._key)},
            "annotations": dict(create.annotations),
            "ownerReferences": [owner],
        }
        made, new = await apply.create_or_get(self._api, kinds.EDGE_ROLLOUT, wanted)
        log.info(
            "Rollout made" if new else "Rollout was there",
            extra={"rollout": f"{self._key.namespace}/{create.name}", "revision": create.spec.revision},
        )
        self._rollouts[create.name] = made
        self._again.append(0.0)

    async def _patch_rollout(self, patch: RolloutPatch) -> None:
        live = self._rollouts.get(patch.name)
        if live is None:
            return
        if patch.annotations:
            changes: dict[str, Any] = {"uid": live["metadata"]["uid"], "annotations": dict(patch.annotations)}
            live = await self._api.merge_patch(
                kinds.EDGE_ROLLOUT, self._key.namespace, patch.name, {"metadata": changes}
            )
        if patch.status is not None:
            _, wait = await self._pen.write(kinds.EDGE_ROLLOUT, live, patch.status)
            self._again += [wait] if wait is not None else []

    async def _order(self, write: OrderWrite) -> None:
        namespace = names.site_namespace(write.site)
        try:
            written = await (self._change_order if write.uid else self._new_order)(namespace, write)
        except errors.Conflict:  # seen too late: look at what is there now
            await self._look_at_order(namespace, write.name)
            return
        except errors.NotFound:
            if not write.uid:
                raise  # its namespace is missing: the site's own pass makes it
            self._forget_order(namespace, write.name, write.uid)
            return
        self._seen.orders.put(written)
        self._metrics.ordered(write.reason)
        log.info(
            "Order written",
            extra={
                "site": write.site,
                "model": write.name,
                "revision": write.order.revision,
                "state": write.order.state.value,
                "wave": write.order.wave,
                "reason": write.reason,
            },
        )

    async def _new_order(self, namespace: str, write: OrderWrite) -> Object:
        wanted = body(kinds.EDGE_DEPLOYMENT, namespace, write.name, spec=to_raw(write.order))
        wanted["metadata"]["labels"] = {**write.labels, names.SITE: write.site}
        return await self._api.create(kinds.EDGE_DEPLOYMENT, namespace, wanted)

    async def _change_order(self, namespace: str, write: OrderWrite) -> Object:
        """Put another spec in place of the one that was seen, whole: what the new one lacks is removed."""
        seen = self._seen.orders.get(namespace, write.name)
        if seen is not None and not isinstance(seen.order, SpecError):
            live = to_raw(seen.order)
        else:  # cannot be read, so what is to be removed is not known from the record
            live = (await self._api.get(kinds.EDGE_DEPLOYMENT, namespace, write.name))["spec"]
        change = {
            "metadata": {
                "uid": write.uid,
                "resourceVersion": write.resource_version,
                "labels": {**write.labels, names.SITE: write.site},
            },
            "spec": apply.difference(live, to_raw(write.order), prune=True),
        }
        return await self._api.merge_patch(kinds.EDGE_DEPLOYMENT, namespace, write.name, change)

    async def _delete_order(self, gone: ObjectDelete) -> None:
        namespace = names.site_namespace(gone.site)
        try:
            await self._api.delete(kinds.EDGE_DEPLOYMENT, namespace, gone.name, uid=gone.uid)
        except errors.Conflict:
            await self._look_at_order(namespace, gone.name)
            return
        except errors.NotFound:
            pass
        else:
            self._metrics.ordered("Deleted")
        self._forget_order(namespace, gone.name, gone.uid)

    async def _look_at_order(self, namespace: str, name: str) -> None:
        self._again.append(0.0)
        try:
            self._seen.orders.put(await self._api.get(kinds.EDGE_DEPLOYMENT, namespace, name))
        except errors.NotFound:
            self._forget_order(namespace, name, "")

    def _forget_order(self, namespace: str, name: str, uid: str) -> None:
        self._seen.orders.drop({"metadata": {"namespace": namespace, "name": name, "uid": uid}})
        self._again.append(0.0)


def _later(do: Callable[[T], Awaitable[None]], what: T) -> Callable[[], Awaitable[None]]:
    return lambda: do(what)
