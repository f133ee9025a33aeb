"""What was last seen of a collection, as slim records with indexes.

A record keeps only what a decision needs, so that ten thousand orders fit into memory. The answer to a write of
ours goes in too: the next pass must see what the last one did, even before the watch has told.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

from edgefleet.kube import watching
from edgefleet.kube.client import Object

T = TypeVar("T")


class Key(NamedTuple):
    """Namespace (empty for cluster-scoped kinds) and name."""

    namespace: str
    name: str


class _Entry(NamedTuple, Generic[T]):
    uid: str
    version: str
    record: T


class Cache(Generic[T]):
    """Records of one collection by key, and by whatever the indexes say."""

    def __init__(
        self,
        slim: Callable[[Object], T],
        *,
        indexes: Mapping[str, Callable[[T], Iterable[str]]] | None = None,
        changed: Callable[[Key, T | None, T | None], None] | None = None,
    ) -> None:
        """`slim` makes a record of an object; `changed(key, before, after)` is told of every difference."""
        self.synced = asyncio.Event()
        self._slim = slim
        self._changed = changed
        self._indexes = indexes or {}
        self._entries: dict[Key, _Entry[T]] = {}
        self._by: dict[str, dict[str, dict[Key, None]]] = {name: {} for name in self._indexes}

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[T]:
        return (entry.record for entry in self._entries.values())

    def keys(self) -> tuple[Key, ...]:
        """Keys of all records."""
        return tuple(self._entries)

    def get(self, namespace: str, name: str) -> T | None:
        """The record of one object."""
        entry = self._entries.get(Key(namespace, name))
        return entry.record if entry else None

    def by(self, index: str, value: str) -> list[T]:
        """All records the index lists under `value`, in the order of their keys."""
        keys = self._by[index].get(value, {})
        return [self._entries[key].record for key in sorted(keys)]

    def sink(self, event: str, item: Object) -> None:
        """Take what `watching.Watcher` tells."""
        if event == watching.SYNCED:
            self.synced.set()
        elif event == watching.DELETED:
            self.drop(item)
        else:
            self.put(item)

    def put(self, item: Object) -> None:
        """Remember an object as seen or as answered to a write; what is older than the record is ignored."""
        meta = item["metadata"]
        key = _key(meta)
        before = self._entries.get(key)
        uid, version = str(meta.get("uid") or ""), str(meta.get("resourceVersion") or "")
        if before is not None and before.uid == uid and _older(version, before.version):
            return
        record = self._slim(item)
        self._index(key, before, record)
        self._entries[key] = _Entry(uid, version, record)
        if self._changed and (before is None or before.record != record):
            self._changed(key, before.record if before else None, record)

    def drop(self, item: Mapping[str, Any]) -> None:
        """Forget a deleted object, unless its name belongs to another one by now."""
        meta = item["metadata"]
        key = _key(meta)
        before = self._entries.get(key)
        uid = str(meta.get("uid") or "")
        if before is None or (uid and before.uid and uid != before.uid):
            return
        del self._entries[key]
        self._index(key, before, None)
        if self._changed:
            self._changed(key, before.record, None)

    def _index(self, key: Key, before: "_Entry[T] | None", after: T | None) -> None:
        for name, values_of in self._indexes.items():
            table = self._by[name]
            if before is not None:
                for value in values_of(before.record):
                    keys = table.get(value, {})
                    keys.pop(key, None)
                    if not keys:
                        table.pop(value, None)
            if after is not None:
                for value in values_of(after):
                    table.setdefault(value, {})[key] = None


def _key(meta: Mapping[str, Any]) -> Key:
    return Key(str(meta.get("namespace") or ""), str(meta["name"]))


def _older(version: str, than: str) -> bool:
    """Resource versions of one resource are comparable integers (Kubernetes 1.35 made it a promise)."""
    return version.isdigit() and than.isdigit() and int(version) < int(than)
