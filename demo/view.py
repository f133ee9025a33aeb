"""Shows the story: a live table in a terminal, a line per change everywhere else."""

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from demo.traffic import Totals
from demo.watching import Picture, SiteView

COLOURS = {
    "Serving": "green",
    "Canary": "yellow",
    "RolledBack": "red",
    "Rejected": "red",
    "Blocked": "magenta",
}


def serving(site: SiteView, names: dict[str, str]) -> str:
    """What a site serves, by its name in the story."""
    if not site.serving_bundle:
        return "-"
    return names.get(site.serving_bundle, f"version {site.report.get('activeVersion')}")


def progress(site: SiteView) -> str:
    """What a site is busy with, in a few words."""
    report = site.report
    if site.stage == "Downloading" and (download := report.get("download")):
        return f"{download.get('done', 0)} of {download.get('total', 0)} bytes"
    if site.stage == "Canary" and (canary := report.get("canary")):
        share = (
            f"shadow {canary['shadow']} %" if canary.get("shadow") else f"weight {canary.get('weight', 0)} %"
        )
        return f"{share}, {canary.get('requests', 0)} requests, {canary.get('errors', 0)} errors"
    return str(report.get("message", ""))[:90]


class PlainView:
    """One line for each change: for logs and for people who pipe."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._last: dict[str, str] = {}
        self.names: dict[str, str] = {}
        """Names in the story by bundle digest."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """Nothing to put away."""

    def say(self, text: str) -> None:
        """Print a sentence with the time since the start."""
        print(f"{time.monotonic() - self._began:7.1f} s  {text}", flush=True)

    def show(self, picture: Picture) -> None:
        """Print what changed since the last picture."""
        ready = picture.condition("Ready")
        self._changed("hub", f"{ready.get('status', '-')} {ready.get('reason', '')}")
        for name, site in picture.sites.items():
            shown = f"{site.connectivity:8} {site.stage}"
            if site.stage == "Canary":
                shown = f"{shown} {progress(site).split(',')[0]}"
            self._changed(name, f"{shown:32} serves {serving(site, self.names)}")

    def _changed(self, who: str, text: str) -> None:
        if self._last.get(who) != text:
            self._last[who] = text
            self.say(f"    {who:12} {text}")


class LiveView:
    """A table that is drawn anew with every picture, under the sentences told so far."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, refresh_per_second=4, transient=False)
        self._began = time.monotonic()
        self._before: dict[str, tuple[float, Totals]] = {}
        self.names: dict[str, str] = {}
        """Names in the story by bundle digest."""

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._live.stop()

    def say(self, text: str) -> None:
        """Put a sentence above the table."""
        self._live.console.print(f"[dim]{time.monotonic() - self._began:6.1f} s[/]  {text}")

    def show(self, picture: Picture) -> None:
        """Draw the table."""
        table = Table(title="what goes on at each site", title_justify="left", expand=True)
        for column in ("site", "link", "stage", "serves", "busy with", "requests/s", "failed", "lz4 saves"):
            table.add_column(column, no_wrap=column != "busy with")
        for name, site in picture.sites.items():
            saved = 1 - site.totals.after_lz4 / site.totals.before_lz4 if site.totals.before_lz4 else 0.0
            table.add_row(
                name,
                Text(site.connectivity, style="red" if site.connectivity in ("Away", "Offline") else ""),
                Text(site.stage, style=COLOURS.get(site.stage, "")),
                f"{serving(site, self.names)} {site.report.get('variant', '')}"
                if site.serving_bundle
                else "-",
                progress(site),
                f"{self._rate(name, picture.at, site.totals):.0f}",
                Text(str(site.totals.failed), style="bold red" if site.totals.failed else "green"),
                f"{saved:.0%}",
            )
        self._live.update(Group(table, Text(_hub_line(picture), style="dim")))

    def _rate(self, name: str, at: float, totals: Totals) -> float:
        before, then = self._before.get(name, (at, totals))
        if at - before > 2 or name not in self._before:
            self._before[name] = (at, totals)
        return (totals.sent - then.sent) / (at - before) if at > before else 0.0


def _hub_line(picture: Picture) -> str:
    ready, stalled = picture.condition("Ready"), picture.condition("Stalled")
    chosen = stalled if stalled.get("status") == "True" else ready
    rollout = picture.rollouts[-1] if picture.rollouts else {}
    waves = [
        f"{wave['name']} {wave.get('healthy', 0)}/{wave.get('admitted', 0)}"
        for wave in rollout.get("status", {}).get("waves", [])
    ]
    name = rollout.get("metadata", {}).get("name", "no rollout yet")
    return f"hub: {name} [{', '.join(waves)}]  {chosen.get('reason', '')}: {str(chosen.get('message', ''))[:160]}"


def open_view() -> PlainView | LiveView:
    """The table where standard output is a terminal, lines elsewhere."""
    return LiveView(Console()) if sys.stdout.isatty() else PlainView()
