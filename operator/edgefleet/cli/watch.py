"""`edgefleet rollout watch NAME`: a rollout as it goes, until it ends. By watching objects: nothing is asked twice."""

import asyncio
import contextlib
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import click
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text
from typing_extensions import override

from edgefleet.cli import attempts, tables
from edgefleet.cli.attempts import Attempt
from edgefleet.core import names
from edgefleet.kube import kinds, watching
from edgefleet.kube.client import Api, Object
from edgefleet.kube.kinds import Kind
from edgefleet.kube.watching import Watcher

INTERRUPTED: Final = 130
_FAILED: Final = 1
_TOGETHER: Final = 0.2
"""Seconds in which changes are shown together."""
_FEW: Final = 50
"""Up to so many sites every step of each is a line; of more, only what is in trouble."""
_SHOWN: Final = 20
_TROUBLE: Final = frozenset({"Blocked", "Held", "RolledBack", "Rejected"})


@dataclass
class Picture:
    """What was last seen of one rollout."""

    name: str
    model: Object | None = None
    rollout: Object | None = None
    orders: dict[str, Object] = field(default_factory=dict)
    """By namespace of the site."""
    gone: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, kind: Kind) -> watching.Sink:
        """What takes the news of one kind."""

        def sink(event: str, item: Object) -> None:
            if item:
                self._take(kind, event, item)
            self.changed.set()

        return sink

    def _take(self, kind: Kind, event: str, item: Object) -> None:
        deleted = event == watching.DELETED
        if kind is kinds.EDGE_ROLLOUT:
            self.gone = deleted
            self.rollout = self.rollout if deleted else item
        elif kind is kinds.EDGE_MODEL:
            self.model = None if deleted else item
        elif deleted:
            self.orders.pop(item["metadata"]["namespace"], None)
        else:
            self.orders[item["metadata"]["namespace"]] = item

    @property
    def attempt(self) -> Attempt | None:
        """The rollout and its model."""
        return Attempt(self.rollout, self.model) if self.rollout is not None else None

    @property
    def members(self) -> list[Object]:
        """Orders of this rollout, by site."""
        found = [raw for raw in self.orders.values() if tables.path(raw, "spec.rollout") == self.name]
        return sorted(found, key=_site)


async def follow(api: Api, namespace: str, name: str) -> int:
    """Show a rollout until it ends; returns the exit code. Raises ApiError, ClickException."""
    first = await attempts.find(api, namespace, name)
    picture = Picture(str(first), model=first.model, rollout=first.raw)
    model = str(first.spec.get("model"))
    label = f"{names.MODEL}={names.order_name(namespace, model)}"
    watchers = (
        Watcher(
            api,
            kinds.EDGE_ROLLOUT,
            picture.take(kinds.EDGE_ROLLOUT),
            namespace=namespace,
            fields=f"metadata.name={first}",
        ),
        Watcher(
            api,
            kinds.EDGE_MODEL,
            picture.take(kinds.EDGE_MODEL),
            namespace=namespace,
            fields=f"metadata.name={model}",
        ),
        Watcher(api, kinds.EDGE_DEPLOYMENT, picture.take(kinds.EDGE_DEPLOYMENT), labels=label),
    )
    tasks = [asyncio.create_task(item.run()) for item in watchers]
    try:
        await asyncio.gather(*(item.synced.wait() for item in watchers))
        show = _Page() if sys.stdout.isatty() else _Lines()
        with show:
            return await _until_ended(picture, show)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _until_ended(picture: Picture, show: "_Page | _Lines") -> int:
    while True:
        picture.changed.clear()
        show.update(picture)
        attempt = picture.attempt
        if picture.gone or attempt is None:
            click.echo(f"{picture.name} is gone", err=True)
            return _FAILED
        if attempt.outcome:
            return 0 if attempt.outcome == "Complete" else _FAILED
        await picture.changed.wait()
        await asyncio.sleep(_TOGETHER)


class _Lines(contextlib.AbstractContextManager["_Lines"]):
    """A line for everything that changes, for logs and pipes."""

    def __init__(self) -> None:
        self._said: dict[str, str] = {}

    @override
    def __exit__(self, *_: object) -> None:
        """Nothing is open."""

    def update(self, picture: Picture) -> None:
        """Say what is new."""
        for about, text in _news(picture):
            if self._said.get(about) != text:
                self._said[about] = text
                click.echo(f"{datetime.now(UTC):%H:%M:%S} {text}")


def _news(picture: Picture) -> Iterator[tuple[str, str]]:
    """Everything there is to say, by what it is about; said once each time it is other than before."""
    attempt = picture.attempt
    if attempt is None:
        return
    for row in attempts.waves(attempt):
        name, state, *counts = row
        if counts[0] != "":
            limit, admitted, healthy, failed, blocked, away = (value or 0 for value in counts)
            state = str(state).split(" ", 1)[0]
            text = f"wave {name} {state}: {healthy} healthy, {admitted} admitted of {limit}, {failed} failed, {blocked} blocked, {away} away"
            yield f"wave {name}", text
    members = picture.members
    for raw in members:
        stage, reason = tables.path(raw, "status.stage"), tables.path(raw, "status.reason")
        if stage and (len(members) <= _FEW or stage in _TROUBLE):
            message = tables.path(raw, "status.message")
            said = " ".join(str(item) for item in (stage, reason) if item)
            yield f"site {_site(raw)}", f"site {_site(raw)} {said}{f': {message}' if message else ''}"
    ready = tables.condition(attempt.raw, "Ready")
    state = attempt.outcome or str(ready.get("reason") or "Starting")
    message = f": {ready['message']}" if ready.get("message") else ""
    yield "rollout", f"{attempt} {state}{message}"


class _Page(contextlib.AbstractContextManager["_Page"]):
    """The rollout on one screen, redrawn when it changes."""

    def __init__(self) -> None:
        self._live = Live(console=Console(), auto_refresh=False)

    @override
    def __enter__(self) -> "_Page":
        self._live.start()
        return self

    @override
    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def update(self, picture: Picture) -> None:
        """Draw."""
        self._live.update(page(picture), refresh=True)


def page(picture: Picture) -> Group:
    """The rollout as something rich can draw."""
    attempt = picture.attempt
    if attempt is None:
        return Group(Text(f"{picture.name} is gone"))
    ready = tables.condition(attempt.raw, "Ready")
    state = attempt.outcome or str(attempt.spec.get("desired", "Run"))
    head = Text(f"{attempt}  revision {attempt.spec.get('revision')}  {state}", style="bold")
    why = Text(
        f"{ready.get('reason', 'nobody has looked at it yet')}: {ready.get('message', '')}".rstrip(": ")
    )
    return Group(head, why, _waves(attempt), *_sites(picture))


def _waves(attempt: Attempt) -> Table:
    found = Table(box=None, pad_edge=False)
    for name in ("wave", "state", "limit", "admitted", "healthy", "failed", "blocked", "away"):
        found.add_column(name)
    for row in attempts.waves(attempt):
        found.add_row(*(str(cell) if cell is not None else "" for cell in row))
    return found


def _sites(picture: Picture) -> Iterator[Text | Table]:
    members = picture.members
    tally = Counter(str(tables.path(raw, "status.stage") or "Pending") for raw in members)
    yield Text(
        ", ".join(f"{count} {stage}" for stage, count in sorted(tally.items())) or "no site was asked yet"
    )
    shown = [raw for raw in members if tables.path(raw, "status.stage") != "Serving"][:_SHOWN]
    if shown:
        found = Table(box=None, pad_edge=False)
        for name in ("site", "wave", "stage", "reason", "message"):
            found.add_column(name)
        for raw in shown:
            paths = ("spec.wave", "status.stage", "status.reason", "status.message")
            found.add_row(_site(raw), *(str(tables.path(raw, path) or "")[:100] for path in paths))
        yield found


def _site(raw: Object) -> str:
    return str(raw["metadata"]["namespace"]).removeprefix(names.SITE_NAMESPACE_PREFIX)
