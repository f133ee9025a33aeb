"""How a command reaches a cluster: the options all of them share, and errors as one line a person can act on."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from edgefleet.core import names
from edgefleet.kube import errors
from edgefleet.kube.client import Api

_T = TypeVar("_T")
_F = TypeVar("_F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Where:
    """Which cluster is meant."""

    kubeconfig: Path | None
    context: str | None


def cluster_options(command: _F) -> _F:
    """Add `--kubeconfig` and `--context`; `where()` makes them one thing."""
    command = click.option(
        "--context", metavar="NAME", help="Context of the kubeconfig. [default: the current one]"
    )(command)
    return click.option(
        "--kubeconfig",
        type=click.Path(dir_okay=False, path_type=Path),
        help="[default: $KUBECONFIG, else ~/.kube/config; in a pod its ServiceAccount]",
    )(command)


def namespace_option(command: _F) -> _F:
    """Add `-n/--namespace`."""
    return click.option(
        "-n", "--namespace", default="default", show_default=True, help="Namespace of the EdgeModel."
    )(command)


def ask(where: Where, work: Callable[[Api], Awaitable[_T]]) -> _T:
    """Do the work against the cluster. Raises ClickException with what went wrong and what to do."""
    try:
        return asyncio.run(_ask(where, work))
    except errors.ApiError as error:
        raise click.ClickException(_explained(error)) from error
    except ValueError as error:  # a kubeconfig that cannot be used
        raise click.ClickException(str(error)) from error


async def _ask(where: Where, work: Callable[[Api], Awaitable[_T]]) -> _T:
    async with await _connect(where) as api:
        return await work(api)


async def _connect(where: Where) -> Api:
    named = where.kubeconfig or where.context or os.environ.get("KUBECONFIG")
    if not named and "KUBERNETES_SERVICE_HOST" in os.environ:
        return Api.in_cluster(manager=names.CLI_MANAGER)
    if where.kubeconfig and not where.kubeconfig.is_file():
        raise ValueError(f"--kubeconfig {where.kubeconfig}: there is no such file")
    return await Api.from_kubeconfig(where.kubeconfig, context=where.context, manager=names.CLI_MANAGER)


def _explained(error: errors.ApiError) -> str:
    match error:
        case errors.NotFound() if "could not find the requested resource" in error.message:
            return (
                "this cluster does not know the kinds of edgefleet: install charts/edgefleet-crds, "
                f"or name another cluster with --context ({error.message})"
            )
        case errors.Unauthorized():
            return f"the cluster does not accept the credential of the kubeconfig ({error.message})"
        case errors.Forbidden():
            return f"you may not do this in the cluster ({error.message})"
        case errors.Unreachable():
            return f"the cluster does not answer ({error.message})"
        case _:
            return error.message
