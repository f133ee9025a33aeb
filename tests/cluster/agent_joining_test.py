"""How a site gets its credential from a real API server, what it is good for, and what is said when it gets none.

An honest approver stands in for the operator; the two together are in agent_with_operator_test.py.
"""

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from edgefleet.agent.identity import SECRET, Identity
from edgefleet.core import names
from edgefleet.kube import errors, kinds
from edgefleet.kube.client import Api, Explicit
from support.agents import SiteLab
from support.fake_agent import ca_of
from support.hub import Shelf

pytestmark = pytest.mark.cluster


@pytest.fixture
async def lab(api_server: Path, site_api_server: Path, shelf: Shelf) -> AsyncIterator[SiteLab]:
    async with SiteLab.open(api_server, site_api_server, shelf) as made:
        yield made


async def identity(lab: SiteLab) -> Identity:
    where = Explicit(lab.hub.api.server, ca_of(await lab.hub.api.connection()))
    return Identity(lab.site_api, lab.namespace, lab.hub.site, where, lab.folder / "token")


async def requests(lab: SiteLab) -> list[str]:
    found = await lab.hub.api.list(kinds.CSR)
    mine = f"edgefleet-{lab.hub.site}-"
    return [item["metadata"]["name"] for item in found if item["metadata"]["name"].startswith(mine)]


async def test_a_site_joins_with_a_token_and_is_its_key(lab: SiteLab) -> None:
    lab.agent.start()
    told = await lab.joined()
    secret = await lab.site_api.get(kinds.SECRET, lab.namespace, SECRET)
    certificate = x509.load_pem_x509_certificate(base64.b64decode(secret["data"]["tls.crt"]))
    (common,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert common.value == names.site_user(lab.hub.site, told["status"]["publicKeySHA256"])
    assert len(await requests(lab)) == 1


async def test_an_agent_that_starts_again_asks_for_no_second_certificate(lab: SiteLab) -> None:
    lab.agent.start()
    await lab.joined()
    lab.agent.kill()
    lab.agent.start()
    await lab.served()
    assert len(await requests(lab)) == 1


async def test_a_site_s_credential_reads_and_writes_that_site_s_objects_only(lab: SiteLab) -> None:
    site = await identity(lab)
    await site.ensure()
    other = names.site_namespace(f"other-{lab.id}")
    await lab.hub.api.create(kinds.NAMESPACE, None, {"metadata": {"name": other}})
    async with Api.explicit(site.access(), manager=names.AGENT_MANAGER) as api:
        assert await api.list(kinds.EDGE_DEPLOYMENT, lab.hub.namespace) == []
        for kind, namespace in (
            (kinds.EDGE_DEPLOYMENT, other),
            (kinds.EDGE_DEPLOYMENT, None),
            (kinds.SECRET, lab.hub.namespace),
            (kinds.LEASE, other),
            (kinds.EDGE_SITE, None),
            (kinds.NODE, None),
        ):
            with pytest.raises(errors.Forbidden):
                await api.list(kind, namespace)
        with pytest.raises(errors.Forbidden):
            await api.create(kinds.EDGE_DEPLOYMENT, lab.hub.namespace, {"metadata": {"name": "a.b"}})
    await lab.hub.api.delete(kinds.NAMESPACE, None, other, uid=None)


async def test_a_certificate_is_renewed_with_itself_and_the_key_stays(lab: SiteLab) -> None:
    site = await identity(lab)
    first = await site.ensure()
    (lab.folder / "token").write_text("worthless by now")
    second = await site.renew()
    assert second.key_pem == first.key_pem
    assert second.certificate_pem != first.certificate_pem
    async with Api.explicit(site.access(), manager=names.AGENT_MANAGER) as api:
        await api.get(kinds.LEASE, lab.hub.namespace, names.LEASE)


async def test_a_token_that_is_no_good_is_said_at_the_site_with_what_to_do(lab: SiteLab) -> None:
    (lab.folder / "token").write_text("used or expired")
    lab.agent.start()
    said = await lab.says("Joined", "False", "JoinTokenInvalid")
    assert f"edgefleet site token {lab.hub.site}" in said["message"]


async def test_a_new_token_is_taken_up_without_a_restart(lab: SiteLab) -> None:
    good = (lab.folder / "token").read_text()
    (lab.folder / "token").write_text("used or expired")
    lab.agent.start()
    await lab.says("Joined", "False", "JoinTokenInvalid")
    (lab.folder / "token").write_text(good)
    await lab.joined()


async def test_a_site_that_is_denied_says_what_the_hub_said(lab: SiteLab) -> None:
    lab.hub.denied = "the name is taken by another key"
    lab.agent.start()
    said = await lab.says("Joined", "False", "JoinDenied")
    assert "the name is taken by another key" in said["message"]


async def test_a_right_that_was_taken_away_changes_nothing_that_serves(lab: SiteLab) -> None:
    lab.agent.start()
    wanted = await lab.served()
    await lab.hub.api.delete(kinds.ROLE_BINDING, lab.hub.namespace, "edgefleet-site", uid=None)
    await asyncio.sleep(4)
    assert await lab.selected() == wanted.revision
    assert await lab.deployments() == [wanted.revision]
    lab.agent.kill()
    lab.agent.start()
    await asyncio.sleep(4)
    assert await lab.deployments() == [wanted.revision]
