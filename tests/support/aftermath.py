"""What must hold of a history on a real API server: of all that was written, and of the end.

The numbers are those of the design's invariants. Nothing here asks the operator: records come from an administrator's
watch, and the end is judged by the pure decision over everything there is, which must find nothing left to do.
"""

import asyncio
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from edgefleet.core import conditions, model_pass, names, parse, units
from edgefleet.core.decisions import ModelDecision
from edgefleet.core.seen import BundleCheck, ModelSeen
from edgefleet.kube import kinds
from edgefleet.kube.client import Api, Object
from edgefleet.kube.records import site_of
from support.cluster import eventually
from support.hub import POD_IMAGE, Fleet
from support.hubs import changes
from support.storms import MODEL, QUARANTINE, Record

WITHDRAWN: Final = ("RolledBack", "Aborted")
ENDS: Final = ("Serving", "RolledBack", "Blocked", "Rejected", "Held", "Removed")
NAMES_SOMEBODY: Final = ("Paused", "WaitingApproval", "NotEnoughSites", "WaveRunning")


def nothing_was_broken(record: Record) -> None:
    """Every write, in the order the API server took them."""
    replay = _Replay()
    for kind, event, raw in record.in_order():
        getattr(replay, kind)(event, raw)


class _Replay:
    """What was so, as far as the writes went."""

    def __init__(self) -> None:
        self.banned: dict[str, int] = {}
        self.failed: dict[str, int] = {}
        self.generation: dict[str, int] = {}
        self.healthy: dict[str, set[str]] = defaultdict(set)
        """Who was ever healthy, by rollout."""
        self.sites: dict[str, bool] = {}
        """Whether it is set aside."""

    def rollout(self, _event: str, raw: Object) -> None:
        name, spec, said = raw["metadata"]["name"], raw["spec"], raw.get("status") or {}
        now_failed = int((said.get("counts") or {}).get("failed", 0))
        assert now_failed >= self.failed.get(name, 0), f"I8: {name} forgot a failure"
        self.failed[name] = now_failed
        for wave in said.get("waves") or ():
            healthy, ever = int(wave.get("healthy", 0)), len(self.healthy[name])
            assert healthy <= ever, f"I7: {name} counts {healthy} healthy in {wave['name']}, ever were {ever}"
            if wave.get("completedAt") and wave.get("admitted"):
                assert healthy >= 1, f"I3: {wave['name']} of {name} completed by nobody"
        if said.get("outcome") in WITHDRAWN:
            self.banned[spec["revision"]] = max(self.banned.get(spec["revision"], 0), spec["attempt"])

    def order(self, event: str, raw: Object) -> None:
        meta, spec, said = raw["metadata"], raw["spec"], raw.get("status") or {}
        where = meta["namespace"]
        about = said.get("order") or {}
        live = (about.get("uid"), about.get("generation")) == (meta["uid"], meta["generation"])
        if live and said.get("stage") == "Serving" and said.get("activeRevision") == spec["revision"]:
            self.healthy[spec["rollout"]].add(where)
        fresh = self.generation.get(where) != meta["generation"]
        self.generation[where] = meta["generation"]
        if event == "DELETED" or spec["state"] != "Run" or not fresh:
            return
        refused = {(item["revision"], item["attempt"]) for item in said.get("refused") or ()}
        assert (spec["revision"], spec["attempt"]) not in refused, f"I1: {where} is offered what it refused"
        assert spec["attempt"] > self.banned.get(spec["revision"], 0), (
            f"I4: {where} is offered {spec['revision']}, withdrawn before"
        )

    def site(self, event: str, raw: Object) -> None:
        """Never more than their share are set aside, whoever was killed in between."""
        name = raw["metadata"]["name"]
        self.sites[name] = event != "DELETED" and bool((raw.get("status") or {}).get("quarantine"))
        aside = sorted(site for site, held in self.sites.items() if held)
        room = max(1, units.at_most(QUARANTINE["EDGEFLEET_QUARANTINE_MAX_SHARE"], len(self.sites)))
        assert len(aside) <= room, f"{aside} are set aside, {room} of {len(self.sites)} may be"


async def at_rest(fleet: Fleet, *, seconds: float = 60.0) -> ModelDecision:
    """Wait until a decision over all there is changes nothing, and go on finding so for some seconds (I11)."""
    last: list[object] = []

    async def nothing_to_do() -> ModelDecision | None:
        nonlocal last
        calm = 0
        for _ in range(4):
            decision = await decided(fleet)
            last = changes(decision)
            said = await _said(fleet)
            calm += not last and not _differs(decision, said) and await _all_have_answered(fleet)
            await asyncio.sleep(0.7)
        return decision if calm == 4 else None

    try:
        decision: ModelDecision = await eventually(nothing_to_do, "the hub has come to rest", seconds=seconds)
    except AssertionError as error:
        raise AssertionError(f"I11: {error}; still to do: {last}; said: {await _said(fleet)}") from None
    return decision


async def _all_have_answered(fleet: Fleet) -> bool:
    """Whether every site that is there has come to an end with its order, for now."""
    mine = {agent.namespace for agent in fleet.agents.values()}
    for raw in await _orders(fleet):
        meta, said = raw["metadata"], raw.get("status") or {}
        about = said.get("order") or {}
        fresh = (about.get("uid"), about.get("generation")) == (meta["uid"], meta["generation"])
        ended = said.get("stage") in ENDS or raw["spec"]["state"] == "Keep"
        if meta["namespace"] in mine and not (fresh and ended):
            return False
    return True


async def decided(fleet: Fleet) -> ModelDecision:
    """What an operator would do that sees everything as it is."""
    return model_pass.decide_model(await seen(fleet.api, fleet), datetime.now(UTC))


async def seen(api: Api, fleet: Fleet) -> ModelSeen:
    """Everything as it is, read at once from the API server."""
    rollouts = [parse.rollout(raw) for raw in await fleet.rollouts(MODEL)]
    mine = {agent.namespace for agent in fleet.agents.values()}
    orders = [parse.deployment(raw) for raw in await _orders(fleet)]
    leases = {raw["metadata"]["namespace"]: raw for raw in await api.list(kinds.LEASE) if _of(raw, mine)}
    agents = {raw["metadata"]["namespace"]: raw for raw in await api.list(kinds.EDGE_AGENT) if _of(raw, mine)}
    sites = []
    for raw in await api.list(kinds.EDGE_SITE):
        space = names.site_namespace(raw["metadata"]["name"])
        sites.append(parse.site(raw, leases.get(space), agents.get(space)))
    model = parse.model(await fleet.model(MODEL))
    assert not hasattr(model.spec, "message"), model.spec
    reference = model.spec.bundle  # type: ignore[union-attr]
    known = {item.spec.bundle: item.spec.bundle_version for item in rollouts if item is not None}
    return ModelSeen(
        namespace=fleet.namespace,
        name=MODEL,
        model=model,
        rollouts=tuple(item for item in rollouts if item is not None),
        orders=tuple(orders),
        sites=tuple(sites),
        bundle=BundleCheck(bundle=reference, ok=True, version=known.get(reference, 1), variants=("int8",)),
        pod_image=POD_IMAGE,
        operator_started=datetime.now(UTC) - timedelta(hours=1),
    )


def _of(raw: Object, spaces: set[str]) -> bool:
    return raw["metadata"]["namespace"] in spaces and raw["metadata"]["name"] in (names.LEASE, names.AGENT)


async def _orders(fleet: Fleet) -> list[Object]:
    name = names.order_name(fleet.namespace, MODEL)
    return [
        raw
        for raw in await fleet.api.list(kinds.EDGE_DEPLOYMENT)
        if raw["metadata"]["name"] == name and site_of(raw["metadata"]["namespace"])
    ]


async def _said(fleet: Fleet) -> Object:
    return (await fleet.model(MODEL)).get("status") or {}


def _differs(decision: ModelDecision, said: Object) -> bool:
    """Whether the operator says something else than what is so; figures and moments may follow."""
    assert decision.status is not None
    wanted = {item.type: (item.status, item.reason) for item in decision.status.conditions}
    found = {item["type"]: (item["status"], item["reason"]) for item in said.get("conditions") or ()}
    figures = (said.get("sites") or {}).get("healthy", 0)
    return wanted != found or figures != decision.status.sites.healthy


async def all_is_as_it_should(fleet: Fleet) -> dict[str, Any]:
    """The end: the sites themselves, their orders, and what is said of them agree. Returns it in short."""
    model, rollouts = await fleet.model(MODEL), await fleet.rollouts(MODEL)
    orders = {raw["metadata"]["namespace"]: raw for raw in await _orders(fleet)}
    by_kind = {item["type"]: item for item in model["status"]["conditions"]}
    ready, stalled, moving = (
        by_kind[kind] for kind in (conditions.READY, conditions.STALLED, conditions.RECONCILING)
    )
    if ready["status"] != "True":
        assert stalled["status"] == "True" or moving["reason"] in NAMES_SOMEBODY, f"I11: {ready} names nobody"
        assert ready["message"], "a hold says why"
    withdrawn = {
        (raw["spec"]["revision"], raw["spec"]["attempt"])
        for raw in rollouts
        if (raw.get("status") or {}).get("outcome") in WITHDRAWN
    }
    serving = 0
    for short, agent in fleet.agents.items():
        order = orders.get(agent.namespace)
        active = await agent.serving(names.order_name(fleet.namespace, MODEL))
        if order is None or order["spec"]["state"] != "Run":
            kept = order is not None and order["spec"]["state"] == "Keep"
            assert kept or not active, f"I6: {short} serves {active} without an order"
            continue
        asked = (order["spec"]["revision"], order["spec"]["attempt"])
        assert asked not in withdrawn, f"I4: {short} is still ordered to run {asked}, withdrawn"
        serving += order["status"].get("stage") == "Serving"
        if ready["status"] == "True" and order["status"].get("stage") == "Serving":
            assert active == asked[0], f"{short} says it serves {asked}, and serves {active}"
    assert model["status"]["sites"]["healthy"] <= serving, "I7"
    return {"ready": ready["reason"], "stalled": stalled["status"], "serving": serving}


async def picture(fleet: Fleet, bundles: list[str]) -> dict[str, Any]:
    """What came of everything, without what differs from life to life: bundles by their place in the list."""
    model, rollouts = await fleet.model(MODEL), await fleet.rollouts(MODEL)
    orders = {raw["metadata"]["namespace"]: raw for raw in await _orders(fleet)}
    ready = next(item for item in model["status"]["conditions"] if item["type"] == conditions.READY)
    bundle_of = {raw["spec"]["revision"]: bundles.index(raw["spec"]["bundle"]) for raw in rollouts}
    sites = {}
    for short, agent in fleet.agents.items():
        order = orders.get(agent.namespace)
        active = await agent.serving(names.order_name(fleet.namespace, MODEL))
        asked = (order["spec"]["state"], bundles.index(order["spec"]["bundle"])) if order else None
        sites[short] = (asked, bundle_of.get(active))
    attempts = [
        (
            bundles.index(raw["spec"]["bundle"]),
            raw["spec"]["attempt"],
            raw["status"].get("outcome", ""),
            sorted(item["site"].rpartition("-")[2] for item in raw["status"].get("failures", ())),
        )
        for raw in rollouts
    ]
    return {"ready": (ready["status"], ready["reason"]), "sites": sites, "attempts": attempts}
