"""The policy of quarantine as the operator is given it."""

from datetime import timedelta
from pathlib import Path

import pytest
from edgefleet.build import signing
from edgefleet.core.quarantine import Policy
from edgefleet.handlers import settings
from edgefleet.handlers.settings import SettingsError

PREFIX = "EDGEFLEET_QUARANTINE_"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    signing.create_keys(tmp_path / "a.key", tmp_path / "a.pub")
    return {"EDGEFLEET_TRUST": str(tmp_path / "a.pub")}


def test_without_a_word_the_defaults_hold(environment: dict[str, str]) -> None:
    assert settings.read([], environment).quarantine == Policy()


def test_every_value_is_read(environment: dict[str, str]) -> None:
    given = {"FAILURES": "5", "WITHIN": "2h", "FLAPS": "8", "FLAPS_WITHIN": "30m", "RELEASE_AFTER": "1h30m"}
    found = settings.read([], environment | {PREFIX + k: v for k, v in (given | {"MAX_SHARE": "0%"}).items()})
    assert found.quarantine == Policy(
        failures=5,
        within=timedelta(hours=2),
        flaps=8,
        flaps_within=timedelta(minutes=30),
        release_after=timedelta(minutes=90),
        max_share="0%",
    )


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("FAILURES", "0", "must be a whole number from 1 to 1000"),
        ("FAILURES", "some", "must be a whole number from 1 to 1000"),
        ("FLAPS", "33", "must be a whole number from 2 to 32"),
        ("WITHIN", "a day", "is not a duration"),
        ("WITHIN", "0s", "must be a duration from 1s to 8784h"),
        ("FLAPS_WITHIN", "25h", "must be a duration from 1s to 24h"),
        ("MAX_SHARE", "10", "is not a share"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(
    environment: dict[str, str], name: str, value: str, message: str
) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        settings.read([], environment | {PREFIX + name: value})
    assert str(caught.value).startswith(f"{PREFIX}{name}={value}: ")
