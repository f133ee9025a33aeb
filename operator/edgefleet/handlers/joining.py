"""Answers the certificate requests of sites."""

import base64
import binascii
import hashlib
import logging
from datetime import UTC, datetime
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from edgefleet.core import joining, names, units
from edgefleet.core.decisions import CsrApprove, CsrDeny, CsrIgnore
from edgefleet.core.seen import CsrSeen
from edgefleet.handlers.gather import BINDING, Seen
from edgefleet.handlers.metrics import Metrics
from edgefleet.handlers.sites import Sites
from edgefleet.kube import apply, errors, kinds, watching
from edgefleet.kube.client import Api, Object
from edgefleet.kube.watching import Watcher
from edgefleet.kube.work import Queue

log = logging.getLogger(__name__)

SIGNER: Final = "kubernetes.io/kube-apiserver-client"
_JOINING_USER: Final = f"system:serviceaccount:{names.JOIN_NAMESPACE}:"
_TOKEN_OUTLIVES: Final = 600.0
"""Seconds after approval when a join token dies at the latest; before, it dies with the site's first beat."""
_ANSWER_READ: Final = 5.0
"""Seconds after approval in which no token dies: its agent reads the certificate with it, and a beat of the same second
may be the last one of a box that is being replaced."""
_LIKELY: Final = 60.0
"""Seconds in which a site that was let in is usually heard."""
_SOON: Final = 1.0
_LATER: Final = 15.0


class Joining:
    """Passes over CertificateSigningRequests. One at a time, so that two cannot bind one site to two keys."""

    def __init__(self, api: Api, seen: Seen, sites: Sites, metrics: Metrics) -> None:
        self._api = api
        self._seen = seen
        self._sites = sites
        self._metrics = metrics

    def watcher(self, queue: Queue[str]) -> Watcher:
        """Ask for a pass over each request for a client certificate."""

        def sink(event: str, item: Object) -> None:
            if event in (watching.ADDED, watching.MODIFIED) and _may_be_ours(item):
                queue.add(item["metadata"]["name"])

        return Watcher(self._api, kinds.CSR, sink, fields=f"spec.signerName={SIGNER}")

    async def look(self, name: str) -> float | None:
        """Answer one request, or see to its token after the answer."""
        try:
            raw = await self._api.get(kinds.CSR, None, name)
        except errors.NotFound:
            return None
        seen = await self._gather(raw)
        match joining.decide_csr(seen):
            case CsrIgnore():
                return await self._end_token(raw) if _approved(raw) else None
            case CsrDeny(reason=reason, message=message):
                await self._answer(raw, "Denied", reason, message)
                self._metrics.answered("denied")
                return None
            case CsrApprove() as approve:
                await self._approve(raw, seen, approve)
                return _SOON if approve.joining else None

    async def _gather(self, raw: Object) -> CsrSeen:
        asked = read_request(str(raw["spec"].get("request") or ""))
        named = site_named(asked["common_name"])
        return CsrSeen(
            name=raw["metadata"]["name"],
            username=str(raw["spec"].get("username") or ""),
            signer=str(raw["spec"].get("signerName") or ""),
            usages=tuple(raw["spec"].get("usages") or ()),
            decided=bool((raw.get("status") or {}).get("conditions")),
            site=self._seen.site(named) if named else None,
            namespace=await self._sites.namespace(named) if named else None,
            token_key=await self._joined_by(str(raw["spec"].get("uid") or ""), named) if named else "",
            **asked,
        )

    async def _joined_by(self, account: str, site: str) -> str:
        """The key that the token of a ServiceAccount (by uid) has joined to a site; empty: none."""
        try:
            raw = await self._api.get(kinds.NAMESPACE, None, names.site_namespace(site))
        except errors.NotFound:
            return ""
        marks = raw["metadata"].get("annotations") or {}
        used = account and marks.get(names.JOIN_ACCOUNT) == account
        return str(marks.get(names.PUBLIC_KEY) or "") if used else ""

    async def _approve(self, raw: Object, seen: CsrSeen, approve: CsrApprove) -> None:
        """Bind the key, give the site its place, and only then let the certificate be made."""
        if seen.site is None:  # the core approves none such
            return
        if seen.site.status.public_key_sha256 != approve.public_key_sha256:
            await self._sites.bind_key(seen.site, approve.public_key_sha256)
        await self._sites.look(approve.site)
        binding = self._seen.bindings.get(names.site_namespace(approve.site), BINDING)
        if binding is None or binding.user != approve.user:
            raise errors.Conflict(f"site {approve.site} has no binding for {approve.user} yet")
        if approve.joining:  # from here on the token can join no other key
            mark = {"metadata": {"annotations": {names.JOIN_ACCOUNT: raw["spec"].get("uid")}}}
            await self._api.merge_patch(kinds.NAMESPACE, None, names.site_namespace(approve.site), mark)
        await self._answer(raw, "Approved", "SiteKnown", approve.message)
        self._metrics.answered("approved")

    async def _answer(self, raw: Object, answer: str, reason: str, message: str) -> None:
        condition = {"type": answer, "status": "True", "reason": reason, "message": message}
        answered = {**raw, "status": {**(raw.get("status") or {}), "conditions": [condition]}}
        await self._api.replace(kinds.CSR, None, raw["metadata"]["name"], answered, sub="approval")
        log.info(
            "Certificate request answered",
            extra={"request": raw["metadata"]["name"], "answer": answer, "reason": reason, "detail": message},
        )

    async def _end_token(self, raw: Object) -> float | None:
        """Delete the ServiceAccount of a join token once its site has been heard with its own certificate.

        Not at once: the agent still reads its certificate with the token. That the token can join nobody else
        does not hang on this: the site is bound to its key.
        """
        user, uid = str(raw["spec"].get("username") or ""), raw["spec"].get("uid")
        if not user.startswith(_JOINING_USER) or not uid:
            return None
        site = user.removeprefix(_JOINING_USER)
        lease = self._seen.leases.get(names.site_namespace(site), names.LEASE)
        approved = _approved_at(raw)
        age = (datetime.now(UTC) - approved).total_seconds()
        heard = bool(lease and lease.heard and lease.heard >= approved)
        if age < (_ANSWER_READ if heard else _TOKEN_OUTLIVES):
            return _SOON if age < _LIKELY else _LATER
        await apply.remove(self._api, kinds.SERVICE_ACCOUNT, names.JOIN_NAMESPACE, site, uid=uid)
        return None


def site_named(common_name: str) -> str:
    """The site a common name speaks of; empty when it has another form."""
    prefix, _, _key = common_name.rpartition(":")
    return prefix.removeprefix(names.SITE_USER_PREFIX) if prefix.startswith(names.SITE_USER_PREFIX) else ""


def read_request(encoded: str) -> dict[str, Any]:
    """Read what a certificate request asks for, as fields of CsrSeen; `problem` says why it cannot be read."""
    empty: dict[str, Any] = {
        "common_name": "",
        "organizations": (),
        "public_key_sha256": "",
        "alternative_names": False,
    }
    try:
        request = x509.load_pem_x509_csr(base64.b64decode(encoded, validate=True))
        if not request.is_signature_valid:
            return {**empty, "problem": "the request is not signed with its own key"}
        subject = request.subject
        key = request.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        commons = subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        groups = subject.get_attributes_for_oid(x509.NameOID.ORGANIZATION_NAME)
        alternatives = any(
            isinstance(extension.value, x509.SubjectAlternativeName) for extension in request.extensions
        )
    except (ValueError, TypeError, binascii.Error, x509.InvalidVersion, x509.DuplicateExtension) as error:
        return {**empty, "problem": f"the request cannot be read: {error}"}
    return {
        "common_name": str(commons[0].value) if len(commons) == 1 else "",
        "organizations": tuple(str(group.value) for group in groups),
        "public_key_sha256": hashlib.sha256(key).hexdigest(),
        "alternative_names": alternatives,
        "problem": "" if len(commons) == 1 else "the request must have exactly one common name",
    }


def _may_be_ours(raw: Object) -> bool:
    user = str(raw["spec"].get("username") or "")
    if user.startswith(names.SITE_USER_PREFIX):
        return not (raw.get("status") or {}).get("conditions")
    return user.startswith(_JOINING_USER) and (
        _approved(raw) or not (raw.get("status") or {}).get("conditions")
    )


def _approved(raw: Object) -> bool:
    conditions = (raw.get("status") or {}).get("conditions") or ()
    return any(c["type"] == "Approved" for c in conditions)


def _approved_at(raw: Object) -> datetime:
    conditions = (raw.get("status") or {}).get("conditions") or ()
    times = [c.get("lastUpdateTime") for c in conditions if c["type"] == "Approved"]
    return units.instant(next((t for t in times if t), raw["metadata"]["creationTimestamp"]))
