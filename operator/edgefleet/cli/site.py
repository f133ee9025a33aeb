"""`edgefleet site …`."""

import base64
import ipaddress
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

import click
import yaml

from edgefleet.cli import joining, tables
from edgefleet.cli.connecting import Where, ask, cluster_options
from edgefleet.cli.joining import Token
from edgefleet.core import names, units
from edgefleet.kube import kinds
from edgefleet.kube.client import Api, Object

_NAME = re.compile(r"[a-z]([-a-z0-9]{0,48}[a-z0-9])?")
_SHORTEST, _LONGEST = 600, 86400


@click.group()
def site() -> None:
    """Let sites join, and show them."""


@site.command()
@click.argument("name")
@click.option("--ttl", default="1h", show_default=True, help="How long the token is good for: 10m to 24h.")
@click.option(
    "--server",
    metavar="URL",
    help="The hub's API server as the site reaches it. [default: that of the kubeconfig]",
)
@click.option(
    "--ca-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Certificate authority (PEM) of --server. [default: that of the cluster]",
)
@click.option(
    "--replace", is_flag=True, help="Also for a site that has joined: the next box takes its place."
)
@click.option(
    "-o",
    "--output",
    type=click.Choice(["command", "values"]),
    default="command",
    show_default=True,
    help="What to print: the helm command, or its values.",
)
@cluster_options
def token(
    name: str,
    ttl: str,
    server: str | None,
    ca_file: Path | None,
    replace: bool,
    output: str,
    kubeconfig: Path | None,
    context: str | None,
) -> None:
    """Make a token with which one box may join as site NAME, once.

    The EdgeSite is made if there is none. An older token for NAME stops working.
    """
    if not _NAME.fullmatch(name):
        raise click.UsageError(
            f"NAME {name!r} must start with a lower-case letter, hold only lower-case letters, digits and '-', "
            "not end in '-', and be at most 50 characters"
        )
    seconds = _seconds(ttl)
    if server is not None and not re.fullmatch(r"https://[^\s/]+(/\S*)?", server):
        raise click.UsageError(f"--server {server!r} must be a URL such as https://hub.example:6443")
    asked = joining.Asked(name, seconds, server, ca_file.read_bytes() if ca_file else b"", replace)

    async def make(api: Api) -> Token:
        if server is None:
            _refuse_loopback(api.server)
        return await joining.make(api, asked)

    made = ask(Where(kubeconfig, context), make)
    click.echo(_as_values(made) if output == "values" else _as_command(made))
    click.echo(f"Good for one joining, until {made.expires}. Keep it secret.", err=True)


@site.command()
@click.argument("name")
@cluster_options
def release(name: str, kubeconfig: Path | None, context: str | None) -> None:
    """Release site NAME from quarantine: what speaks against it so far counts no more."""

    async def mark(api: Api) -> Object:
        found = await api.get(kinds.EDGE_SITE, None, name)
        # by the hub's clock: it is compared with what the hub noted
        now = parsedate_to_datetime(api.server_date) if api.server_date else datetime.now(UTC)
        meta = {"uid": found["metadata"]["uid"], "annotations": {names.RELEASE: units.timestamp(now)}}
        await api.merge_patch(kinds.EDGE_SITE, None, name, {"metadata": meta})
        return found

    found = ask(Where(kubeconfig, context), mark)
    held = tables.path(found, "status.quarantine.reason")
    was = f"it was set aside for {held}" if held else "it was not set aside; evidence against it is forgotten"
    click.echo(f"Site {name} is released: {was}.")


@site.command(name="list")
@cluster_options
def list_(kubeconfig: Path | None, context: str | None) -> None:
    """Show the sites of this hub."""

    async def read(api: Api) -> list[Object]:
        return await api.list(kinds.EDGE_SITE)

    sites = ask(Where(kubeconfig, context), read)
    if not sites:
        click.echo("No sites yet: `edgefleet site token NAME` lets one join.", err=True)
        return
    header = (
        "NAME",
        "CONNECTIVITY",
        "LAST SEEN",
        "JOINED",
        "SERVING",
        "FAILED",
        "BLOCKED",
        "QUARANTINE",
        "AGENT",
        "LABELS",
    )
    click.echo(tables.table(header, [_row(raw) for raw in sites]))


def _row(raw: Object) -> tuple[object, ...]:
    labels = raw["metadata"].get("labels") or {}
    joined = tables.condition(raw, "Joined").get("status")
    return (
        raw["metadata"]["name"],
        tables.path(raw, "status.connectivity"),
        tables.age(tables.path(raw, "status.lastSeen")),
        {"True": "yes", "False": "no"}.get(str(joined), joined),
        *(tables.path(raw, f"status.models.{state}") for state in ("serving", "failed", "blocked")),
        tables.path(raw, "status.quarantine.reason"),
        tables.path(raw, "status.agentVersion"),
        ",".join(f"{key}={value}" for key, value in sorted(labels.items())),
    )


def _seconds(ttl: str) -> int:
    try:
        seconds = int(units.duration(ttl))
    except ValueError as error:
        raise click.UsageError(f"--ttl: {error}") from error
    if not _SHORTEST <= seconds <= _LONGEST:
        raise click.UsageError(f"--ttl {ttl} must be from 10m (the shortest Kubernetes grants) to 24h")
    return seconds


def _refuse_loopback(server: str) -> None:
    host = urlsplit(server).hostname or ""
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if loopback:
        raise click.UsageError(
            f"the kubeconfig speaks of {server}, where no site can reach the hub: give --server https://HUB:6443 "
            "(on the hub's own cluster: --server https://kubernetes.default.svc)"
        )


def _as_values(made: Token) -> str:
    values = {
        "hub": {"server": made.server, "caData": base64.b64encode(made.ca_pem).decode()},
        "site": {"name": made.site},
        "join": {"token": made.token},
    }
    head = f"# Lets one box join {made.server} as site {made.site}, once, until {made.expires}. Keep it secret.\n"
    return head + yaml.safe_dump(values, sort_keys=False).rstrip()


def _as_command(made: Token) -> str:
    settings = {
        "hub.server": made.server,
        "hub.caData": base64.b64encode(made.ca_pem).decode(),
        "site.name": made.site,
        "join.token": made.token,
    }
    return " \\\n  ".join(
        [
            "helm upgrade --install edgefleet-site charts/edgefleet-site",
            "--namespace edgefleet-agent --create-namespace",
            *(f"--set-string {name}={value}" for name, value in settings.items()),
            r"--set-file trust.publicKeys.release\.pem=PUBLIC_KEY_FILE",
        ]
    )
