"""The pass of a site with its real parts: journal, store, mirrors and link, at an API server in memory."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from edgefleet.agent import inventory
from edgefleet.agent.clock import Clock
from edgefleet.agent.fetch import Fetcher
from edgefleet.agent.identity import Identity
from edgefleet.agent.journal import Journal
from edgefleet.agent.link import Link
from edgefleet.agent.mirror import Mirrors
from edgefleet.agent.orders import Orders
from edgefleet.agent.passes import Passes
from edgefleet.agent.pods import Pods
from edgefleet.agent.policy import SitePolicy
from edgefleet.agent.traffic import Leases
from edgefleet.bundle import RegistryOptions, Store
from edgefleet.core import rendering
from edgefleet.core.local import Place
from edgefleet.core.local_record import Record, Served, Staged
from edgefleet.core.order import Mode, Order, OrderIdentity, Refusal, State, to_wire
from edgefleet.kube import kinds
from edgefleet.kube.client import Explicit, Object
from support.bundles import ALICE
from support.little_api import LittleApi, little_api
from support.site import Behaviour, Site, order

NAME = "team.digits"
IDENTITY = OrderIdentity(uid="u1", generation=1)


@dataclass
class Lab:
    """One agent's passes."""

    server: LittleApi
    journal: Journal
    store: Store
    fetcher: Fetcher
    link: Link
    passes: Passes
    place: Place

    def staged(self, revision: str) -> Staged:
        """Files in the store."""
        blob = self.store.put_bytes(f"model {revision}".encode())
        return Staged(
            revision=revision, bundle="sha256:" + "1" * 64, name="digits", version=1, variant="int8",
            serving=blob, blobs=(blob,),
        )  # fmt: skip

    async def serve(self, revision: str, name: str = NAME) -> Staged:
        """Have a model that serves, as the journal and the cluster know it."""
        staged = self.staged(revision)
        wanted = order(revision, mode=Mode.DIRECT)
        record = Record(
            spec=to_wire(wanted), identity=IDENTITY, name="digits", staged=(staged,),
            served=(Served(order=wanted, staged=staged),),
        )  # fmt: skip
        await self.journal.update(name, lambda _: record)
        self.put(kinds.DEPLOYMENT, rendering.deployment(self.place, wanted, staged, 1))
        self.put(kinds.SERVICE, rendering.service(self.place, "team", "digits", revision))
        return staged

    def put(self, kind: kinds.Kind, manifest: Object) -> None:
        self.server.put(kind, self.place.namespace, manifest)

    async def give(self, wanted: Order, generation: int = 2) -> None:
        """The hub's order comes."""
        item = {"metadata": {"uid": "u1", "generation": generation}, "spec": to_wire(wanted)}
        await Orders(self.journal).take(NAME, item)

    async def look(self, times: int = 1) -> None:
        for _ in range(times):
            await self.passes.look(NAME)


async def _nothing() -> dict[str, Any]:
    return {}


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with contextlib.AsyncExitStack() as stack:
        server, api = await stack.enter_async_context(little_api())
        place, journal, store = Place(), Journal(tmp_path), Store(tmp_path, reserve=0)
        fetcher = Fetcher(store, ALICE.trust, RegistryOptions(), inventory.read(), lambda _: None)
        stack.push_async_callback(fetcher.close)
        identity = Identity(api, "agent", "shop", Explicit(server.url, b""), None)
        policy = SitePolicy(journal, Clock())
        link = Link(
            identity, journal, "shop", policy=policy, ring=lambda _: None, back=lambda: None, changed=lambda: None,
            registry=lambda _: None, describe=_nothing,
        )  # fmt: skip
        link.synced.set()
        pods = Pods(1)
        stack.push_async_callback(pods.close)
        mirrors = Mirrors(api, place.namespace, journal)
        passes = Passes(api, place, journal, mirrors, fetcher, pods, Leases(), link, policy)
        yield Lab(server, journal, store, fetcher, link, passes, place)


# -- the store ------------------------------------------------------------------------------------------
def test_the_files_of_a_refused_revision_are_not_remembered() -> None:
    site = Site()
    site.give(order("aa", 1, mode=Mode.DIRECT), Behaviour(version=1))
    site.run()
    site.give(order("bb", 2), Behaviour(version=2, errors=0.5))
    site.run()
    assert [item.revision for item in site.record.refused] == ["bb"]
    assert [item.revision for item in site.record.staged] == ["aa"]


# -- what outlives an order -------------------------------------------------------------------------------
async def test_a_kept_model_keeps_its_files_until_its_deployment_is_gone(lab: Lab) -> None:
    kept = await lab.serve("aa")
    await lab.give(order("aa", state=State.KEEP))
    await lab.look(4)
    record = lab.journal.models[NAME]
    assert (record.spec, record.finished, record.served[0].staged) == ({}, "Kept", kept)
    assert lab.server.names(kinds.EDGE_DEPLOYMENT, lab.place.namespace) == []

    await lab.look()
    assert lab.journal.models[NAME] == record
    assert lab.store.has(kept.serving)
    lab.server.objects.clear()
    await lab.look()
    assert NAME not in lab.journal.models
    assert not lab.store.has(kept.serving)


async def test_a_kept_model_that_is_ordered_away_goes(lab: Lab) -> None:
    await lab.serve("aa")
    await lab.give(order("aa", state=State.KEEP))
    await lab.look(4)
    await lab.give(order("aa", state=State.REMOVE), 3)
    await lab.look(6)
    assert lab.server.names(kinds.DEPLOYMENT, lab.place.namespace) == []
    assert NAME not in lab.journal.models


async def test_a_site_that_leaves_the_placement_and_enters_it_again_refuses_what_failed(lab: Lab) -> None:
    await lab.serve("aa")
    refused = (Refusal(revision="bb", attempt=1, reason="GoldenDisagrees", message="", time="then"),)
    await lab.journal.update(NAME, lambda record: msgspec.structs.replace(record, refused=refused))
    await lab.give(order("aa", state=State.REMOVE))
    await lab.look(6)
    assert lab.server.names(kinds.DEPLOYMENT, lab.place.namespace) == []
    assert lab.journal.models[NAME] == Record(refused=refused, finished="Removed")

    await lab.give(order("bb"), 3)
    await lab.look(2)
    assert lab.passes.stages()[NAME] == ("RolledBack", "")
    assert lab.server.names(kinds.DEPLOYMENT, lab.place.namespace) == []
    await lab.give(order("bb", attempt=2), 4)
    await lab.look()
    assert lab.passes.stages()[NAME] == ("Downloading", "")


# -- an order given at the site -----------------------------------------------------------------------------
async def test_an_order_of_the_hub_that_comes_while_one_of_the_site_is_read_is_not_written_over(
    lab: Lab,
) -> None:
    here = order("aa", mode=Mode.DIRECT)
    lab.put(kinds.EDGE_DEPLOYMENT, {"metadata": {"name": NAME}, "spec": to_wire(here)})
    await lab.passes.mirrors.settle(NAME)
    assert lab.journal.models[NAME].local
    wanted = order("bb", mode=Mode.DIRECT)
    lab.server.meanwhile = lambda: lab.give(wanted)
    await lab.passes.mirrors.settle(NAME)
    record = lab.journal.models[NAME]
    assert (record.local, record.spec) == (False, to_wire(wanted))
    assert record.identity == OrderIdentity(uid="u1", generation=2)


async def test_an_order_that_comes_while_its_mirror_is_read_is_mirrored_at_once(lab: Lab) -> None:
    await lab.serve("aa")
    await lab.passes.mirrors.settle(NAME)
    wanted = order("bb", mode=Mode.DIRECT)
    lab.server.meanwhile = lambda: lab.give(wanted)
    mirror = await lab.passes.mirrors.settle(NAME)
    assert mirror is not None
    assert mirror["spec"] == to_wire(wanted)


# -- a step the cluster refuses ----------------------------------------------------------------------------
@pytest.mark.parametrize(("code", "message"), [(403, "exceeded quota: models"), (422, "invalid quantity")])
async def test_a_step_the_cluster_refuses_is_told_and_tried_again_later(
    lab: Lab, code: int, message: str
) -> None:
    await lab.serve("aa")
    await lab.give(order("aa", replicas=2, mode=Mode.DIRECT))
    lab.server.refuse["PATCH", kinds.DEPLOYMENT.plural] = code, message
    await lab.look(3)
    told = lab.server.objects[kinds.EDGE_DEPLOYMENT.path(lab.place.namespace, NAME)]["status"]
    assert (told["stage"], told["reason"], told["activeRevision"]) == ("Blocked", "RefusedByCluster", "aa")
    assert message in told["message"]
    tried = [path for method, path in lab.server.asked if method == "PATCH" and "/deployments/" in path]
    assert len(tried) == 1  # the others wait for their time
    again = await lab.passes.look(NAME)
    assert again is not None
    assert 1.0 <= again <= 5.0

    lab.server.refuse.clear()
    await lab.give(order("aa", replicas=3, mode=Mode.DIRECT), 3)  # another step is not made to wait
    await lab.look(2)
    assert lab.passes.stages()[NAME] == ("Serving", "aa")
