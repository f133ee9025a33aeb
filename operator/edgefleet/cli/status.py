"""`edgefleet status`: models, rollouts and sites on one page."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click

from edgefleet.cli import tables
from edgefleet.cli.attempts import Attempt, row
from edgefleet.cli.connecting import Where, ask, cluster_options
from edgefleet.core import names
from edgefleet.kube import kinds
from edgefleet.kube.client import Api, Object

MOST: Final = 20
"""Lines of each list of what is wrong."""
_TROUBLE: Final = frozenset({"Blocked", "Held", "RolledBack", "Rejected"})


@click.command()
@click.option("-n", "--namespace", help="Only EdgeModels and EdgeRollouts of this one. [default: all]")
@cluster_options
def status(namespace: str | None, kubeconfig: Path | None, context: str | None) -> None:
    """Show models, running rollouts, sites, and what is in trouble at them."""

    async def read(api: Api) -> tuple[list[Object], ...]:
        return await asyncio.gather(
            api.list(kinds.EDGE_MODEL, namespace),
            api.list(kinds.EDGE_ROLLOUT, namespace),
            api.list(kinds.EDGE_SITE),
            api.list(kinds.EDGE_DEPLOYMENT),
        )

    models, rollouts, sites, orders = ask(Where(kubeconfig, context), read)
    click.echo("\n\n".join(page(models, rollouts, sites, orders)))


def page(
    models: Sequence[Object], rollouts: Sequence[Object], sites: Sequence[Object], orders: Sequence[Object]
) -> Iterator[str]:
    """The paragraphs of the page."""
    yield _models(models)
    running = [Attempt(raw, None) for raw in rollouts]
    lines = [row(attempt) for attempt in running if not attempt.outcome]
    if lines:
        yield tables.table(
            (
                *("RUNNING", "REVISION", "VERSION", "ATTEMPT", "DESIRED"),
                *("REASON", "SITES", "HEALTHY", "FAILED", "AGE"),
            ),
            lines,
        )
    yield _sites(sites)
    troubled = [raw for raw in orders if tables.path(raw, "status.stage") in _TROUBLE]
    if troubled:
        header = ("SITE", "MODEL", "STAGE", "REASON", "REPORTED", "MESSAGE")
        yield _shortened(header, [_order(raw) for raw in troubled], "orders in trouble")


def _models(models: Sequence[Object]) -> str:
    if not models:
        return "No EdgeModels."
    header = (
        *("NAMESPACE", "MODEL", "READY", "REASON", "CURRENT", "TARGET"),
        *("SITES", "UPDATED", "HEALTHY", "AWAY", "FAILED", "BLOCKED"),
    )
    text = tables.table(header, [_model(raw) for raw in models])
    for raw in models:
        stalled = tables.condition(raw, "Stalled")
        if stalled.get("status") == "True":
            meta = raw["metadata"]
            text += f"\n! {meta['namespace']}/{meta['name']}: {stalled.get('message')}"
    return text


def _model(raw: Object) -> tuple[object, ...]:
    meta, ready = raw["metadata"], tables.condition(raw, "Ready")
    counts: Mapping[str, Any] = tables.path(raw, "status.sites") or {}
    return (
        meta["namespace"],
        meta["name"],
        ready.get("status"),
        ready.get("reason"),
        tables.path(raw, "status.currentRevision"),
        tables.path(raw, "status.targetRevision"),
        *(counts.get(key) for key in ("desired", "updated", "healthy", "unreachable", "failed", "blocked")),
    )


def _sites(sites: Sequence[Object]) -> str:
    if not sites:
        return "No EdgeSites: `edgefleet site token NAME` lets one join."
    tally = Counter(str(tables.path(raw, "status.connectivity") or "Unknown") for raw in sites)
    summary = ", ".join(f"{count} {name.lower()}" for name, count in sorted(tally.items()))
    text = f"{len(sites)} {'site' if len(sites) == 1 else 'sites'}: {summary}"
    missing = [raw for raw in sites if tables.path(raw, "status.connectivity") != "Online"]
    if not missing:
        return text
    header = ("SITE", "CONNECTIVITY", "LAST SEEN", "REASON", "SERVING")
    rows = [
        (
            raw["metadata"]["name"],
            tables.path(raw, "status.connectivity"),
            tables.age(tables.path(raw, "status.lastSeen")),
            tables.condition(raw, "Available").get("reason") or tables.condition(raw, "Ready").get("reason"),
            tables.path(raw, "status.models.serving"),
        )
        for raw in missing
    ]
    return f"{text}\n{_shortened(header, rows, 'sites that are not online')}"


def _order(raw: Object) -> tuple[object, ...]:
    meta = raw["metadata"]
    where = (meta.get("labels") or {}).get(names.SITE) or meta["namespace"]
    report = raw.get("status") or {}
    return (
        where,
        meta["name"].replace(".", "/", 1),
        report.get("stage"),
        report.get("reason"),
        tables.age(report.get("reportedAt")),
        str(report.get("message") or "")[:100],
    )


def _shortened(header: Sequence[str], rows: Sequence[Sequence[object]], what: str) -> str:
    text = tables.table(header, rows[:MOST])
    return text if len(rows) <= MOST else f"{text}\n… and {len(rows) - MOST} more {what}"
