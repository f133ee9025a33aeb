"""How sites get in, and how far: tokens, keys, certificates and rights on a real API server."""

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from edgefleet.core import names
from edgefleet.kube import errors, kinds
from edgefleet.kube.client import Api, Explicit, Object
from support.cluster import condition, eventually
from support.fake_agent import FakeAgent, Key, answered, ask, ca_of, join_token
from support.hub import Fleet, Shelf

pytestmark = pytest.mark.cluster


@contextlib.asynccontextmanager
async def bearing(fleet: Fleet, token: str) -> AsyncIterator[Api]:
    """A client with a join token."""
    where = await fleet.api.connection()
    async with Api.explicit(
        Explicit(where.server, ca_of(where), token=token), manager=names.AGENT_MANAGER
    ) as api:
        yield api


def aged(token: str, signing: Path, *, hours: float) -> str:
    """A token as it is after so many hours, signed anew with the API server's key: no test can wait for it."""
    header, claims, _ = token.split(".")
    said = json.loads(base64.urlsafe_b64decode(claims + "=="))
    said |= {name: said[name] - int(hours * 3600) for name in ("iat", "nbf", "exp")}
    text = f"{header}.{_web64(json.dumps(said).encode())}"
    key = serialization.load_pem_private_key(signing.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    r, s = decode_dss_signature(key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{text}.{_web64(r.to_bytes(32) + s.to_bytes(32))}"


def _web64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


async def asks(fleet: Fleet, token: str, site: str, key: Key, **changes: Any) -> Object:
    """Ask for a certificate with a token; the answer."""
    async with bearing(fleet, token) as api:
        return await answered(api, await ask(api, site, key, **changes))


async def test_a_token_becomes_a_certificate_a_namespace_and_a_beating_site(fleet: Fleet) -> None:
    agent = await fleet.join("paris")
    site = await fleet.connectivity("paris", "Online")
    assert site["status"]["publicKeySHA256"] == agent.key.sha256
    assert condition(site, "Joined")["status"] == "True"

    namespace = await fleet.api.get(kinds.NAMESPACE, None, agent.namespace)
    assert namespace["metadata"]["labels"][names.SITE] == agent.site
    assert namespace["metadata"]["annotations"][names.PUBLIC_KEY] == agent.key.sha256
    binding = await fleet.api.get(kinds.ROLE_BINDING, agent.namespace, "edgefleet-site")
    assert [s["name"] for s in binding["subjects"]] == [names.site_user(agent.site, agent.key.sha256)]

    async def ready() -> bool:
        raw = await fleet.api.get(kinds.EDGE_SITE, None, agent.site)
        return condition(raw, "Ready").get("status") == "True"

    await eventually(ready, "the site is Ready")


async def test_the_token_dies_once_the_site_is_heard(fleet: Fleet) -> None:
    agent = await fleet.join("paris")

    async def dead() -> bool:
        try:
            await fleet.api.get(kinds.SERVICE_ACCOUNT, names.JOIN_NAMESPACE, agent.site)
        except errors.NotFound:
            return True
        return False

    await eventually(dead, "the token's ServiceAccount is gone", seconds=20)


async def test_a_box_that_is_replaced_while_it_beats_does_not_cost_the_new_one_its_token(
    fleet: Fleet,
) -> None:
    old = await fleet.join("paris")
    await old.rest()
    token = await join_token(fleet.api, old.site)

    async def beat_to_the_last() -> None:
        while True:
            with contextlib.suppress(errors.Forbidden):
                await old.beat()

    beating = asyncio.create_task(beat_to_the_last())
    try:
        assert (await asks(fleet, token, old.site, Key.new()))["type"] == "Approved"
        await asyncio.sleep(2)  # a slow box: it has not read its certificate yet
        assert await fleet.api.get(kinds.SERVICE_ACCOUNT, names.JOIN_NAMESPACE, old.site)
    finally:
        beating.cancel()


async def test_a_token_joins_one_key_and_no_other(fleet: Fleet) -> None:
    await fleet.site("paris")
    site, first, thief = fleet.name("paris"), Key.new(), Key.new()
    token = await join_token(fleet.api, site)
    assert (await asks(fleet, token, site, first))["type"] == "Approved"

    answer = await asks(fleet, token, site, thief)
    assert (answer["type"], answer["reason"]) == ("Denied", "TokenUsed")
    assert "edgefleet site token" in answer["message"]
    raw = await fleet.api.get(kinds.EDGE_SITE, None, site)
    assert raw["status"]["publicKeySHA256"] == first.sha256
    again = await asks(fleet, token, site, first)
    assert again["type"] == "Approved", "an agent that lost the answer asks again with its key"


async def test_a_new_token_brings_a_new_box_and_the_old_one_is_out(fleet: Fleet) -> None:
    old = await fleet.join("paris")
    await old.rest()
    new = await FakeAgent.join(fleet.api, old.site)
    try:
        await new.announce()
        await new.beat()
        with pytest.raises(errors.Forbidden):
            await old.beat()
    finally:
        await new.close()


DENIALS: dict[str, tuple[dict[str, Any], str]] = {
    "a name with a longer one in front": (
        {"common_name": "edgefleet:site:{site}-annex:{key16}"},
        "UnknownSite",
    ),
    "another site's name": ({"common_name": "edgefleet:site:{other}:{key16}"}, "WrongToken"),
    "another key's name": ({"common_name": "edgefleet:site:{site}:" + "0" * 16}, "KeyMismatch"),
    "an administrator's name": ({"common_name": "kubernetes-admin"}, "BadCommonName"),
    "another group": ({"organization": "system:nodes"}, "BadOrganization"),
    "a server's use": ({"usages": ["client auth", "digital signature"]}, "BadUsages"),
    "a name besides": ({"also": "hub.example"}, "BadRequest"),
}


@pytest.mark.parametrize(("changes", "reason"), DENIALS.values(), ids=DENIALS.keys())
async def test_a_request_that_asks_for_more_is_denied_with_a_reason(
    fleet: Fleet, changes: dict[str, Any], reason: str
) -> None:
    await fleet.site("paris")
    await fleet.site("rome")
    site, key = fleet.name("paris"), Key.new()
    token = await join_token(fleet.api, site)
    filled = dict(changes)
    if "common_name" in filled:
        filled["common_name"] = filled["common_name"].format(
            site=site, other=fleet.name("rome"), key16=key.sha256[:16]
        )
    answer = await asks(fleet, token, site, key, **filled)
    assert (answer["type"], answer["reason"]) == ("Denied", reason), answer
    assert not answer["certificate"]


async def test_a_token_of_a_site_whose_name_is_a_beginning_of_anothers_is_no_use_there(fleet: Fleet) -> None:
    await fleet.site("par")
    await fleet.site("par-is")
    key = Key.new()
    token = await join_token(fleet.api, fleet.name("par"))
    answer = await asks(fleet, token, fleet.name("par-is"), key)
    assert (answer["type"], answer["reason"]) == ("Denied", "WrongToken")


async def test_a_site_whose_key_is_fixed_takes_no_other_even_with_a_token(fleet: Fleet) -> None:
    right, wrong = Key.new(), Key.new()
    await fleet.site("paris", publicKeySHA256=right.sha256)
    site = fleet.name("paris")
    token = await join_token(fleet.api, site)
    answer = await asks(fleet, token, site, wrong)
    assert (answer["type"], answer["reason"]) == ("Denied", "KeyMismatch")
    assert (await asks(fleet, token, site, right))["type"] == "Approved"


async def test_a_site_renews_its_certificate_with_its_own_and_nobody_elses(fleet: Fleet) -> None:
    paris, rome = await fleet.joined("paris", "rome")
    renewed = await answered(paris.api, await ask(paris.api, paris.site, paris.key))
    assert renewed["type"] == "Approved"
    assert base64.b64decode(renewed["certificate"]).startswith(b"-----BEGIN CERTIFICATE")

    denied = await answered(rome.api, await ask(rome.api, paris.site, paris.key))
    assert denied["type"] == "Denied"
    stolen = await answered(rome.api, await ask(rome.api, rome.site, Key.new()))
    assert stolen["type"] == "Denied"


async def test_a_namespace_of_somebody_else_is_not_taken_over(fleet: Fleet) -> None:
    site = fleet.name("paris")
    namespace = names.site_namespace(site)
    await fleet.api.create(kinds.NAMESPACE, None, {"metadata": {"name": namespace}})
    try:
        await fleet.site("paris")
        answer = await asks(fleet, await join_token(fleet.api, site), site, Key.new())
        assert (answer["type"], answer["reason"]) == ("Denied", "NameTaken")

        async def says_so() -> bool:
            raw = await fleet.api.get(kinds.EDGE_SITE, None, site)
            return condition(raw, "Stalled").get("reason") == "NameTaken"

        await eventually(says_so, "the EdgeSite says that its name is taken")
        live = await fleet.api.get(kinds.NAMESPACE, None, namespace)
        assert names.SITE not in (live["metadata"].get("labels") or {})
    finally:
        await fleet.api.delete(kinds.NAMESPACE, None, namespace, uid=None)


async def test_a_sites_certificate_reaches_its_own_namespace_and_nothing_else(
    fleet: Fleet, shelf: Shelf
) -> None:
    paris, rome = await fleet.joined("paris", "rome")
    await fleet.apply("digits", await shelf.bundle())
    await fleet.ready("digits")
    order = names.order_name(fleet.namespace, "digits")
    assert await paris.api.get(kinds.EDGE_DEPLOYMENT, paris.namespace, order)

    reads = [
        paris.api.get(kinds.EDGE_DEPLOYMENT, rome.namespace, order),
        paris.api.get(kinds.LEASE, rome.namespace, names.LEASE),
        paris.api.list(kinds.EDGE_DEPLOYMENT),
        paris.api.list(kinds.EDGE_SITE),
        paris.api.list(kinds.EDGE_MODEL),
        paris.api.list(kinds.NAMESPACE),
        paris.api.list(kinds.CSR),
        paris.api.list(kinds.SECRET, paris.namespace),
        paris.api.get(kinds.SECRET, "edgefleet-system", "any"),
        paris.api.get(kinds.EDGE_SITE, None, paris.site),
    ]
    status: Object = {"status": {"stage": "Serving"}}
    spec: Object = {"spec": {"image": "evil"}}
    writes = [
        paris.api.merge_patch(kinds.EDGE_DEPLOYMENT, rome.namespace, order, status, status=True),
        paris.api.merge_patch(kinds.EDGE_DEPLOYMENT, paris.namespace, order, spec),
        paris.api.merge_patch(kinds.EDGE_AGENT, paris.namespace, names.AGENT, {"spec": {"cordoned": False}}),
        paris.api.delete(kinds.EDGE_DEPLOYMENT, paris.namespace, order, uid=None),
        paris.api.delete(kinds.LEASE, paris.namespace, names.LEASE, uid=None),
        paris.api.merge_patch(kinds.EDGE_MODEL, fleet.namespace, "digits", {"spec": {"paused": True}}),
        paris.api.create(kinds.CONFIG_MAP, paris.namespace, {"metadata": {"name": "x"}}),
        paris.api.create(kinds.ROLE_BINDING, paris.namespace, {"metadata": {"name": "x"}, "roleRef": {}}),
    ]
    answers = await asyncio.gather(*reads, *writes, return_exceptions=True)
    assert [type(answer).__name__ for answer in answers] == ["Forbidden"] * len(answers)


async def test_a_deleted_site_is_out_and_the_same_key_brings_it_back_without_a_hand(fleet: Fleet) -> None:
    agent = await fleet.join("paris")
    await fleet.connectivity("paris", "Online")
    await fleet.api.delete(kinds.EDGE_SITE, None, agent.site, uid=None)

    async def out() -> bool:
        try:
            await agent.api.get(kinds.EDGE_AGENT, agent.namespace, names.AGENT)
        except errors.Forbidden:
            return True
        return False

    await eventually(out, "the deleted site reaches nothing")
    assert await fleet.api.get(kinds.NAMESPACE, None, agent.namespace), "its namespace stays"

    await fleet.site("paris", publicKeySHA256=agent.key.sha256)
    await fleet.connectivity("paris", "Online")


async def test_an_expired_token_is_no_credential(fleet: Fleet, api_server: Path) -> None:
    await fleet.site("paris")
    token = await join_token(fleet.api, fleet.name("paris"))
    signing = api_server.parent / "pki" / "sa.key"
    async with bearing(fleet, aged(token, signing, hours=2)) as api:
        with pytest.raises(errors.Unauthorized):
            await ask(api, fleet.name("paris"), Key.new())
    async with bearing(fleet, aged(token, signing, hours=0)) as api:
        assert await ask(api, fleet.name("paris"), Key.new()), "its age alone is what is wrong with it"


async def test_an_invented_or_deleted_token_is_no_credential(fleet: Fleet) -> None:
    await fleet.site("paris")
    async with bearing(fleet, "invented") as api:
        with pytest.raises(errors.Unauthorized):
            await ask(api, fleet.name("paris"), Key.new())
    token = await join_token(fleet.api, fleet.name("paris"))
    await fleet.api.delete(kinds.SERVICE_ACCOUNT, names.JOIN_NAMESPACE, fleet.name("paris"), uid=None)

    async def dead() -> bool:
        async with bearing(fleet, token) as api:
            try:
                await ask(api, fleet.name("paris"), Key.new())
            except errors.Unauthorized:
                return True
        return False

    await eventually(dead, "a deleted token is refused", seconds=20, every=1.0)
