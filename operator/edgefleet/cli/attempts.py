"""EdgeRollouts as the commands see them: found by the name a person gives, described, and told what to do."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import click
from typing_extensions import override

from edgefleet.cli import tables
from edgefleet.core import names, units
from edgefleet.kube import errors, kinds
from edgefleet.kube.client import Api, Object
from edgefleet.kube.kinds import Kind

REST: Final = "rest"
REMOVAL: Final = "removal-"
_TRIES: Final = 3
_WHO_AM_I: Final = Kind(
    "SelfSubjectReview", "selfsubjectreviews", "v1", "authentication.k8s.io", namespaced=False
)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One EdgeRollout, and its EdgeModel if that is still there."""

    raw: Object
    model: Object | None

    @override
    def __str__(self) -> str:
        return str(self.raw["metadata"]["name"])

    @property
    def spec(self) -> Mapping[str, Any]:
        """Of the EdgeRollout."""
        return self.raw.get("spec") or {}

    @property
    def status(self) -> Mapping[str, Any]:
        """Of the EdgeRollout."""
        return self.raw.get("status") or {}

    @property
    def outcome(self) -> str:
        """How it ended; empty while it runs."""
        return str(self.status.get("outcome") or "")

    @property
    def waves(self) -> tuple[str, ...]:
        """Names of all waves, those to come included, in order."""
        planned = tables.path(self.model or {}, "spec.rollout.waves") or []
        named = [str(wave["name"]) for wave in planned]
        if not planned or "siteSelector" in planned[-1] or "limit" in planned[-1]:
            named.append(REST)
        started = [str(wave["name"]) for wave in self.status.get("waves") or ()]
        return tuple(dict.fromkeys([*started, *named]))

    def need_running(self, *, or_complete: bool = False) -> None:
        """Raise ClickException when the rollout has ended; `or_complete`: otherwise than by success."""
        if self.outcome and not (or_complete and self.outcome == "Complete"):
            raise click.ClickException(f"{self} has ended: {self.outcome}; its verbs have no effect any more")
        if self.spec.get("desired") == "Aborted":
            raise click.ClickException(
                f"{self} is aborted, which cannot be taken back; `edgefleet rollout retry` tries its revision again"
            )


async def all_in(api: Api, namespace: str) -> list[Attempt]:
    """Every rollout of a namespace, newest first."""
    found = await api.list(kinds.EDGE_ROLLOUT, namespace)
    found.sort(key=lambda raw: str(raw["metadata"].get("creationTimestamp")), reverse=True)
    return [Attempt(raw, None) for raw in found]


async def find(api: Api, namespace: str, name: str) -> Attempt:
    """The newest rollout of the model `name`, or the rollout `name`. Raises ClickException when there is neither."""
    model = await _get(api, kinds.EDGE_MODEL, namespace, name)
    if model is None:
        raw = await _get(api, kinds.EDGE_ROLLOUT, namespace, name)
        if raw is None:
            raise click.ClickException(
                f"namespace {namespace} has neither an EdgeModel nor an EdgeRollout named {name} (-n names another)"
            )
        return Attempt(raw, await _get(api, kinds.EDGE_MODEL, namespace, str(raw["spec"]["model"])))
    own = [raw for raw in await api.list(kinds.EDGE_ROLLOUT, namespace) if raw["spec"]["model"] == name]
    if not own:
        reason = tables.condition(model, "Ready")
        raise click.ClickException(
            f"EdgeModel {name} has no rollout yet ({reason.get('reason', 'nobody has looked at it')}: "
            f"{reason.get('message', 'is the operator running?')})"
        )
    return Attempt(max(own, key=lambda raw: int(raw["spec"]["number"])), model)


async def _get(api: Api, kind: Kind, namespace: str, name: str) -> Object | None:
    try:
        return await api.get(kind, namespace, name)
    except errors.NotFound as error:
        if "could not find the requested resource" in error.message:
            raise
        return None


async def set_verbs(api: Api, attempt: Attempt, spec: Mapping[str, object]) -> None:
    """Write verbs, and nothing else. Raises ApiError."""
    meta = attempt.raw["metadata"]
    body = {"metadata": {"uid": meta["uid"]}, "spec": dict(spec)}
    await api.merge_patch(kinds.EDGE_ROLLOUT, meta["namespace"], meta["name"], body)


async def approve(api: Api, attempt: Attempt, wave: str, by: str | None) -> str:
    """Add an approval. Raises ClickException for a wave the rollout does not have."""
    attempt_of_removal = wave.startswith(REMOVAL)
    if not attempt_of_removal:
        attempt.need_running()
        if wave not in attempt.waves:
            raise click.ClickException(f"{attempt} has no wave {wave}; it has {', '.join(attempt.waves)}")
    who = by or await whoami(api)
    meta = attempt.raw["metadata"]
    for left in reversed(range(_TRIES)):
        live = await api.get(kinds.EDGE_ROLLOUT, meta["namespace"], meta["name"])
        given = tables.path(live, "spec.approvals") or []
        before = next((one for one in given if one["wave"] == wave), None)
        if before:
            return f"{attempt}: {wave} is approved already, by {before['by']}"
        body = {
            "metadata": {"resourceVersion": live["metadata"]["resourceVersion"]},
            "spec": {"approvals": [*given, {"wave": wave, "by": who}]},
        }
        try:
            await api.merge_patch(kinds.EDGE_ROLLOUT, meta["namespace"], meta["name"], body)
        except errors.Conflict:  # somebody else approved, or the operator wrote: look again
            if not left:
                raise
        else:
            break
    return f"{attempt}: {wave} approved by {who}"


async def retry(api: Api, attempt: Attempt) -> str:
    """Annotate the model so that the revision is tried again. Raises ClickException when nothing failed."""
    if attempt.model is None:
        raise click.ClickException(f"the EdgeModel of {attempt} is gone: there is nothing to try again")
    if attempt.outcome not in ("RolledBack", "Aborted"):
        state = attempt.outcome or "running"
        raise click.ClickException(f"there is nothing to try again: {attempt} is {state}")
    meta = attempt.model["metadata"]
    stamp = units.timestamp(datetime.now(UTC))
    body = {"metadata": {"uid": meta["uid"], "annotations": {names.RETRY: stamp}}}
    await api.merge_patch(kinds.EDGE_MODEL, meta["namespace"], meta["name"], body)
    return f"{meta['name']}: revision {attempt.spec.get('revision')} is tried again ({names.RETRY}={stamp})"


async def whoami(api: Api) -> str:
    """The caller's user name, as the API server knows it."""
    answer = await api.create(_WHO_AM_I, None, {})
    return str(tables.path(answer, "status.userInfo.username") or "unknown")


def row(attempt: Attempt) -> tuple[object, ...]:
    """A line of `edgefleet rollout list`."""
    spec, ready = attempt.spec, tables.condition(attempt.raw, "Ready")
    counts = attempt.status.get("counts") or {}
    return (
        attempt,
        spec.get("revision"),
        spec.get("bundleVersion"),
        spec.get("attempt"),
        attempt.outcome or spec.get("desired"),
        ready.get("reason"),
        counts.get("desired"),
        counts.get("healthy"),
        counts.get("failed"),
        tables.age(attempt.raw["metadata"].get("creationTimestamp")),
    )


def described(attempt: Attempt) -> str:
    """The rollout as a page of text."""
    spec, ready = attempt.spec, tables.condition(attempt.raw, "Ready")
    verbs = [word for word in ("finish", "direct") if spec.get(word)]
    state = attempt.outcome or str(spec.get("desired", "Run"))
    lines = [
        f"{attempt}: revision {spec.get('revision')}, attempt {spec.get('attempt')}",
        f"  bundle   {spec.get('bundle')} (version {spec.get('bundleVersion')})",
        f"  state    {' '.join([state, *verbs])}",
        f"  because  {ready.get('reason', 'nobody has looked at it yet')}: {ready.get('message', '')}".rstrip(
            ": "
        ),
        "",
        tables.table(
            ("WAVE", "STATE", "LIMIT", "ADMITTED", "HEALTHY", "FAILED", "BLOCKED", "AWAY"), waves(attempt)
        ),
    ]
    holds = attempt.status.get("holds") or ()
    if holds:
        held = tables.path(attempt.status, "counts.held") or 0
        rows = [
            (
                one.get("cohort"),
                one.get("failed"),
                one.get("seen"),
                tables.age(one.get("since")),
                one.get("message"),
            )
            for one in holds
        ]
        table = tables.table(("HELD COHORT", "FAILED", "SEEN", "AGO", "MESSAGE"), rows)
        lines += ["", f"CohortHeld: {held} sites do without this revision", table]
    failures = attempt.status.get("failures") or ()
    if failures:
        rows = [
            (
                one.get("site"),
                one.get("wave"),
                one.get("reason"),
                tables.age(one.get("time")),
                one.get("message"),
            )
            for one in failures
        ]
        lines += ["", tables.table(("FAILED SITE", "WAVE", "REASON", "AGO", "MESSAGE"), rows)]
    return "\n".join(lines)


def waves(attempt: Attempt) -> Iterator[tuple[object, ...]]:
    """A line for each wave: name, state and six counts, which are empty before it starts."""
    started = {wave["name"]: wave for wave in attempt.status.get("waves") or ()}
    approved = {one["wave"]: one["by"] for one in attempt.spec.get("approvals") or ()}
    for name in attempt.waves:
        wave = started.get(name)
        if wave is None:
            coming = "not started" if attempt.outcome else "to come"
            yield (name, f"approved by {approved[name]}" if name in approved else coming, *[""] * 6)
            continue
        state = "ended" if attempt.outcome else "running"
        if wave.get("completedAt"):
            state = f"complete {tables.age(wave['completedAt'])} ago"
        elif wave.get("soakStartedAt") and not attempt.outcome:
            state = f"soaking for {tables.age(wave['soakStartedAt'])}"
        counts = (
            wave.get(key) for key in ("limit", "admitted", "healthy", "failed", "blocked", "unreachable")
        )
        yield (name, state, *counts)
