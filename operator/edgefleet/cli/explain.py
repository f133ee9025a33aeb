"""`edgefleet explain …`: why something is as it is, and what would move it."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import click

from edgefleet.cli import reasons, tables
from edgefleet.cli.connecting import Where, ask, cluster_options, namespace_option
from edgefleet.core import names
from edgefleet.kube import kinds
from edgefleet.kube.client import Api, Object

MOST: Final = 20


@click.group()
def explain() -> None:
    """Say why a model or a site is as it is."""


@explain.command()
@click.argument("name")
@namespace_option
@cluster_options
def model(name: str, namespace: str, kubeconfig: Path | None, context: str | None) -> None:
    """Say why EdgeModel NAME is as it is, and which sites are not where it wants them."""

    async def read(api: Api) -> tuple[Object, list[Object]]:
        label = f"{names.MODEL}={names.order_name(namespace, name)}"
        return (
            await api.get(kinds.EDGE_MODEL, namespace, name),
            await api.list(kinds.EDGE_DEPLOYMENT, labels=label),
        )

    raw, orders = ask(Where(kubeconfig, context), read)
    click.echo("\n".join([*_said(raw), *_behind(raw, orders)]))


@explain.command()
@click.argument("name")
@cluster_options
def site(name: str, kubeconfig: Path | None, context: str | None) -> None:
    """Say why EdgeSite NAME is as it is, and what its models do."""

    async def read(api: Api) -> tuple[Object, list[Object]]:
        return (
            await api.get(kinds.EDGE_SITE, None, name),
            await api.list(kinds.EDGE_DEPLOYMENT, names.site_namespace(name)),
        )

    raw, orders = ask(Where(kubeconfig, context), read)
    seen = tables.age(tables.path(raw, "status.lastSeen"))
    state = str(tables.path(raw, "status.connectivity") or "Unknown").lower()
    lines = [f"{name} is {state}, last seen {seen + ' ago' if seen else 'never'}"]
    if tables.path(raw, "spec.cordoned"):
        lines.append("It is cordoned: it gets no offers, what it runs goes on.")
    click.echo("\n".join([*lines, *_said(raw), *_table("MODEL", [_order(order, "") for order in orders])]))


def _said(raw: Object) -> Iterator[str]:
    """What the conditions say, and what to do about it."""
    found = tables.path(raw, "status.conditions") or []
    if not found:
        yield "Nobody has looked at it yet: is the operator running?"
    acts: dict[str, str] = {}
    for one in found:
        told = f": {one['message']}" if one.get("message") else ""
        yield f"  {one['type']}={one['status']} {one['reason']}{told}"
        known = reasons.KNOWN.get(one["reason"])
        if known and known.act:
            acts.setdefault(one["reason"], known.act)
    for reason, act in acts.items():
        yield f"{reason}: {act}"


def _behind(raw: Object, orders: Sequence[Object]) -> Iterator[str]:
    target = str(tables.path(raw, "status.targetRevision") or "")
    behind = [
        order
        for order in orders
        if tables.path(order, "status.activeRevision") != target
        or tables.path(order, "status.stage") != "Serving"
    ]
    yield f"{len(orders) - len(behind)} of {len(orders)} sites with an order serve revision {target or '-'}."
    yield from _table("SITE", [_order(order, target) for order in behind])


def _table(first: str, rows: Sequence[tuple[object, ...]]) -> Iterator[str]:
    if rows:
        yield ""
        yield tables.table(
            (first, "STAGE", "REASON", "SERVES", "ORDERED", "REPORTED", "MESSAGE"), rows[:MOST]
        )
    if len(rows) > MOST:
        yield f"… and {len(rows) - MOST} more"


def _order(raw: Object, target: str) -> tuple[object, ...]:
    meta, report = raw["metadata"], raw.get("status") or {}
    where = (meta.get("labels") or {}).get(names.SITE) or meta["namespace"]
    reason = str(report.get("reason") or "")
    known = reasons.KNOWN.get(reason)
    message = str(report.get("message") or (known.meaning if known else ""))
    return (
        where if target else meta["name"].replace(".", "/", 1),
        report.get("stage"),
        reason,
        report.get("activeRevision"),
        tables.path(raw, "spec.revision"),
        tables.age(report.get("reportedAt")),
        message[:120],
    )
