"""`edgefleet plan -f model.yaml`: what applying an EdgeModel would do, before anybody applies it."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click
import msgspec
import yaml

from edgefleet.bundle import RegistryOptions
from edgefleet.bundle.errors import BundleError
from edgefleet.bundle.reference import parse as parse_reference
from edgefleet.cli import foreseeing, reading, reasons, registries, tables
from edgefleet.cli.connecting import Where, ask, cluster_options
from edgefleet.cli.foreseeing import Bundles, Foreseen, Pull
from edgefleet.cli.reading import Objects
from edgefleet.cli.registries import registry_options
from edgefleet.core import explaining, parse
from edgefleet.core.attempts import Course
from edgefleet.core.seen import BundleCheck, SpecError
from edgefleet.kube import errors, kinds
from edgefleet.kube.client import Api, Object

MOST: Final = 20
_REJECTED: Final = 1


@dataclass(frozen=True, slots=True)
class Planned:
    """One EdgeModel of the file."""

    namespace: str
    name: str
    rejected: str
    """Why the API server, or the operator, would not take it; empty: they would."""
    notes: tuple[str, ...] = ()
    foreseen: Foreseen | None = None


@click.command()
@click.option(
    "-f",
    "--filename",
    "file",
    required=True,
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
    help="YAML with one or more EdgeModels; - reads standard input.",
)
@click.option("-n", "--namespace", help="For EdgeModels that name none. [default: default]")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@registry_options
@cluster_options
def plan(
    file: Path,
    namespace: str | None,
    output: str,
    plain_http: bool,
    ca_file: Path | None,
    kubeconfig: Path | None,
    context: str | None,
) -> None:
    """Show which sites would get the model in which wave, what each would pull, and what is rejected and why.

    Nothing is written: the API server checks the object by a dry run, and the operator's own decision is made on the
    objects there are. Ends with 1 when the object would be rejected.
    """
    documents = list(_models(file, namespace or "default"))

    async def work(api: Api) -> list[Planned]:
        found = await reading.live(api)
        return [await _plan(api, found, raw, plain_http, ca_file) for raw in documents]

    planned = ask(Where(kubeconfig, context), work)
    if output == "json":
        click.echo(msgspec.json.format(msgspec.json.encode([_as_json(item) for item in planned])).decode())
    else:
        click.echo("\n\n".join("\n".join(_as_text(item)) for item in planned))
    if any(item.rejected for item in planned):
        sys.exit(_REJECTED)


def _models(file: Path, namespace: str) -> Iterator[Object]:
    """The EdgeModels of a file. Raises ClickException when there is none."""
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text()
        documents = [item for item in yaml.safe_load_all(text) if item is not None]
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise click.ClickException(f"{file}: not YAML: {error}") from error
    found = [item for item in documents if isinstance(item, dict) and item.get("kind") == "EdgeModel"]
    if not found:
        raise click.ClickException(f"{file} holds no EdgeModel")
    for raw in found:
        meta = raw.get("metadata")
        if not isinstance(meta, dict) or not isinstance(meta.get("name"), str):
            raise click.ClickException(f"{file}: an EdgeModel has no metadata.name")
        meta.setdefault("namespace", namespace)
        raw.pop("status", None)
        yield raw


async def _plan(api: Api, found: Objects, raw: Object, plain_http: bool, ca_file: Path | None) -> Planned:
    meta = raw["metadata"]
    key = (str(meta["namespace"]), str(meta["name"]))
    live = next((item for item in found.of(kinds.EDGE_MODEL) if _key(item) == key), None)
    notes: list[str] = []
    try:
        checked = await _dry_run(api, raw, live)
    except errors.Forbidden as error:
        notes.append(f"the API server was not asked whether it takes this: {error.message}")
        checked = _as_applied(raw, live)
    except (errors.Invalid, errors.NotFound) as error:
        return Planned(*key, _without_request(error.message))
    parsed = parse.model(checked)
    if isinstance(parsed.spec, SpecError):
        return Planned(*key, parsed.spec.message)
    bundles = await _bundles(parsed.spec.bundle, found, checked, plain_http, ca_file)
    check = bundles.check or explaining.known_bundle(parsed)
    if check is None or check.bundle != parsed.spec.bundle:
        check = BundleCheck(parsed.spec.bundle, ok=True)  # the operator may reach what this machine does not
    if bundles.check is None:
        notes.append(f"the registry was not asked: {bundles.problem}; what sites would pull is not known")
    foreseen = foreseeing.foresee(found.seen(checked, check), found.taken, bundles, _variants(found, key))
    if foreseen is None:
        return Planned(*key, "the EdgeModel of this name is being deleted", tuple(notes))
    bad = foreseen.course is Course.BUNDLE_INVALID
    return Planned(*key, foreseen.says if bad else "", tuple(notes), foreseen)


async def _dry_run(api: Api, raw: Object, live: Object | None) -> Object:
    """Have the API server check and default the object. Raises ApiError."""
    namespace, name = _key(raw)
    if live is None:
        return await api.create(kinds.EDGE_MODEL, namespace, raw, dry_run=True)
    return await api.replace(kinds.EDGE_MODEL, namespace, name, _as_applied(raw, live), dry_run=True)


def _as_applied(raw: Object, live: Object | None) -> Object:
    """The object after `kubectl apply`: metadata merged, the spec of the file."""
    if live is None:
        return raw
    before, meta = live["metadata"], raw["metadata"]
    merged = {
        **before,
        **{k: {**(before.get(k) or {}), **(meta.get(k) or {})} for k in ("labels", "annotations")},
    }
    if live.get("spec") != raw.get("spec"):
        merged["generation"] = before.get("generation", 0) + 1
    merged.pop("managedFields", None)
    return {**live, "metadata": merged, "spec": raw.get("spec")}


async def _bundles(
    reference: str, found: Objects, model: Object, plain_http: bool, ca_file: Path | None
) -> Bundles:
    try:
        options: RegistryOptions = registries.options(parse_reference(reference), plain_http, ca_file)
        return await foreseeing.look_up(reference, foreseeing.served_bundles(found, model), options)
    except (BundleError, ValueError) as error:
        return Bundles({}, None, str(error))


def _variants(found: Objects, key: tuple[str, str]) -> dict[str, str]:
    """What each site says it serves."""
    orders = [raw for raw in found.of(kinds.EDGE_DEPLOYMENT) if raw["metadata"]["name"] == ".".join(key)]
    return {
        str(raw["metadata"]["namespace"]).removeprefix("site-"): str(tables.path(raw, "status.variant") or "")
        for raw in orders
    }


def _key(raw: Object) -> tuple[str, str]:
    return str(raw["metadata"].get("namespace") or ""), str(raw["metadata"]["name"])


def _without_request(message: str) -> str:
    """What the server answered, without how it was asked."""
    _, found, rest = message.partition(": ")
    return rest if found else message


# -- for people -----------------------------------------------------------------------------------------


def _as_text(item: Planned) -> Iterator[str]:
    yield f"EdgeModel {item.name} (namespace {item.namespace})"
    for note in item.notes:
        yield f"  note      {note}"
    if item.rejected:
        yield f"  rejected  {item.rejected}"
    if item.foreseen is None:
        return
    found = item.foreseen
    yield f"  revision  {found.says}"
    if found.rollout:
        yield f"  rollout   {found.rollout}, attempt {found.attempt}{f', revision {found.revision}' if found.revision else ''}"
    if not item.rejected and found.told.stalled:
        yield f"  stalled   {found.told.reason}: {found.told.message}"
    if found.removed:
        held = "; that waits for consent: " + _act("RemovalNeedsApproval") if found.braked else ""
        yield f"  removes   the model from {len(found.removed)} sites ({_some(found.removed)}){held}"
    yield from _waves(found)
    yield from _pulls(found.pulls)
    yield from _left_out(found)


def _waves(found: Foreseen) -> Iterator[str]:
    if not found.waves:
        return
    yield ""
    header = ("WAVE", "SITES", "APPROVAL", "SOAK", "AT A TIME", "WHICH")
    rows = []
    for coming in found.waves:
        wave = coming.wave
        asks = "yes" if wave.approval else "no"
        rows.append(
            (wave.name, len(coming.sites), asks, wave.soak, wave.max_concurrency, _some(coming.sites))
        )
    yield tables.table(header, rows)


def _pulls(pulls: tuple[Pull, ...]) -> Iterator[str]:
    if not pulls:
        return
    known = [item.pulls for item in pulls if item.pulls is not None]
    yield ""
    yield f"{len(pulls)} sites pull {_size(sum(known)) if known else '?'} together"
    rows = [
        (item.site, item.wave, item.connectivity, item.variant, _size(item.pulls), _size(item.total))
        for item in pulls[:MOST]
    ]
    yield tables.table(("SITE", "WAVE", "CONNECTIVITY", "VARIANT", "PULLS", "OF"), rows)
    if len(pulls) > MOST:
        yield f"… and {len(pulls) - MOST} more (-o json lists all)"


def _left_out(found: Foreseen) -> Iterator[str]:
    if not found.left_out:
        return
    yield ""
    yield f"{len(found.left_out)} sites are not chosen"
    told = sorted(found.left_out, key=lambda story: (story.standing == "NotSelected", story.site))
    yield tables.table(
        ("SITE", "WHY", "MESSAGE"),
        [(story.site, story.standing, story.message[:160]) for story in told[:MOST]],
    )
    if len(told) > MOST:
        yield f"… and {len(told) - MOST} more (-o json lists all)"


def _act(reason: str) -> str:
    known = reasons.KNOWN.get(reason)
    return known.act if known is not None else ""


def _some(sites: tuple[str, ...], most: int = 5) -> str:
    more = f" and {len(sites) - most} more" if len(sites) > most else ""
    return ", ".join(sites[:most]) + more


def _size(size: int | None) -> str:
    if size is None:
        return "?"
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} B"


# -- for programs ---------------------------------------------------------------------------------------


def _as_json(item: Planned) -> Mapping[str, Any]:
    head = {
        "namespace": item.namespace,
        "name": item.name,
        "rejected": item.rejected,
        "notes": list(item.notes),
    }
    found = item.foreseen
    if found is None:
        return head
    return {
        **head,
        "course": found.course.value,
        "message": found.says,
        "rollout": found.rollout,
        "attempt": found.attempt,
        "revision": found.revision,
        "ready": {"reason": found.told.reason, "message": found.told.message, "stalled": found.told.stalled},
        "removed": list(found.removed),
        "removalNeedsApproval": found.braked,
        "waves": [
            {
                "name": coming.wave.name,
                "sites": list(coming.sites),
                "approval": coming.wave.approval,
                "soak": coming.wave.soak,
                "maxConcurrency": coming.wave.max_concurrency,
            }
            for coming in found.waves
        ],
        "sites": [
            {
                "site": pull.site,
                "wave": pull.wave,
                "connectivity": pull.connectivity,
                "variant": pull.variant,
                "totalBytes": pull.total,
                "pullBytes": pull.pulls,
            }
            for pull in found.pulls
        ],
        "notChosen": [
            {"site": story.site, "reason": story.standing, "message": story.message}
            for story in found.left_out
        ],
    }
