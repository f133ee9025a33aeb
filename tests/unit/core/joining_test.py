"""A site is its key: who gets a certificate, and who does not."""

from dataclasses import replace
from typing import Any

import pytest
from edgefleet.core import joining, parse
from edgefleet.core.decisions import CsrApprove, CsrDeny, CsrIgnore
from edgefleet.core.seen import CsrSeen, NamespaceSeen, SiteObject
from support.hubs import site_raw

KEY, OTHER = "a1" * 32, "b2" * 32
CN = f"edgefleet:site:paris:{KEY[:16]}"
TOKEN = "system:serviceaccount:edgefleet-join:paris"


def site(bound: str = "", **spec: Any) -> SiteObject:
    """EdgeSite paris, perhaps bound to a key."""
    raw = site_raw("paris", **spec)
    if bound:
        raw["status"]["publicKeySHA256"] = bound
    return parse.site(raw)


def request(**other: Any) -> CsrSeen:
    """A request by token that is in order, but for what is given."""
    given: dict[str, Any] = {
        "name": "edgefleet-paris-1",
        "username": TOKEN,
        "signer": "kubernetes.io/kube-apiserver-client",
        "usages": ("client auth",),
        "common_name": CN,
        "organizations": ("edgefleet:sites",),
        "public_key_sha256": KEY,
        "alternative_names": False,
        "decided": False,
        "site": site(),
        "namespace": None,
    }
    return CsrSeen(**given | other)


@pytest.mark.parametrize(
    ("seen", "joined_by_token"),
    [
        pytest.param(request(), True, id="a token and a new site"),
        pytest.param(request(site=site(bound=OTHER)), True, id="a token, and another key than before"),
        pytest.param(request(site=site(publicKeySHA256=KEY)), True, id="a token, and the key of the spec"),
        pytest.param(
            request(namespace=NamespaceSeen(ours=True)), True, id="a token, and its namespace is still there"
        ),
        pytest.param(request(username=CN, site=site(bound=KEY)), False, id="renewed by the bound key"),
        pytest.param(
            request(username=CN, site=site(publicKeySHA256=KEY)), False, id="renewed by the key of the spec"
        ),
    ],
)
def test_approved(seen: CsrSeen, joined_by_token: bool) -> None:
    found = joining.decide_csr(seen)
    assert isinstance(found, CsrApprove)
    assert (found.site, found.public_key_sha256, found.user, found.joining) == (
        "paris",
        KEY,
        CN,
        joined_by_token,
    )


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        pytest.param(
            request(username="system:serviceaccount:edgefleet-join:london"),
            "WrongToken",
            id="another site's token",
        ),
        pytest.param(
            request(username="system:serviceaccount:default:paris"),
            "WrongToken",
            id="a ServiceAccount elsewhere",
        ),
        pytest.param(request(username="system:admin"), "WrongToken", id="nobody's token"),
        pytest.param(request(public_key_sha256=OTHER), "KeyMismatch", id="a name with another key's digits"),
        pytest.param(
            request(site=site(publicKeySHA256=OTHER)), "KeyMismatch", id="the spec fixes another key"
        ),
        pytest.param(request(site=None), "UnknownSite", id="no such site"),
        pytest.param(
            request(namespace=NamespaceSeen(ours=False)), "NameTaken", id="somebody else's namespace"
        ),
        pytest.param(request(username=CN), "KeyNotBound", id="renewal by a key that never joined"),
        pytest.param(
            request(username=CN, site=site(bound=OTHER)), "KeyNotBound", id="renewal by a replaced box"
        ),
        pytest.param(
            request(username=CN, site=site(bound=KEY, publicKeySHA256=OTHER)),
            "KeyNotBound",
            id="renewal, and the spec fixes another key",
        ),
        pytest.param(
            request(username=f"edgefleet:site:london:{OTHER[:16]}", site=site(bound=KEY)),
            "WrongToken",
            id="another site's certificate",
        ),
        pytest.param(request(common_name="edgefleet:site:paris"), "BadCommonName", id="no key in the name"),
        pytest.param(
            request(common_name="system:masters"), "BadCommonName", id="a token that asks to be somebody else"
        ),
        pytest.param(request(common_name=CN + "0"), "BadCommonName", id="a longer key"),
        pytest.param(
            request(common_name=f"edgefleet:site:Paris:{KEY[:16]}"), "BadCommonName", id="no site's name"
        ),
        pytest.param(request(organizations=("system:masters",)), "BadOrganization", id="another group"),
        pytest.param(
            request(organizations=("edgefleet:sites", "system:masters")),
            "BadOrganization",
            id="one group more",
        ),
        pytest.param(request(organizations=()), "BadOrganization", id="no group"),
        pytest.param(request(usages=("client auth", "server auth")), "BadUsages", id="to serve as well"),
        pytest.param(request(alternative_names=True), "BadRequest", id="alternative names"),
        pytest.param(request(problem="not PEM"), "BadRequest", id="not readable"),
    ],
)
def test_denied(seen: CsrSeen, reason: str) -> None:
    found = joining.decide_csr(seen)
    assert isinstance(found, CsrDeny)
    assert found.reason == reason
    assert found.message


@pytest.mark.parametrize(
    "seen",
    [
        pytest.param(request(decided=True), id="already decided"),
        pytest.param(request(signer="kubernetes.io/kubelet-serving"), id="another signer"),
        pytest.param(
            request(username="ann", common_name="bob", organizations=("devs",)), id="nothing to do with sites"
        ),
    ],
)
def test_left_to_others(seen: CsrSeen) -> None:
    assert joining.decide_csr(seen) == CsrIgnore()


def test_a_request_of_a_site_that_names_another_sites_object_is_denied() -> None:
    mixed = replace(request(), site=parse.site(site_raw("london")))
    found = joining.decide_csr(mixed)
    assert isinstance(found, CsrDeny)
    assert found.reason == "UnknownSite"
