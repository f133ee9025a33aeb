"""Join tokens: a short-lived token of a ServiceAccount named like the site, in a namespace where that is all it is."""

import asyncio
import contextlib
from dataclasses import dataclass
from pathlib import Path

import click

from edgefleet.cli import tables
from edgefleet.core import names
from edgefleet.kube import errors, kinds
from edgefleet.kube.client import Api, Object


@dataclass(frozen=True, slots=True)
class Asked:
    """What is wanted of a token."""

    site: str
    seconds: int
    server: str | None
    """None: the server of the kubeconfig."""
    ca_pem: bytes
    """Empty: the cluster's own."""
    replace: bool


@dataclass(frozen=True, slots=True)
class Token:
    """All a box needs to join."""

    site: str
    server: str
    ca_pem: bytes
    token: str
    expires: str
    """RFC 3339, by the hub's clock."""


async def make(api: Api, asked: Asked) -> Token:
    """Make the EdgeSite if there is none, and a token for it; an older one dies.

    Raises ClickException when the site has joined and is not to be replaced, or the hub is not installed.
    """
    await _need_join_namespace(api)
    await _need_site(api, asked)
    ca_pem = asked.ca_pem or await _authority(api)
    account = await _new_account(api, asked.site)
    body = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"expirationSeconds": asked.seconds},
    }
    answer = await api.create(kinds.SERVICE_ACCOUNT, names.JOIN_NAMESPACE, body, name=account, sub="token")
    status = answer["status"]
    return Token(
        asked.site, asked.server or api.server, ca_pem, status["token"], status["expirationTimestamp"]
    )


async def _need_join_namespace(api: Api) -> None:
    try:
        await api.get(kinds.NAMESPACE, None, names.JOIN_NAMESPACE)
    except errors.NotFound as error:
        raise click.ClickException(
            f"{api.server} has no namespace {names.JOIN_NAMESPACE}: is this the hub, and is the chart edgefleet "
            "installed there? (--context names another cluster)"
        ) from error


async def _need_site(api: Api, asked: Asked) -> None:
    try:
        await api.create(kinds.EDGE_SITE, None, {"metadata": {"name": asked.site}})
    except errors.AlreadyExists:
        _check_free(await api.get(kinds.EDGE_SITE, None, asked.site), asked)


def _check_free(site: Object, asked: Asked) -> None:
    bound = tables.path(site, "status.publicKeySHA256")
    if not bound and tables.condition(site, "Joined").get("status") != "True":
        return
    seen = tables.age(tables.path(site, "status.lastSeen"))
    if not asked.replace:
        raise click.ClickException(
            f"site {asked.site} has joined (last seen {seen + ' ago' if seen else 'never'}): choose another name, "
            "or use --replace to let another box take its place"
        )
    if bound and tables.path(site, "spec.publicKeySHA256") == bound:
        raise click.ClickException(
            f"EdgeSite {asked.site} allows no other box: its spec.publicKeySHA256 names the key that joined; "
            "take the field out (or put in the new box's key) first"
        )


async def _new_account(api: Api, site: str) -> str:
    """A ServiceAccount nobody holds a token of."""
    with contextlib.suppress(errors.NotFound):
        await api.delete(kinds.SERVICE_ACCOUNT, names.JOIN_NAMESPACE, site, uid=None)
    body = {
        "metadata": {"name": site, "labels": {names.SITE: site, names.MANAGED_BY: names.CLI_MANAGER}},
        "automountServiceAccountToken": False,
    }
    await api.create(kinds.SERVICE_ACCOUNT, names.JOIN_NAMESPACE, body)
    return site


async def _authority(api: Api) -> bytes:
    """The CA of the kubeconfig, which vouches for its server; without one the CA the cluster's pods are given."""
    where = await api.connection()
    if where.ca_path:
        return await asyncio.to_thread(Path(where.ca_path).read_bytes)
    published: Object = {}
    with contextlib.suppress(errors.NotFound, errors.Forbidden):
        published = await api.get(kinds.CONFIG_MAP, names.JOIN_NAMESPACE, "kube-root-ca.crt")
    pem = str((published.get("data") or {}).get("ca.crt") or "")
    if not pem:
        raise click.ClickException(
            f"neither the kubeconfig nor {names.JOIN_NAMESPACE}/kube-root-ca.crt holds the hub's certificate "
            "authority: give --ca-file"
        )
    return pem.encode()
