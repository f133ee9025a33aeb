"""Raw Kubernetes objects (dicts) to the core's structs. Nobody behind this door touches a raw dict.

A spec that cannot be read becomes a SpecError inside the object, so that it can be shown in its status.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from edgefleet.core import cohorts, names, pacing, units
from edgefleet.core import order as wire
from edgefleet.core.seen import (
    AgentObject,
    LeaseSeen,
    Meta,
    ModelObject,
    NamespaceSeen,
    OrderObject,
    ReportSeen,
    RolloutObject,
    SiteObject,
    SpecError,
)
from edgefleet.core.specs import (
    DEFAULT_STEPS,
    AgentSpec,
    ModelSpec,
    Operator,
    RolloutSpec,
    Selector,
    SiteSpec,
)
from edgefleet.core.statuses import AgentStatus, ModelStatus, RolloutStatus, SiteStatus

Raw = Mapping[str, Any]
_T = TypeVar("_T", bound=msgspec.Struct)

REST = "rest"
"""Name of the wave that is appended when no wave takes the sites that are left."""
MODEL_NAME_LIMIT = 40
"""Longest `<namespace>-<model>`: the names of workloads on a site add a revision and a suffix to it."""


def model(raw: Raw) -> ModelObject:
    """An EdgeModel."""
    parsed = _spec(raw, ModelSpec, _with_default_steps)
    if isinstance(parsed, ModelSpec):
        parsed = _checked(parsed, _model_problems(meta(raw), parsed))
    return ModelObject(meta(raw), parsed, _status(raw, ModelStatus))


def rollout(raw: Raw) -> RolloutObject | None:
    """An EdgeRollout; None when its spec cannot be read."""
    parsed = _spec(raw, RolloutSpec)
    if isinstance(parsed, SpecError):
        return None
    return RolloutObject(meta(raw), parsed, _status(raw, RolloutStatus))


def deployment(raw: Raw) -> OrderObject:
    """An EdgeDeployment on the hub. The site is taken from its namespace."""
    head = meta(raw)
    return OrderObject(
        meta=head,
        site=head.namespace.removeprefix(names.SITE_NAMESPACE_PREFIX),
        order=_spec(raw, wire.Order),
        report=_status(raw, ReportSeen),
        reported=_written_by_agent(raw),
    )


def site(raw: Raw, lease: Raw | None = None, edge_agent: Raw | None = None) -> SiteObject:
    """An EdgeSite with the heartbeat Lease and the EdgeAgent of its namespace."""
    parsed = _spec(raw, SiteSpec)
    if isinstance(parsed, SiteSpec):
        parsed = _checked(parsed, _site_problems(parsed))
    return SiteObject(
        meta=meta(raw),
        spec=parsed,
        status=_status(raw, SiteStatus),
        lease=None if lease is None else heartbeat(lease),
        agent=None if edge_agent is None else agent(edge_agent),
    )


def heartbeat(raw: Raw) -> LeaseSeen:
    """A site's Lease."""
    renewed = raw.get("spec", {}).get("renewTime")
    return LeaseSeen(
        heard=_written_by_agent(raw),
        renewed=None if not renewed else _instant(renewed),
        fingerprint=meta(raw).annotations.get(names.FINGERPRINT, ""),
    )


def agent(raw: Raw) -> AgentObject:
    """A site's EdgeAgent on the hub."""
    parsed = _spec(raw, AgentSpec)
    return AgentObject(
        meta=meta(raw),
        spec=None if isinstance(parsed, SpecError) else parsed,
        status=_status(raw, AgentStatus),
    )


def namespace(raw: Raw, site_name: str) -> NamespaceSeen:
    """The namespace `site-<name>`."""
    head = meta(raw)
    return NamespaceSeen(
        ours=head.labels.get(names.SITE) == site_name,
        public_key_sha256=head.annotations.get(names.PUBLIC_KEY, ""),
        deleting=head.deleting,
    )


def meta(raw: Raw) -> Meta:
    """What the core needs of an object's metadata."""
    head = raw["metadata"]
    return Meta(
        name=head["name"],
        namespace=head.get("namespace", ""),
        uid=head.get("uid", ""),
        generation=head.get("generation", 0),
        resource_version=head.get("resourceVersion", ""),
        labels=head.get("labels") or {},
        annotations=head.get("annotations") or {},
        finalizers=tuple(head.get("finalizers") or ()),
        deleting=bool(head.get("deletionTimestamp")),
    )


def _spec(raw: Raw, into: type[_T], prepare: Callable[[Any], Any] = lambda spec: spec) -> _T | SpecError:
    try:
        return msgspec.convert(prepare(raw.get("spec", {})), into)
    except msgspec.ValidationError as error:
        return SpecError(_with_path(str(error)))


def _with_path(text: str) -> str:
    """Turn msgspec's "Expected `str`, got `int` - at `$.a.b`" into "spec.a.b: expected `str`, got `int`"."""
    what, _, path = text.partition(" - at `")
    where = "spec" + path.removesuffix("`").removeprefix("$")
    return f"{where}: {what[:1].lower()}{what[1:]}"


def _status(raw: Raw, into: type[_T]) -> _T:
    """What was written back before; what cannot be read any more counts as never written."""
    try:
        return msgspec.convert(raw.get("status") or {}, into)
    except msgspec.ValidationError:
        return into()


def _written_by_agent(raw: Raw) -> datetime | None:
    """When the agent's last change was received, by the API server's clock."""
    times = [
        units.instant(entry["time"])
        for entry in raw["metadata"].get("managedFields") or ()
        if entry.get("manager") == names.AGENT_MANAGER and entry.get("time")
    ]
    return max(times, default=None)


def _instant(text: str) -> datetime | None:
    """A time written by a site, which may be nonsense."""
    try:
        return units.instant(text)
    except ValueError:
        return None


def _with_default_steps(spec: Any) -> Any:
    """Put in the default steps where the API server did not (`edgefleet plan` reads files)."""
    canary = spec.get("canary")
    if isinstance(canary, Mapping) and "steps" not in canary:
        return {**spec, "canary": {**canary, "steps": [msgspec.to_builtins(step) for step in DEFAULT_STEPS]}}
    return spec


def _checked(parsed: _T, problems: Iterator[str]) -> _T | SpecError:
    first = next(problems, None)
    return parsed if first is None else SpecError(first)


def _model_problems(head: Meta, spec: ModelSpec) -> Iterator[str]:
    both = names.workload_name(head.namespace, head.name)
    if len(both) > MODEL_NAME_LIMIT:
        yield (
            f"metadata.name: {both!r} (namespace and name) has {len(both)} characters, "
            f"at most {MODEL_NAME_LIMIT} are left for names on a site: use a shorter name"
        )
    _, at, digest = spec.bundle.partition("@sha256:")
    if not at or len(digest) != 64 or not spec.bundle.startswith("oci://"):
        yield f"spec.bundle: {spec.bundle!r} must name a digest, like oci://host/repository@sha256:<64 hex digits>"
    yield from _selector_problems("spec.placement.siteSelector", spec.placement.site_selector)
    yield from _wave_problems(spec)
    if spec.rollout.cohorts is not None:
        yield from cohorts.problems("spec.rollout.cohorts", spec.rollout.cohorts)
    if spec.rollout.rate is not None:
        yield from pacing.problems("spec.rollout.rate", spec.rollout.rate)
    yield from _canary_problems(spec.canary)


def _wave_problems(spec: ModelSpec) -> Iterator[str]:
    waves = spec.rollout.waves
    for index, wave in enumerate(waves):
        path = f"spec.rollout.waves[{index}]"
        takes_rest = wave.site_selector is None and wave.limit is None
        if wave.name in {other.name for other in waves[:index]}:
            yield f"{path}.name: {wave.name!r} is used twice"
        if takes_rest and index < len(waves) - 1:
            yield f"{path}: only the last wave may have neither siteSelector nor limit"
        if wave.name == REST and not takes_rest:
            yield f"{path}.name: {REST!r} is kept for the wave without siteSelector and limit"
        if wave.site_selector is not None:
            yield from _selector_problems(f"{path}.siteSelector", wave.site_selector)
        yield from _unit_problem(f"{path}.soak", units.duration, wave.soak)
        for field, value in (("limit", wave.limit), ("maxFailures", wave.max_failures)):
            if value is not None:
                yield from _unit_problem(f"{path}.{field}", units.check_count_or_share, value)
        yield from _unit_problem(f"{path}.minSuccess", units.check_count_or_share, wave.min_success)


def _canary_problems(canary: wire.Canary) -> Iterator[str]:
    for index, step in enumerate(canary.steps):
        path = f"spec.canary.steps[{index}]"
        if bool(step.shadow) == bool(step.weight):
            yield f"{path}: must have exactly one of shadow and weight"
        yield from _unit_problem(f"{path}.duration", units.duration, step.duration)
    gates = canary.gates
    for field, text in (
        ("maxErrorRate", gates.max_error_rate),
        ("minAgreement", gates.min_agreement),
        ("minGolden", gates.min_golden),
    ):
        if text:
            yield from _unit_problem(f"spec.canary.gates.{field}", units.share, text)
    if gates.max_p99:
        yield from _unit_problem("spec.canary.gates.maxP99", units.duration, gates.max_p99)
    yield from _unit_problem("spec.canary.progressDeadline", units.duration, canary.progress_deadline)


def _site_problems(spec: SiteSpec) -> Iterator[str]:
    yield from _unit_problem("spec.heartbeat.interval", units.duration, spec.heartbeat.interval)
    yield from _unit_problem("spec.heartbeat.offlineAfter", units.duration, spec.heartbeat.offline_after)
    yield from _unit_problem("spec.autonomy", units.duration, spec.autonomy)
    if spec.bandwidth.limit:
        yield from _unit_problem("spec.bandwidth.limit", units.quantity, spec.bandwidth.limit)


def _selector_problems(path: str, selector: Selector) -> Iterator[str]:
    for index, expression in enumerate(selector.match_expressions):
        where = f"{path}.matchExpressions[{index}].values"
        if (expression.operator in (Operator.IN, Operator.NOT_IN)) != bool(expression.values):
            yield f"{where}: In and NotIn need values, Exists and DoesNotExist take none"


def _unit_problem(path: str, check: Callable[[Any], object], value: object) -> Iterator[str]:
    try:
        check(value)
    except ValueError as error:
        yield f"{path}: {error}"
