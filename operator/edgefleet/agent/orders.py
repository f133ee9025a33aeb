"""The hub's orders for this site as last seen there. An order is taken when it is in the journal, not before."""

import asyncio
from typing import Any

import msgspec

from edgefleet.agent.journal import Journal
from edgefleet.core import names
from edgefleet.core.fingerprint import fingerprint
from edgefleet.core.local_record import Record
from edgefleet.core.order import Order, OrderIdentity, State, parse_order
from edgefleet.core.seen import Meta
from edgefleet.kube.client import Object


class Orders:
    """The EdgeDeployments of the site's namespace on the hub."""

    def __init__(self, journal: Journal) -> None:
        self.live: dict[str, Object] = {}
        self._journal = journal
        self._taking = asyncio.Lock()
        self._listed: set[str] = set()
        """What this connection has shown; what an earlier one knew and this one does not is gone."""

    def connected(self) -> None:
        """Begin to hear of everything anew."""
        self._listed.clear()

    def complete(self) -> None:
        """Everything there is has been heard of."""
        for gone in self.live.keys() - self._listed:
            del self.live[gone]

    def gone(self, name: str) -> None:
        """Note that the hub has this order no more. That alone changes nothing here."""
        self.live.pop(name, None)
        self._listed.discard(name)

    async def take(self, name: str, item: Object) -> None:
        """Acknowledge an order that news came of. Raises JournalError."""
        self._listed.add(name)
        async with self._taking:
            await self._write(name, item)
            self.live[name] = item

    async def take_again(self, name: str, item: Object, held: Object) -> None:
        """Acknowledge an order that was fetched because `held` is stale, unless news of it came meanwhile: they may be newer.

        Raises JournalError.
        """
        async with self._taking:
            if self.live.get(name) is held:
                await self._write(name, item)
            if self.live.get(name) is held:
                self.live[name] = item

    async def _write(self, name: str, item: Object) -> None:
        meta = item["metadata"]
        identity = OrderIdentity(uid=meta["uid"], generation=meta["generation"])
        await self._journal.update(name, lambda record: with_order(record, item.get("spec") or {}, identity))

    def fingerprint(self) -> str:
        """Say what is held here the way the hub says what it has."""
        held = (item["metadata"] for item in self.live.values())
        metas = [Meta(name=m["name"], uid=m["uid"], generation=m["generation"]) for m in held]
        return fingerprint(metas, self._journal.policy.generation)


def with_order(record: Record, spec: dict[str, Any], identity: OrderIdentity) -> Record:
    """Return the record with an order of the hub; a new one wakes a model that was finished with."""
    if record.spec == spec and record.identity == identity and not record.local:
        return record
    same = record.spec == spec and not record.local
    return msgspec.structs.replace(
        record,
        spec=spec,
        identity=identity,
        local=False,
        finished=record.finished if same else "",
    )


def read_order(name: str, spec: dict[str, Any]) -> tuple[Order | None, str]:
    """Read an order; None and what is wrong with it when this agent cannot obey it."""
    try:
        order = parse_order(spec)
    except msgspec.ValidationError as error:
        return None, str(error)
    if order.order_version != names.ORDER_VERSION:
        return None, f"order version {order.order_version}, this agent understands {names.ORDER_VERSION}"
    if names.order_name(order.model.namespace, order.model.name) != name:
        return None, f"spec.model says {order.model.namespace}.{order.model.name}, the order is named {name}"
    return order, ""


def cut_off(name: str, record: Record) -> bool:
    """Whether a download for an order may have been begun, by an agent that has ended since, and not finished."""
    if not record.spec or record.finished:
        return False
    order, _ = read_order(name, record.spec)
    return (
        order is not None
        and order.state is State.RUN
        and record.refusal_of(order.revision, order.attempt) is None
        and record.staged_for(order.revision) is None
        and record.served_as(order.revision) is None
    )
