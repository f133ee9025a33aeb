"""Texts in specs become the numbers people mean."""

import math

import pytest
from edgefleet.core import units


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("50ms", 0.05), ("90s", 90), ("5m", 300), ("1h30m", 5400), ("168h", 604800), ("7d", 604800), ("0s", 0)],
)
def test_a_duration_is_seconds(text: str, seconds: float) -> None:
    assert math.isclose(seconds, units.duration(text))


@pytest.mark.parametrize("text", ["", "5", "m", "5 m", "-5m", "5m!", "1e3s", "\u0665m"])
def test_what_is_no_duration_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration: write it like"):
        units.duration(text)


@pytest.mark.parametrize(("text", "number"), [("1%", 0.01), ("99.5%", 0.995), ("0%", 0), ("100%", 1)])
def test_a_share_is_between_0_and_1(text: str, number: float) -> None:
    assert math.isclose(number, units.share(text))


@pytest.mark.parametrize("text", ["1", "101%", "-1%", "%", "1 %"])
def test_what_is_no_share_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="is not a share"):
        units.share(text)


@pytest.mark.parametrize(
    ("value", "total", "least"),
    [
        pytest.param("5%", 100, 5, id="5 % of a hundred"),
        pytest.param("5%", 101, 6, id="rounded up"),
        pytest.param("7%", 100, 7, id="not because of binary fractions"),
        pytest.param("1%", 3, 1, id="never under one"),
        pytest.param("50%", 0, 1, id="never under one of none"),
        pytest.param(3, 2, 3, id="a count is itself"),
        pytest.param(0, 2, 1, id="but never nothing"),
    ],
)
def test_what_must_be_reached_is_rounded_up(value: int | str, total: int, least: int) -> None:
    assert least == units.at_least(value, total)


@pytest.mark.parametrize(
    ("value", "total", "most"),
    [("2%", 99, 1), ("2%", 100, 2), ("29%", 100, 29), ("2%", 10, 0), (0, 10, 0), (3, 10, 3), ("100%", 7, 7)],
)
def test_what_may_not_be_passed_is_rounded_down(value: int | str, total: int, most: int) -> None:
    assert most == units.at_most(value, total)


@pytest.mark.parametrize(
    ("text", "number"), [("256Mi", 256 * 2**20), ("500m", 0.5), ("2", 2), ("1.5Gi", 1.5 * 2**30)]
)
def test_a_quantity_is_a_number(text: str, number: float) -> None:
    assert math.isclose(number, units.quantity(text))


def test_an_instant_survives_being_written() -> None:
    assert units.timestamp(units.instant("2026-01-31T13:00:00.9+01:00")) == "2026-01-31T12:00:00Z"


def test_what_is_no_instant_is_named() -> None:
    with pytest.raises(ValueError, match="'yesterday' is not an RFC 3339 time"):
        units.instant("yesterday")
