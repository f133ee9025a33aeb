"""`edgefleet site …` against a real API server."""

import base64
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from edgefleet.core import names
from edgefleet.kube import errors, kinds
from edgefleet.kube.client import Api, Explicit
from edgefleet.kube.kinds import Kind
from support.commands import Cluster, with_join_namespace
from support.fake_agent import ca_of

pytestmark = pytest.mark.cluster
SERVER = "https://hub.example:6443"
ME = Kind("SelfSubjectReview", "selfsubjectreviews", "v1", "authentication.k8s.io", namespaced=False)


@pytest.fixture
def hub(api_server: Path) -> Cluster:
    cluster = Cluster(api_server, names.JOIN_NAMESPACE)
    cluster.ask(with_join_namespace)
    return cluster


@pytest.fixture
def name(hub: Cluster) -> Iterator[str]:
    """A site's name nobody else uses; what is made under it is taken away."""
    site = f"cli-{secrets.token_hex(4)}"
    yield site

    async def clear(api: Api) -> None:
        for kind, space in ((kinds.EDGE_SITE, None), (kinds.SERVICE_ACCOUNT, names.JOIN_NAMESPACE)):
            try:
                await api.delete(kind, space, site, uid=None)
            except errors.NotFound:
                continue

    hub.ask(clear)


def _token(hub: Cluster, *arguments: str) -> str:
    done = hub.edgefleet("site", "token", *arguments, "--server", SERVER, "-o", "values")
    assert done.exit_code == 0, done.output
    return str(yaml.safe_load(done.stdout)["join"]["token"])


async def _whoami(api: Api, token: str) -> str:
    where = await api.connection()
    known = Explicit(where.server, ca_of(where), token=token)
    async with Api.explicit(known, manager="edgefleet-tests") as other:
        answer = await other.create(ME, None, {})
    return str(answer["status"]["userInfo"]["username"])


def test_a_token_speaks_for_the_account_of_the_site_and_the_site_is_made(hub: Cluster, name: str) -> None:
    token = _token(hub, name)

    assert hub.ask(lambda api: _whoami(api, token)) == f"system:serviceaccount:edgefleet-join:{name}"
    assert hub.get(kinds.EDGE_SITE, name)["spec"]["autonomy"] == "168h"


def test_values_hold_all_the_chart_asks_for(hub: Cluster, name: str) -> None:
    done = hub.edgefleet("site", "token", name, "--server", SERVER, "-o", "values")

    values = yaml.safe_load(done.stdout)
    assert values["hub"]["server"] == SERVER
    assert base64.b64decode(values["hub"]["caData"]).startswith(b"-----BEGIN CERTIFICATE-----")
    assert values["site"] == {"name": name}
    assert "Keep it secret" in done.stderr


def test_the_certificate_authority_can_be_given(hub: Cluster, name: str, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\nours\n")

    done = hub.edgefleet(
        *("site", "token", name, "--server", SERVER, "-o", "values"),
        *("--ca-file", str(tmp_path / "ca.pem")),
    )

    assert b"ours" in base64.b64decode(yaml.safe_load(done.stdout)["hub"]["caData"])


def test_the_command_installs_the_chart(hub: Cluster, name: str) -> None:
    done = hub.edgefleet("site", "token", name, "--server", SERVER)

    assert done.stdout.startswith("helm upgrade --install edgefleet-site charts/edgefleet-site")
    for setting in (f"hub.server={SERVER}", "hub.caData=", f"site.name={name}", "join.token=ey"):
        assert f"--set-string {setting}" in done.stdout


def test_a_second_token_kills_the_first(hub: Cluster, name: str) -> None:
    first = _token(hub, name)
    second = _token(hub, name)

    assert hub.ask(lambda api: _whoami(api, second)).endswith(name)
    with pytest.raises(errors.Unauthorized):
        hub.ask(lambda api: _whoami(api, first))


def test_a_site_that_has_joined_is_not_given_away(hub: Cluster, name: str) -> None:
    hub.create(
        kinds.EDGE_SITE,
        {"metadata": {"name": name}, "status": {"publicKeySHA256": "5a" * 32, "connectivity": "Away"}},
    )

    done = hub.edgefleet("site", "token", name, "--server", SERVER)

    assert done.exit_code == 1
    assert f"site {name} has joined" in done.output
    assert "--replace" in done.output


def test_a_site_that_has_joined_is_replaced_when_asked(hub: Cluster, name: str) -> None:
    hub.create(kinds.EDGE_SITE, {"metadata": {"name": name}, "status": {"publicKeySHA256": "5a" * 32}})

    assert _token(hub, name, "--replace")


def test_a_site_that_fixes_its_key_is_not_replaced(hub: Cluster, name: str) -> None:
    key = "5a" * 32
    hub.create(
        kinds.EDGE_SITE,
        {"metadata": {"name": name}, "spec": {"publicKeySHA256": key}, "status": {"publicKeySHA256": key}},
    )

    done = hub.edgefleet("site", "token", name, "--replace", "--server", SERVER)

    assert done.exit_code == 1
    assert "spec.publicKeySHA256" in done.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["Paris"], "must start with a lower-case letter"),
        (["a" * 51], "at most 50 characters"),
        (["paris", "--ttl", "9m"], "from 10m"),
        (["paris", "--ttl", "25h"], "to 24h"),
        (["paris", "--ttl", "soon"], "is not a duration"),
        (["paris", "--server", "hub:6443"], "must be a URL"),
        (["paris", "--server", "http://hub:6443"], "must be a URL"),
        (["paris"], "where no site can reach the hub"),
    ],
    ids=[
        "capitals",
        "long name",
        "short life",
        "long life",
        "life in words",
        "no scheme",
        "no TLS",
        "loopback",
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(hub: Cluster, arguments: list[str], words: str) -> None:
    done = hub.edgefleet("site", "token", *arguments)

    assert done.exit_code == 2
    assert words in " ".join(done.output.split())


def test_a_cluster_without_the_hub_is_named_as_such(site_api_server: Path) -> None:
    done = Cluster(site_api_server, "default").edgefleet("site", "token", "paris", "--server", SERVER)

    assert done.exit_code == 1
    assert "has no namespace edgefleet-join: is this the hub" in done.output


def test_a_kubeconfig_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = Cluster(tmp_path / "none", "default").edgefleet("site", "list")

    assert done.exit_code == 1
    assert "there is no such file" in done.output


def test_the_list_shows_what_is_known_of_a_site(hub: Cluster, name: str) -> None:
    hub.create(
        kinds.EDGE_SITE,
        {
            "metadata": {"name": name, "labels": {"country": "de"}},
            "status": {
                "connectivity": "Away",
                "agentVersion": "0.1.0",
                "models": {"serving": 2, "failed": 1, "blocked": 0},
            },
        },
    )

    lines = hub.edgefleet("site", "list").stdout.splitlines()

    line = next(line for line in lines if line.startswith(name)).split()
    assert line == [name, "Away", "-", "-", "2", "1", "0", "-", "0.1.0", "country=de"]
