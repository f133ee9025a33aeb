"""`edgefleet rollout …`: the verbs of an EdgeRollout."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from edgefleet.cli import attempts, tables
from edgefleet.cli.attempts import Attempt
from edgefleet.cli.connecting import Where, ask, cluster_options, namespace_option
from edgefleet.kube.client import Api

_F = TypeVar("_F", bound=Callable[..., Any])
_NAME = "NAME of the EdgeModel means its newest rollout; NAME of an EdgeRollout means that one."


@click.group()
def rollout() -> None:
    """Approve, pause, abort, finish or retry a rollout."""


def _verb(command: _F) -> _F:
    return click.argument("name")(namespace_option(cluster_options(command)))


def _change(
    name: str, namespace: str, where: Where, change: Callable[[Api, Attempt], Awaitable[str]]
) -> None:
    async def work(api: Api) -> str:
        return await change(api, await attempts.find(api, namespace, name))

    click.echo(ask(where, work))


def _level(
    said: str, *, or_complete: bool = False, **spec: object
) -> Callable[[Api, Attempt], Awaitable[str]]:
    """Set a verb of a rollout that goes on, or `or_complete`, of one that succeeded."""

    async def change(api: Api, attempt: Attempt) -> str:
        attempt.need_running(or_complete=or_complete)
        if all(attempt.spec.get(key) == value for key, value in spec.items()):
            return f"{attempt}: {said} already"
        await attempts.set_verbs(api, attempt, spec)
        return f"{attempt}: {said}"

    return change


@rollout.command(epilog=_NAME)
@_verb
def status(name: str, namespace: str, kubeconfig: Path | None, context: str | None) -> None:
    """Show how far a rollout is, wave by wave, and what failed."""

    async def read(api: Api) -> str:
        return attempts.described(await attempts.find(api, namespace, name))

    click.echo(ask(Where(kubeconfig, context), read))


@rollout.command(epilog=_NAME)
@_verb
def pause(name: str, namespace: str, kubeconfig: Path | None, context: str | None) -> None:
    """Stop offers and freeze soak. Canaries in flight, going back and removal go on."""
    _change(name, namespace, Where(kubeconfig, context), _level("paused", desired="Paused"))


@rollout.command(epilog=_NAME)
@_verb
def resume(name: str, namespace: str, kubeconfig: Path | None, context: str | None) -> None:
    """Let a paused rollout go on."""
    _change(name, namespace, Where(kubeconfig, context), _level("running", desired="Run"))


@rollout.command(epilog=_NAME)
@_verb
def abort(name: str, namespace: str, kubeconfig: Path | None, context: str | None) -> None:
    """Ban the revision: every site goes back to the last good one. This cannot be taken back."""
    _change(
        name, namespace, Where(kubeconfig, context), _level("aborted", or_complete=True, desired="Aborted")
    )


@rollout.command(epilog=_NAME)
@_verb
def finish(name: str, namespace: str, kubeconfig: Path | None, context: str | None) -> None:
    """Admit all sites that are left, without soak and approval."""
    _change(name, namespace, Where(kubeconfig, context), _level("admits all that is left", finish=True))


@rollout.command(epilog=_NAME)
@_verb
def direct(name: str, namespace: str, kubeconfig: Path | None, context: str | None) -> None:
    """Hot fix: sites take the revision up without canary, after verification and self-test."""
    _change(name, namespace, Where(kubeconfig, context), _level("goes without canary", direct=True))


@rollout.command(epilog=_NAME)
@_verb
@click.argument("wave", required=False)
@click.option("--wave", "named", metavar="WAVE", help="The wave, if it is not the second argument.")
@click.option("--by", metavar="WHO", help="Who approves. [default: your name in the cluster]")
def approve(
    name: str,
    wave: str | None,
    named: str | None,
    by: str | None,
    namespace: str,
    kubeconfig: Path | None,
    context: str | None,
) -> None:
    """Let a wave start that waits for approval, or a removal that `edgefleet status` asks about."""
    if (wave is None) == (named is None):
        raise click.UsageError("name the wave once: `edgefleet rollout approve NAME --wave WAVE`")

    async def change(api: Api, attempt: Attempt) -> str:
        return await attempts.approve(api, attempt, str(wave or named), by)

    _change(name, namespace, Where(kubeconfig, context), change)


@rollout.command()
@_verb
def retry(name: str, namespace: str, kubeconfig: Path | None, context: str | None) -> None:
    """Try a revision again that failed or was aborted: annotates the EdgeModel NAME."""
    _change(name, namespace, Where(kubeconfig, context), attempts.retry)


@rollout.command(epilog=_NAME)
@_verb
@click.pass_context
def watch(
    context_: click.Context, name: str, namespace: str, kubeconfig: Path | None, context: str | None
) -> None:
    """Show a rollout as it goes: a live page in a terminal, else a line for each change.

    Ends with 0 when it completes, 1 when it is rolled back, aborted or superseded, 130 when interrupted.
    """
    from edgefleet.cli import watch as watching  # rich is only needed here

    async def work(api: Api) -> int:
        return await watching.follow(api, namespace, name)

    try:
        code = ask(Where(kubeconfig, context), work)
    except KeyboardInterrupt:
        code = watching.INTERRUPTED
    context_.exit(code)


@rollout.command(name="list")
@namespace_option
@cluster_options
def list_(namespace: str, kubeconfig: Path | None, context: str | None) -> None:
    """Show the rollouts of a namespace, newest first."""

    async def read(api: Api) -> list[Attempt]:
        return await attempts.all_in(api, namespace)

    found = ask(Where(kubeconfig, context), read)
    if not found:
        click.echo(f"No rollouts in namespace {namespace}.", err=True)
        return
    header = (
        "NAME",
        "REVISION",
        "VERSION",
        "ATTEMPT",
        "OUTCOME",
        "REASON",
        "SITES",
        "HEALTHY",
        "FAILED",
        "AGE",
    )
    click.echo(tables.table(header, [attempts.row(attempt) for attempt in found]))
