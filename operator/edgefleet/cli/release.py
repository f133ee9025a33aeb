"""`edgefleet release`: what the hub's chart runs when it is uninstalled."""

from pathlib import Path

import click

from edgefleet.cli.connecting import Where, ask, cluster_options
from edgefleet.core import names
from edgefleet.kube import errors, kinds
from edgefleet.kube.client import Api

_TRIES = 5


@click.command()
@cluster_options
def release(kubeconfig: Path | None, context: str | None) -> None:
    """Take the operator's finalizer off every EdgeModel, so that they can be deleted without an operator.

    `helm uninstall` of the hub does this by itself. While an operator runs it puts the finalizer back on.
    """
    done = ask(Where(kubeconfig, context), release_all)
    click.echo(f"{done} EdgeModels released")


async def release_all(api: Api) -> int:
    """Release every EdgeModel; returns how many had the finalizer. Raises ApiError."""
    try:
        models = await api.list(kinds.EDGE_MODEL)
    except errors.NotFound:  # the kind is gone, and all of its objects with it
        return 0
    held = [
        raw["metadata"]
        for raw in models
        if names.MODEL_FINALIZER in (raw["metadata"].get("finalizers") or ())
    ]
    for meta in held:
        await _release(api, meta["namespace"], meta["name"])
    return len(held)


async def _release(api: Api, namespace: str, name: str) -> None:
    for left in reversed(range(_TRIES)):
        listed = await api.list(kinds.EDGE_MODEL, namespace, fields=f"metadata.name={name}")
        if not listed:
            return
        meta = listed[0]["metadata"]
        others = [one for one in meta.get("finalizers") or () if one != names.MODEL_FINALIZER]
        body = {"metadata": {"resourceVersion": meta["resourceVersion"], "finalizers": others or None}}
        try:
            await api.merge_patch(kinds.EDGE_MODEL, namespace, name, body)
        except errors.NotFound:
            return
        except errors.Conflict:  # written meanwhile; somebody's finalizer must not be lost
            if not left:
                raise
        else:
            return
