"""Merge patches that carry differences only."""

from typing import Any

import pytest
from edgefleet.kube.apply import difference


def merged(target: Any, patch: Any) -> Any:
    """RFC 7396, the reference."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


CASES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "nothing": ({"a": 1, "b": {"c": 2}}, {"a": 1, "b": {"c": 2}}, {}),
    "a value": ({"a": 1}, {"a": 2}, {"a": 2}),
    "an inner value": ({"b": {"c": 2, "d": 3}}, {"b": {"c": 4, "d": 3}}, {"b": {"c": 4}}),
    "a field that went": ({"a": 1, "b": 2}, {"a": 1}, {"b": None}),
    "an inner field that went": ({"b": {"c": 2, "d": 3}}, {"b": {"c": 2}}, {"b": {"d": None}}),
    "a list as a whole": ({"a": [1, 2]}, {"a": [1, 3]}, {"a": [1, 3]}),
    "a dictionary in place of a value": ({"a": 1}, {"a": {"b": 2}}, {"a": {"b": 2}}),
    "a value in place of a dictionary": ({"a": {"b": 2}}, {"a": 1}, {"a": 1}),
    "falsy is not absent": ({"a": 1, "b": ""}, {"a": 0, "b": ""}, {"a": 0}),
    "a dictionary that became empty": ({"a": {"b": 1}}, {"a": {}}, {"a": {"b": None}}),
}


@pytest.mark.parametrize(("live", "want", "patch"), CASES.values(), ids=CASES.keys())
def test_the_patch_is_the_difference_and_leads_to_what_is_wanted(
    live: dict[str, Any], want: dict[str, Any], patch: dict[str, Any]
) -> None:
    assert patch == difference(live, want, prune=True)
    assert want == merged(live, patch)


def test_without_pruning_other_writers_fields_are_left_alone() -> None:
    live = {"metadata": {"labels": {"ours": "1", "theirs": "2"}}, "spec": {"theirs": 1}}
    want = {"metadata": {"labels": {"ours": "3"}}}
    assert difference(live, want, prune=False) == {"metadata": {"labels": {"ours": "3"}}}


def test_a_null_removes_and_is_silent_where_there_is_nothing() -> None:
    assert difference({"a": 1}, {"a": None, "b": None}, prune=False) == {"a": None}


def test_a_new_dictionary_carries_no_nulls() -> None:
    assert difference({}, {"a": {"b": 1, "c": None}}, prune=True) == {"a": {"b": 1}}
