"""Slim records of what was last seen."""

from typing import Any

from edgefleet.kube import watching
from edgefleet.kube.cache import Cache, Key


def thing(name: str, colour: str = "red", *, uid: str = "u1", version: int = 1) -> dict[str, Any]:
    meta = {"namespace": "ns", "name": name, "uid": uid, "resourceVersion": str(version)}
    return {"metadata": meta, "spec": {"colour": colour}}


def cache(changed: Any = None) -> Cache[str]:
    return Cache(lambda o: str(o["spec"]["colour"]), indexes={"colour": lambda r: [r]}, changed=changed)


def test_records_are_found_by_name_and_by_index_in_the_order_of_their_names() -> None:
    store = cache()
    for name in ("b", "a", "c"):
        store.put(thing(name, "blue" if name == "c" else "red"))
    assert store.get("ns", "a") == "red"
    assert store.by("colour", "red") == ["red", "red"]
    assert store.by("colour", "green") == []
    assert len(store) == 3


def test_the_index_follows_a_change_and_a_deletion() -> None:
    store = cache()
    store.put(thing("a", "red", version=1))
    store.put(thing("a", "blue", version=2))
    assert (store.by("colour", "red"), store.by("colour", "blue")) == ([], ["blue"])
    store.sink(watching.DELETED, thing("a", "blue", version=3))
    assert store.by("colour", "blue") == []
    assert store.get("ns", "a") is None


def test_a_late_event_does_not_undo_the_answer_to_our_own_write() -> None:
    store = cache()
    store.put(thing("a", "blue", version=10))
    store.sink(watching.MODIFIED, thing("a", "red", version=9))
    assert store.get("ns", "a") == "blue"


def test_an_object_made_anew_replaces_the_old_one_whatever_its_version() -> None:
    store = cache()
    store.put(thing("a", "blue", uid="old", version=10))
    store.put(thing("a", "red", uid="new", version=3))
    assert store.get("ns", "a") == "red"


def test_the_late_deletion_of_the_old_object_leaves_the_new_one() -> None:
    store = cache()
    store.put(thing("a", "red", uid="new", version=12))
    store.drop(thing("a", uid="old", version=11))
    assert store.get("ns", "a") == "red"


def test_every_difference_is_told_once() -> None:
    told: list[tuple[Key, str | None, str | None]] = []
    store = cache(lambda key, before, after: told.append((key, before, after)))
    store.put(thing("a", "red", version=1))
    store.put(thing("a", "red", version=2))
    store.put(thing("a", "blue", version=3))
    store.drop(thing("a", version=4))
    key = Key("ns", "a")
    assert [(key, None, "red"), (key, "red", "blue"), (key, "blue", None)] == told


def test_it_is_synced_when_the_first_list_is_complete() -> None:
    store = cache()
    store.sink(watching.ADDED, thing("a"))
    assert not store.synced.is_set()
    store.sink(watching.SYNCED, {})
    assert store.synced.is_set()
