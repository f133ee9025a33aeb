"""The copy of orders and policy in the site's own API server, for people and for `kubectl` on the site.

The journal is the original: a mirror that was edited or deleted is written back, and nothing that runs is touched
by either. An EdgeDeployment without the label `edgefleet.dev/origin: hub` is an order given here, obeyed where
the hub has none for that name. The mirrors are read back only when the journal was lost.
"""

import logging
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from edgefleet.agent.journal import Journal, Policy
from edgefleet.core import names, units
from edgefleet.core.local_record import Record
from edgefleet.core.order import OrderIdentity, Refusal, Report, to_wire
from edgefleet.kube import apply, errors, kinds
from edgefleet.kube.client import Api, Object

log = logging.getLogger(__name__)

_LABELS: Final = {names.ORIGIN: names.ORIGIN_HUB, names.MANAGED_BY: names.AGENT_MANAGER}


class Mirrors:
    """Keeps the EdgeDeployments and the EdgeAgent of the models' namespace."""

    def __init__(self, api: Api, namespace: str, journal: Journal) -> None:
        """`namespace` is the one of the models."""
        self._api = api
        self._namespace = namespace
        self._journal = journal
        self._refused: dict[str, str] = {}
        """Specs this server's CRD does not take, so that it is not asked every few seconds."""

    async def restore(self) -> list[str]:
        """Fill a journal that was lost from the mirrors. Returns the names. Raises ApiError, JournalError.

        In one write: once there is a journal, nobody looks at the mirrors again.
        """
        found = {}
        for item in await self._api.list(kinds.EDGE_DEPLOYMENT, self._namespace):
            identity = _hub_identity(item)
            name = item["metadata"]["name"]
            if identity is None or name in self._journal.models:
                continue
            found[name] = Record(spec=item.get("spec") or {}, identity=identity, refused=_refusals(item))
        await self._journal.fill(found, await self._policy())
        return list(found)

    async def _policy(self) -> Policy | None:
        """The policy as it was mirrored; its generation is not, so the hub's own replaces it as soon as it is heard."""
        try:
            live = await self._api.get(kinds.EDGE_AGENT, self._namespace, names.AGENT)
        except errors.NotFound:
            return None
        return Policy(spec=live.get("spec") or {}) if _mirrored(live) else None

    async def settle(self, name: str) -> Object | None:
        """Make journal and mirror agree about one model; return the object here. Raises ApiError, JournalError."""
        live = await self._get(name)
        if live is not None and not _mirrored(live):
            await self._obey(name, live)
            return live
        # after the question, as an order may have come while it was asked
        record = self._journal.models.get(name)
        if record is None or not record.spec or record.local:
            return live  # a mirror of nothing, or a local order that is gone: absence changes nothing
        return await self._write_back(name, record, live)

    async def report(self, live: Object | None, report: Report) -> None:
        """Put a report beside the mirror. Raises ApiError."""
        if live is None:
            return
        record = self._journal.models.get(live["metadata"]["name"])
        if not _mirrored(live) and (record is None or not record.local):
            status: dict[str, Any] = _conflict(live)
        else:
            generation = live["metadata"]["generation"]
            status = to_wire(msgspec.structs.replace(report, observed_generation=generation))
        await apply.patch_status(self._api, kinds.EDGE_DEPLOYMENT, live, status)

    async def forget(self, name: str) -> None:
        """Delete a mirror whose order was carried out to its end. Raises ApiError."""
        live = await self._get(name)
        if live is not None and _mirrored(live):
            await apply.remove(
                self._api, kinds.EDGE_DEPLOYMENT, self._namespace, name, uid=live["metadata"]["uid"]
            )

    async def obey(self) -> bool:
        """Take the policy from the EdgeAgent here, for a site without a hub. Returns whether it is another one.

        There is one afterwards, for people to edit. Raises ApiError, JournalError.
        """
        live, _ = await apply.create_or_get(self._api, kinds.EDGE_AGENT, self._agent())
        found = Policy(spec=live.get("spec") or {}, generation=live["metadata"]["generation"])
        another = found.spec != self._journal.policy.spec
        await self._journal.set_policy(found)
        return another

    async def agent(self, status: dict[str, Any]) -> None:
        """Mirror the EdgeAgent of the hub, with a status. Raises ApiError."""
        live = await apply.ensure(self._api, kinds.EDGE_AGENT, self._agent(), prune=("spec",))
        status = {**status, "observedGeneration": live["metadata"]["generation"]}
        await apply.patch_status(self._api, kinds.EDGE_AGENT, live, status)

    async def tell(self, status: dict[str, Any]) -> None:
        """Write the status of an EdgeAgent whose spec is people's, for a site without a hub. Raises ApiError."""
        live = await self._api.get(kinds.EDGE_AGENT, self._namespace, names.AGENT)
        await apply.patch_status(self._api, kinds.EDGE_AGENT, live, status)

    def _agent(self) -> Object:
        return {
            "metadata": {"name": names.AGENT, "namespace": self._namespace, "labels": _LABELS},
            "spec": self._journal.policy.spec or {"heartbeatInterval": "120s"},
        }

    async def _get(self, name: str) -> Object | None:
        try:
            return await self._api.get(kinds.EDGE_DEPLOYMENT, self._namespace, name)
        except errors.NotFound:
            return None

    async def _obey(self, name: str, live: Object) -> None:
        """Take a local order into the journal, unless the hub's has come while the site was asked for this one."""
        meta, spec = live["metadata"], live.get("spec") or {}
        identity = OrderIdentity(uid=meta["uid"], generation=meta["generation"])

        def change(record: Record) -> Record:
            from_hub = bool(record.spec) and not record.local
            if from_hub or (record.spec == spec and record.identity == identity):
                return record
            return msgspec.structs.replace(record, spec=spec, identity=identity, local=True, finished="")

        await self._journal.update(name, change)

    async def _write_back(self, name: str, record: Record, live: Object | None) -> Object | None:
        identity = record.identity
        mark = f"{identity.uid}/{identity.generation}" if identity is not None else ""
        spec = record.spec
        model = spec.get("model") or {}
        labels = {**_LABELS, names.MODEL: name} if model else dict(_LABELS)
        meta = {"name": name, "namespace": self._namespace, "labels": labels}
        wanted: Object = {"metadata": {**meta, "annotations": {names.HUB_ORDER: mark}}, "spec": spec}
        if live is not None and self._refused.get(name) == mark:
            return live
        try:
            if live is None:
                return await self._api.create(kinds.EDGE_DEPLOYMENT, self._namespace, wanted)
            patch = apply.difference(live, {"metadata": wanted["metadata"]}, prune=False)
            changed = apply.difference(live.get("spec") or {}, spec, prune=True)
            if not patch and not changed:
                return live
            if changed and (live["metadata"].get("annotations") or {}).get(names.HUB_ORDER) == mark:
                log.warning("Mirror was edited, written back", extra={"order": name})
            body = {**patch, **({"spec": changed} if changed else {})}
            return await self._api.merge_patch(kinds.EDGE_DEPLOYMENT, self._namespace, name, body)
        except errors.Invalid as error:  # the order says what this site's CRD does not know
            self._refused[name] = mark
            log.warning("Order cannot be mirrored", extra={"order": name, "error": error.message})
            return live


def _mirrored(item: Object) -> bool:
    return (item["metadata"].get("labels") or {}).get(names.ORIGIN) == names.ORIGIN_HUB


def _hub_identity(item: Object) -> OrderIdentity | None:
    """Whose order a mirror is of; None when it is no mirror."""
    mark = (item["metadata"].get("annotations") or {}).get(names.HUB_ORDER, "")
    uid, _, generation = mark.rpartition("/")
    if not _mirrored(item) or not uid or not generation.isdecimal():
        return None
    return OrderIdentity(uid=uid, generation=int(generation))


def _refusals(item: Object) -> tuple[Refusal, ...]:
    try:
        return msgspec.convert((item.get("status") or {}).get("refused") or (), tuple[Refusal, ...])
    except msgspec.ValidationError:
        return ()


def _conflict(live: Object) -> dict[str, Any]:
    """Status of an order given here whose name the hub has an order for, too."""
    before = (live.get("status") or {}).get("conditions") or ()
    since = next((item["lastTransitionTime"] for item in before if item["reason"] == "Conflict"), "")
    message = "the hub has an order of this name and is obeyed; delete or rename this one"
    stamp = since or units.timestamp(datetime.now(UTC))
    generation = live["metadata"]["generation"]
    conditions = [
        {
            "type": kind,
            "status": status,
            "reason": "Conflict",
            "message": message,
            "lastTransitionTime": stamp,
            "observedGeneration": generation,
        }
        for kind, status in (("Ready", "False"), ("Reconciling", "False"), ("Stalled", "True"))
    ]
    return {
        "observedGeneration": generation,
        "stage": "Rejected",
        "reason": "Conflict",
        "message": message,
        "conditions": conditions,
    }
