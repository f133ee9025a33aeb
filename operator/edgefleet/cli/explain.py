"""`edgefleet explain …`: why something is as it is, what comes next, and who must act. Also `edgefleet dump`."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from edgefleet.cli import reading, reasons, tables
from edgefleet.cli.connecting import Where, ask, cluster_options, namespace_option
from edgefleet.cli.reading import Objects
from edgefleet.core import explaining, units
from edgefleet.core.explaining import Explanation, Story
from edgefleet.core.placement import Reason
from edgefleet.kube import kinds
from edgefleet.kube.client import Object

_F = TypeVar("_F", bound=Callable[..., Any])
MOST: Final = 20
_AT_REST: Final = frozenset({"Healthy", Reason.NOT_SELECTED.value})


class _Moment(click.ParamType[datetime]):
    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:  # type: ignore[explicit-override]
        """Read an RFC 3339 time."""
        if isinstance(value, datetime):
            return value
        try:
            return units.instant(str(value))
        except ValueError as error:
            return self.fail(str(error), param, ctx)


def _from_dump(command: _F) -> _F:
    command = click.option(
        "--at", type=_Moment(), help="With -f: judge as of this time (RFC 3339). [default: when it was taken]"
    )(command)
    return click.option(
        "-f",
        "--filename",
        "dump",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="Look at a dump instead of a cluster (`edgefleet dump`, or kubectl get … -A -o yaml).",
    )(command)


@click.group()
def explain() -> None:
    """Say why a model or a site is as it is, and what would move it."""


@explain.command()
@click.argument("name")
@click.option("--site", "only", metavar="SITE", help="Why this one site has the model, or has it not.")
@namespace_option
@_from_dump
@cluster_options
def model(
    name: str,
    only: str | None,
    namespace: str,
    dump: Path | None,
    at: datetime | None,
    kubeconfig: Path | None,
    context: str | None,
) -> None:
    """Say why EdgeModel NAME is as it is, what the operator does next, and which sites are not where it wants them.

    This runs the operator's own decision on the objects as they are, and writes nothing.
    """
    found = _read(Where(kubeconfig, context), dump, at)
    raw = found.model(namespace, name)
    told = explaining.explain(found.seen(raw), found.taken)
    if only is not None:
        click.echo("\n".join([*found.notes, *_one(raw, told, only)]))
        return
    click.echo("\n".join([*found.notes, *_model(raw, told)]))


@explain.command()
@click.argument("name")
@_from_dump
@cluster_options
def site(
    name: str, dump: Path | None, at: datetime | None, kubeconfig: Path | None, context: str | None
) -> None:
    """Say why EdgeSite NAME is as it is, and for every model why it is there, or not."""
    found = _read(Where(kubeconfig, context), dump, at)
    raw = next((item for item in found.of(kinds.EDGE_SITE) if item["metadata"]["name"] == name), None)
    if raw is None:
        raise click.ClickException(f"there is no EdgeSite named {name}")
    rows = []
    for item in found.of(kinds.EDGE_MODEL):
        told = explaining.explain(found.seen(item), found.taken)
        story = _story_of(told, name)
        if story is not None:
            where = f"{item['metadata']['namespace']}/{item['metadata']['name']}"
            rows.append((where, *_row(story)[1:]))
    click.echo("\n".join([*found.notes, *_site(raw, found.taken), *_table("MODEL", rows)]))


@click.command()
@cluster_options
def dump(kubeconfig: Path | None, context: str | None) -> None:
    """Print the hub's objects as YAML, for `edgefleet explain -f`: models, rollouts, sites, orders, reports, beats.

    No Secret and no key is among them.
    """
    click.echo(reading.to_dump(ask(Where(kubeconfig, context), reading.live)), nl=False)


def _read(where: Where, path: Path | None, at: datetime | None) -> Objects:
    if path is not None:
        return reading.dumped(path, at)
    if at is not None:
        raise click.UsageError("--at needs -f: a cluster is looked at as it is now")
    return ask(where, reading.live)


# -- a model --------------------------------------------------------------------------------------------


def _model(raw: Object, told: Explanation) -> Iterator[str]:
    meta = raw["metadata"]
    state = "stalled" if told.stalled else "ready" if told.reason == "Complete" else "on its way"
    yield f"EdgeModel {meta['name']} (namespace {meta['namespace']}) is {state}: {told.reason}"
    yield f"  because     {told.message}"
    yield f"  who acts    {_who(told)}"
    yield f"  next        {(chr(10) + ' ' * 14).join(told.next) or 'nothing to write'}"
    yield f"  looks again {_again(told)}"
    yield from _said(raw)
    if told.waves:
        yield ""
        yield tables.table(
            ("WAVE", "STATE", "HEALTHY", "SITES"), [_wave(told, at) for at in range(len(told.waves))]
        )
    tally: dict[str, int] = {}
    for story in told.stories:
        tally[story.standing] = tally.get(story.standing, 0) + 1
    yield ""
    yield "Sites: " + (", ".join(f"{count} {name}" for name, count in sorted(tally.items())) or "none")
    rows = [_row(story) for story in told.stories if story.standing not in _AT_REST]
    yield from _table("SITE", rows)
    yield "Why a site is not chosen: `edgefleet explain model NAME --site SITE`"


def _who(told: Explanation) -> str:
    known = reasons.KNOWN.get(told.reason)
    return (
        f"{told.acts}: {known.act}"
        if told.acts != explaining.BY_ITSELF and known and known.act
        else told.acts
    )


def _again(told: Explanation) -> str:
    at_once = "at once when a site reports or somebody edits"
    return at_once if told.again is None else f"in {told.again:.0f} s, and {at_once}"


def _said(raw: Object) -> Iterator[str]:
    """What the status says that the operator wrote, where that is not the same."""
    found = tables.path(raw, "status.conditions") or []
    if not found:
        yield "  Nobody has looked at it yet: is the operator running?"
    for one in found:
        text = f": {one['message']}" if one.get("message") else ""
        yield f"  {one['type']}={one['status']} {one['reason']}{text}"
    for one in found:
        known = reasons.KNOWN.get(one["reason"])
        if known and known.act and one["status"] == "True":
            yield f"{one['reason']}: {known.act}"


def _wave(told: Explanation, index: int) -> tuple[object, ...]:
    coming = told.waves[index]
    status = coming.status
    state = "to come"
    if status is not None:
        state = "complete" if status.completed_at else "soaking" if status.soak_started_at else "running"
    most = coming.sites[:5]
    more = f" and {len(coming.sites) - 5} more" if len(coming.sites) > 5 else ""
    healthy = f"{status.healthy if status is not None else 0}/{len(coming.sites)}"
    return (coming.wave.name, state, healthy, ", ".join(most) + more)


def _one(raw: Object, told: Explanation, name: str) -> Iterator[str]:
    """One site of one model, in full."""
    story = _story_of(told, name)
    if story is None:
        raise click.ClickException(f"there is no EdgeSite named {name}, and no order is left of one")
    yield f"EdgeModel {raw['metadata']['name']} at site {name}: {story.standing}"
    yield f"  because     {story.message}"
    known = reasons.KNOWN.get(story.standing)
    if known is not None and known.act:
        yield f"  what to do  {known.act}"
    if story.wave:
        yield f"  wave        {story.wave}"
    yield f"  ordered     {story.ordered or 'nothing'}"
    yield f"  serves      {story.serves or 'nothing'}"
    yield f"  next        {story.next or 'nothing to write for this site'}"
    yield f"  the model   {told.reason}: {told.message}"


def _story_of(told: Explanation, site: str) -> Story | None:
    return next((story for story in told.stories if story.site == site), None)


def _row(story: Story) -> tuple[object, ...]:
    return (story.site, story.standing, story.wave, story.serves, story.ordered, story.message[:140])


def _table(first: str, rows: Sequence[tuple[object, ...]]) -> Iterator[str]:
    if rows:
        yield tables.table((first, "WHY", "WAVE", "SERVES", "ORDERED", "MESSAGE"), rows[:MOST])
    if len(rows) > MOST:
        yield f"… and {len(rows) - MOST} more"


# -- a site ---------------------------------------------------------------------------------------------


def _site(raw: Object, now: datetime) -> Iterator[str]:
    name, status = raw["metadata"]["name"], raw.get("status") or {}
    seen = tables.age(status.get("lastSeen"), now)
    state = str(status.get("connectivity") or "Unknown").lower()
    yield f"{name} is {state}, last seen {seen + ' ago' if seen else 'never'}"
    here = tables.path(raw, "spec.jurisdiction")
    if here:
        yield f"Its jurisdiction is {here}."
    if tables.path(raw, "spec.cordoned"):
        yield "It is cordoned: it gets no offers, what it runs goes on."
    yield from _said(raw)
    yield ""
