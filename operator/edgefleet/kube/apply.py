"""Make the API server look as decided, with as few writes as it takes.

Writes carry differences only, so a pass that finds everything in place writes nothing. Several writes go on past
a failed one: what can be put right is, and the next pass sees the rest.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from edgefleet.kube import errors
from edgefleet.kube.client import Api, Object
from edgefleet.kube.kinds import Kind

_ABSENT: Final = object()


def difference(live: Mapping[str, Any], want: Mapping[str, Any], *, prune: bool) -> Object:
    """The merge patch that turns `live` into `want`; empty when nothing differs.

    With `prune`, what `want` lacks is removed (null); without, it is somebody else's and left alone. A None in
    `want` removes in both. Lists are replaced as a whole.
    """
    patch: Object = {}
    for key, value in want.items():
        have = live.get(key, _ABSENT)
        if value is None:
            if have is not _ABSENT and have is not None:
                patch[key] = None
        elif isinstance(value, dict) and isinstance(have, dict):  # a Mapping takes five times as long to ask
            inner = difference(have, value, prune=prune)
            if inner:
                patch[key] = inner
        elif have != value:
            patch[key] = _whole(value)
    if prune:
        patch.update({key: None for key in live if key not in want})
    return patch


def _whole(value: Any) -> Any:
    """A value for a place where there was none: nulls inside would only be noise."""
    if isinstance(value, dict):
        return {key: _whole(inner) for key, inner in value.items() if inner is not None}
    return value


async def patch_status(api: Api, kind: Kind, live: Object, want: Mapping[str, Any]) -> Object | None:
    """Write an object's status where it differs from `live`; returns the answer, or None without a write.

    Raises Conflict when the object has changed since it was seen, so that a status never speaks of a spec that
    was not read (a uid alone does not help: the status subresource ignores it), NotFound when it is gone.
    """
    patch = difference(live.get("status") or {}, want, prune=True)
    if not patch:
        return None
    meta = live["metadata"]
    body = {"metadata": {"resourceVersion": meta["resourceVersion"]}, "status": patch}
    return await api.merge_patch(kind, meta.get("namespace"), meta["name"], body, status=True)


async def create_or_get(api: Api, kind: Kind, body: Object) -> tuple[Object, bool]:
    """Create an object, or read the one that has its name. Returns it, and whether it was made now."""
    meta = body["metadata"]
    try:
        return await api.create(kind, meta.get("namespace"), body), True
    except errors.AlreadyExists:
        return await api.get(kind, meta.get("namespace"), meta["name"]), False


async def ensure(
    api: Api, kind: Kind, body: Object, live: Object | None = None, *, prune: Iterable[str] = ()
) -> Object:
    """Create an object, or merge our fields into the one that is there; other fields are left alone.

    `prune` names parts that are all ours: what is not in the body goes. `live` spares a read. Raises Conflict when `live` has been made anew since.
    """
    meta = body["metadata"]
    made = False
    if live is None:
        live, made = await create_or_get(api, kind, body)
    if made:
        return live
    patch = difference(live, {k: v for k, v in body.items() if k not in ("apiVersion", "kind")}, prune=False)
    for part in prune:
        if changed := difference(live.get(part) or {}, body[part], prune=True):
            patch[part] = changed
    if not patch:
        return live
    patch.setdefault("metadata", {})["uid"] = live["metadata"]["uid"]
    return await api.merge_patch(kind, meta.get("namespace"), meta["name"], patch)


async def remove(api: Api, kind: Kind, namespace: str | None, name: str, *, uid: str | None) -> None:
    """Delete the object with `uid`; gone, or replaced by another of its name, is as good."""
    try:
        await api.delete(kind, namespace, name, uid=uid)
    except (errors.NotFound, errors.Conflict):
        return


@dataclass(frozen=True, slots=True)
class Write:
    """One write, and what it is for (for the error)."""

    what: str
    do: Callable[[], Awaitable[object]]


class WritesFailed(Exception):  # noqa: N818  says what happened, like the tree in `errors`
    """Some writes of a pass failed; the others were made."""

    expected = True

    def __init__(self, failed: list[tuple[str, errors.ApiError]], total: int) -> None:
        first = "; ".join(f"{what}: {error.message}" for what, error in failed[:3])
        super().__init__(f"{len(failed)} of {total} writes failed: {first}")
        self.failed = failed
        self.retry_after = max((e.retry_after or 0.0 for _, e in failed), default=0.0) or None


async def carry_out(writes: Iterable[Write]) -> list[tuple[str, errors.ApiError]]:
    """Make the writes in order, past refused ones; returns what failed.

    Stops at the first Unreachable: what follows would only wait for the same.
    """
    failed: list[tuple[str, errors.ApiError]] = []
    for write in writes:
        try:
            await write.do()
        except errors.Unreachable as error:
            failed.append((write.what, error))
            break
        except errors.ApiError as error:
            failed.append((write.what, error))
    return failed
