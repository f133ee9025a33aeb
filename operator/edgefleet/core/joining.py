"""Whether a CertificateSigningRequest of a site is approved: by a one-time token, or by the key that is bound."""

import re
from typing import Final

from edgefleet.core import names
from edgefleet.core.decisions import CsrApprove, CsrDecision, CsrDeny, CsrIgnore
from edgefleet.core.seen import CsrSeen, SiteObject
from edgefleet.core.specs import SiteSpec

SIGNER: Final = "kubernetes.io/kube-apiserver-client"
USAGES: Final = ("client auth",)
JOIN_USER_PREFIX: Final = f"system:serviceaccount:{names.JOIN_NAMESPACE}:"
_COMMON_NAME: Final = re.compile(
    re.escape(names.SITE_USER_PREFIX) + r"(?P<site>[a-z](?:[-a-z0-9]{0,48}[a-z0-9])?):(?P<key>[0-9a-f]{16})"
)


def decide_csr(seen: CsrSeen) -> CsrDecision:
    """Approve, deny or ignore a request. Whoever asks, only the key decides which site the certificate is for."""
    if seen.decided or seen.signer != SIGNER or not _ours(seen):
        return CsrIgnore()
    problem = _problem(seen)
    if problem is not None:
        return problem
    site, key = _named(seen.common_name)
    if not seen.public_key_sha256.startswith(key):
        text = f"the common name {seen.common_name} is of another key than the one that signed the request"
        return CsrDeny("KeyMismatch", text)
    if seen.site is None or seen.site.meta.name != site:
        return CsrDeny(
            "UnknownSite", f"there is no EdgeSite {site}: create it, or `edgefleet site token {site}` does"
        )
    if seen.namespace is not None and not seen.namespace.ours:
        text = f"namespace {names.site_namespace(site)} exists and is not labelled {names.SITE}={site}: rename the site or remove it"
        return CsrDeny("NameTaken", text)
    if seen.username == seen.common_name:
        return _renewal(seen, seen.site, site)
    return _join(seen, seen.site, site)


def bound_key(site: SiteObject) -> str:
    """The key a site is: fixed by its spec, or bound when it joined; empty: none yet."""
    fixed = site.spec.public_key_sha256 if isinstance(site.spec, SiteSpec) else ""
    return fixed or site.status.public_key_sha256 or ""


def _ours(seen: CsrSeen) -> bool:
    return seen.common_name.startswith(names.SITE_USER_PREFIX) or seen.username.startswith(
        (JOIN_USER_PREFIX, names.SITE_USER_PREFIX)
    )


def _problem(seen: CsrSeen) -> CsrDeny | None:
    """What is wrong with the request itself."""
    if seen.problem:
        return CsrDeny("BadRequest", seen.problem)
    if not _COMMON_NAME.fullmatch(seen.common_name):
        text = f"common name {seen.common_name!r} must be {names.SITE_USER_PREFIX}<site>:<first 16 hex digits of the key's SHA-256>"
        return CsrDeny("BadCommonName", text)
    if seen.organizations != (names.SITES_ORGANIZATION,):
        return CsrDeny("BadOrganization", f"the organization must be {names.SITES_ORGANIZATION} and no other")
    if seen.usages != USAGES:
        return CsrDeny("BadUsages", "usages must be `client auth` and nothing else")
    if seen.alternative_names:
        return CsrDeny("BadRequest", "subject alternative names are not given to sites")
    return None


def _join(seen: CsrSeen, site: SiteObject, name: str) -> CsrDecision:
    """A token names the site; a key fixed in the spec has the last word."""
    if seen.username != JOIN_USER_PREFIX + name:
        return CsrDeny(
            "WrongToken", f"{seen.username} may not ask for site {name}: use the token made for it"
        )
    if seen.token_key and seen.token_key != seen.public_key_sha256:
        text = f"the token of site {name} has joined another key already: `edgefleet site token {name} --replace` makes a new one"
        return CsrDeny("TokenUsed", text)
    fixed = site.spec.public_key_sha256 if isinstance(site.spec, SiteSpec) else ""
    if fixed and fixed != seen.public_key_sha256:
        text = f"EdgeSite {name} fixes another key in spec.publicKeySHA256: correct it or take it out"
        return CsrDeny("KeyMismatch", text)
    return _approve(seen, name, joining=True, message=f"site {name} joined by its token")


def _renewal(seen: CsrSeen, site: SiteObject, name: str) -> CsrDecision:
    if bound_key(site) != seen.public_key_sha256:
        text = f"the key is not the one bound to site {name}: join again with `edgefleet site token {name} --replace`"
        return CsrDeny("KeyNotBound", text)
    return _approve(
        seen, name, joining=False, message=f"site {name} renewed the certificate of its bound key"
    )


def _approve(seen: CsrSeen, name: str, *, joining: bool, message: str) -> CsrApprove:
    return CsrApprove(
        site=name,
        public_key_sha256=seen.public_key_sha256,
        user=names.site_user(name, seen.public_key_sha256),
        joining=joining,
        message=message,
    )


def _named(common_name: str) -> tuple[str, str]:
    match = _COMMON_NAME.fullmatch(common_name)
    if match is None:
        raise ValueError(f"{common_name!r} is no common name of a site")
    return match["site"], match["key"]
