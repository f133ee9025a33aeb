"""What `explain` and `plan` look at: the hub's objects, asked of a cluster or read from a dump.

From there on it is the operator's own way: the same records, the same door of parsing, the same decision.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final

import click
import yaml

from edgefleet import schedule
from edgefleet.core import explaining, names, parse, units
from edgefleet.core.seen import BundleCheck, ModelSeen
from edgefleet.kube import kinds, watching
from edgefleet.kube.cache import Key
from edgefleet.kube.client import Api, Object
from edgefleet.kube.kinds import Kind
from edgefleet.kube.records import Records, rollouts_of

TAKEN: Final = "edgefleet.dev/taken-at"
"""Annotation of the List that `edgefleet dump` writes: the API server's time, RFC 3339."""
NO_BEATS: Final = (
    "this dump has no managedFields, so beats have no time of the hub's: who is heard is taken from the EdgeSites' status "
    "(`edgefleet dump`, or kubectl get --show-managed-fields, keep them)"
)
_LONG_AGO: Final = datetime(2000, 1, 1, tzinfo=UTC)
_LISTED: Final[tuple[tuple[Kind, str], ...]] = (
    (kinds.EDGE_MODEL, ""),
    (kinds.EDGE_ROLLOUT, ""),
    (kinds.EDGE_SITE, ""),
    (kinds.EDGE_AGENT, names.SITE),
    (kinds.EDGE_DEPLOYMENT, names.SITE),
    (kinds.LEASE, names.SITE),
)


@dataclass(frozen=True, slots=True)
class Objects:
    """The hub's objects at one moment."""

    taken: datetime
    """By the hub's clock."""
    by_kind: Mapping[str, tuple[Object, ...]]
    notes: tuple[str, ...] = ()
    """What is not known from where they come from."""
    records: Records = field(init=False)

    def __post_init__(self) -> None:
        """Put the objects of sites into records, as the hub's watches do."""
        made = Records(
            read_site=lambda raw: schedule.checked(parse.site(raw)),
            windows=schedule.of_agent,
            now=lambda: self.taken,
        )
        object.__setattr__(self, "records", made)
        for kind, sink in self.records.sinks.items():
            for raw in self.of(kind):
                sink(watching.ADDED, raw)

    def of(self, kind: Kind) -> tuple[Object, ...]:
        """All objects of a kind."""
        return self.by_kind.get(kind.name, ())

    def model(self, namespace: str, name: str) -> Object:
        """One EdgeModel. Raises ClickException when it is not there."""
        found = [raw for raw in self.of(kinds.EDGE_MODEL) if _key(raw) == (namespace, name)]
        if found:
            return found[0]
        others = ", ".join(
            f"{raw['metadata']['name']} -n {_key(raw)[0]}" for raw in self.of(kinds.EDGE_MODEL)
        )
        hint = f"; there is {others}" if others and len(others) < 200 else ""
        raise click.ClickException(f"namespace {namespace} has no EdgeModel named {name}{hint}")

    def rollouts(self, namespace: str, model: str) -> dict[str, Object]:
        """The attempts at a model, by name."""
        here = [raw for raw in self.of(kinds.EDGE_ROLLOUT) if _key(raw)[0] == namespace]
        return rollouts_of(model, here)

    def seen(
        self, model: Object, bundle: BundleCheck | None = None, started: datetime = _LONG_AGO
    ) -> ModelSeen:
        """All that the operator's decision about a model rests on; `bundle`: a look-up of one's own.

        Two things only the operator knows: its pod image, taken to be that of the newest rollout, and when it was
        `started`, taken to be long ago: for one `offlineAfter` after its start it calls nobody Away.
        """
        parsed = parse.model(model)
        key = Key(*_key(model))
        rollouts = self.rollouts(*key)
        newest = max(rollouts.values(), key=lambda raw: int(raw["spec"]["number"]), default=None)
        return self.records.model_seen(
            key,
            parsed,
            rollouts.values(),
            bundle or explaining.known_bundle(parsed),
            pod_image=str(newest["spec"]["image"]) if newest is not None else "",
            started=started,
        )


async def live(api: Api) -> Objects:
    """Ask a cluster. Raises ApiError."""
    found = await asyncio.gather(*(api.list(kind, labels=labels) for kind, labels in _LISTED))
    by_kind = {kind.name: tuple(items) for (kind, _), items in zip(_LISTED, found, strict=True)}
    return Objects(_server_time(api), by_kind)


def dumped(path: Path, at: datetime | None) -> Objects:
    """Read a dump: YAML or JSON, Lists or single objects. Raises ClickException naming what is wrong."""
    try:
        documents = list(yaml.load_all(path.read_text(), Loader=_Plain))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise click.ClickException(f"{path}: not YAML: {error}") from error
    by_kind: dict[str, list[Object]] = {kind.name: [] for kind, _ in _LISTED}
    taken: list[datetime] = []
    for raw in _objects(path, documents, taken):
        if raw.get("kind") in by_kind:
            by_kind[raw["kind"]].append(raw)
    if not by_kind[kinds.EDGE_MODEL.name] and not by_kind[kinds.EDGE_SITE.name]:
        raise click.ClickException(f"{path} holds neither EdgeModels nor EdgeSites: is it a dump of a hub?")
    moment = at or max(taken, default=None) or _newest(by_kind)
    notes = (
        ()
        if at or taken
        else (f"the dump does not say when it was taken; judged as of {units.timestamp(moment)} (--at)",)
    )
    if _without_beats(by_kind["Lease"]):
        by_kind["Lease"] = _believed(by_kind, moment)
        notes = (*notes, NO_BEATS)
    return Objects(moment, {kind: tuple(items) for kind, items in by_kind.items()}, notes)


def to_dump(found: Objects) -> str:
    """Write objects down so that `dumped` reads the same."""
    items = [raw for kind, _ in _LISTED for raw in found.of(kind) if _belongs(kind, raw)]
    return yaml.dump(
        {
            "apiVersion": "v1",
            "kind": "List",
            "metadata": {"annotations": {TAKEN: found.taken.isoformat()}},
            "items": [_slim(raw) for raw in items],
        },
        Dumper=_PlainDumper,
        sort_keys=False,
    )


class _Plain(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Times stay texts, as the API server gives them."""


class _PlainDumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """No anchors: people read it."""

    def ignore_aliases(self, data: object) -> bool:
        """Write everything out."""
        return data is not None


_Plain.yaml_implicit_resolvers = {
    key: [pair for pair in pairs if pair[0] != "tag:yaml.org,2002:timestamp"]
    for key, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _objects(path: Path, documents: Iterable[Any], taken: list[datetime]) -> Iterator[Object]:
    for document in documents:
        if document is None:
            continue
        if not isinstance(document, dict):
            raise click.ClickException(f"{path}: every document must be an object with a kind")
        meta = document.get("metadata") or {}
        if TAKEN in (meta.get("annotations") or {}):
            taken.append(units.instant(meta["annotations"][TAKEN]))
        if "items" in document:
            yield from _objects(path, document["items"] or (), taken)
        elif "kind" not in document or "name" not in meta:
            raise click.ClickException(
                f"{path}: every document must be an object with kind and metadata.name"
            )
        else:
            yield document


def _key(raw: Object) -> tuple[str, str]:
    meta = raw["metadata"]
    return str(meta.get("namespace") or ""), str(meta["name"])


def _belongs(kind: Kind, raw: Object) -> bool:
    return kind is not kinds.LEASE or raw["metadata"]["name"] == names.LEASE


def _slim(raw: Object) -> Object:
    """Without who wrote which field; who wrote when is kept, for the times of beats and reports."""
    meta = dict(raw["metadata"])
    fields = [{k: v for k, v in item.items() if k != "fieldsV1"} for item in meta.get("managedFields") or ()]
    if fields:
        meta["managedFields"] = fields
    meta.get("annotations", {}).pop("kubectl.kubernetes.io/last-applied-configuration", None)
    return {**raw, "metadata": meta}


def _server_time(api: Api) -> datetime:
    return parsedate_to_datetime(api.server_date) if api.server_date else datetime.now(UTC)


def _newest(by_kind: Mapping[str, Iterable[Object]]) -> datetime:
    """The latest moment the objects speak of, when the dump does not say when it was taken."""
    moments = [
        units.instant(entry["time"])
        for items in by_kind.values()
        for raw in items
        for entry in raw["metadata"].get("managedFields") or ()
        if entry.get("time")
    ]
    moments += [
        units.instant(item["lastTransitionTime"])
        for items in by_kind.values()
        for raw in items
        for item in (raw.get("status") or {}).get("conditions") or ()
    ]
    moments += [
        units.instant(raw["status"]["lastSeen"])
        for raw in by_kind[kinds.EDGE_SITE.name]
        if (raw.get("status") or {}).get("lastSeen")
    ]
    return max(moments, default=datetime.now(UTC))


def _without_beats(leases: Iterable[Object]) -> bool:
    found = list(leases)
    return bool(found) and not any(raw["metadata"].get("managedFields") for raw in found)


def _believed(by_kind: Mapping[str, Iterable[Object]], moment: datetime) -> list[Object]:
    """Leases with the times of beats that the operator's own word about the sites allows."""
    sites = {raw["metadata"]["name"]: raw for raw in by_kind[kinds.EDGE_SITE.name]}
    found = []
    for lease in by_kind["Lease"]:
        site = sites.get(
            str(lease["metadata"].get("namespace", "")).removeprefix(names.SITE_NAMESPACE_PREFIX)
        )
        status = (site or {}).get("status") or {}
        heard = moment if status.get("connectivity") == "Online" else status.get("lastSeen")
        time = units.timestamp(heard) if isinstance(heard, datetime) else heard
        fields = [{"manager": names.AGENT_MANAGER, "time": time}] if time else []
        found.append({**lease, "metadata": {**lease["metadata"], "managedFields": fields}})
    return found
