"""Windows as people write them, against calendars that do not behave: clock changes, leap days, overlaps, nonsense."""

from datetime import UTC, datetime, timedelta

import pytest
from edgefleet import schedule
from edgefleet.core.specs import SiteWindows, TimeWindow
from edgefleet.core.window import Window, Windows
from hypothesis import given, settings
from hypothesis import strategies as st

BERLIN = "Europe/Berlin"


def window(cron: str, duration: str = "1h", zone: str = "UTC") -> TimeWindow:
    return TimeWindow(schedule=cron, duration=duration, time_zone=zone)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def seen(moment: str, *windows: TimeWindow) -> tuple[bool, str]:
    found = schedule.look(windows, at(moment))
    return found.open, found.changes_at.strftime("%m-%d %H:%M") if found.changes_at else ""


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ("2026-06-01 00:59:59", (False, "06-01 01:00")),
        ("2026-06-01 01:00:00", (True, "06-01 05:00")),
        ("2026-06-01 04:59:59", (True, "06-01 05:00")),
        ("2026-06-01 05:00:00", (False, "06-02 01:00")),
    ],
)
def test_a_window_opens_and_closes_to_the_second(moment: str, expected: tuple[bool, str]) -> None:
    assert seen(moment, window("0 1 * * *", "4h")) == expected


def test_overlapping_windows_are_open_until_the_last_one_closes() -> None:
    both = (window("0 1 * * *", "4h"), window("0 3 * * *", "4h"))

    assert [seen(f"2026-06-01 0{hour}:30", *both) for hour in (0, 1, 3, 5, 7)] == [
        (False, "06-01 01:00"),
        (True, "06-01 05:00"),
        (True, "06-01 07:00"),
        (True, "06-01 07:00"),
        (False, "06-02 01:00"),
    ]


def test_a_window_longer_than_its_period_never_closes() -> None:
    hourly = window("0 * * * *", "90m")
    start = at("2026-06-01 00:00")

    assert all(
        schedule.look((hourly,), start + timedelta(minutes=minute)).open
        for minute in range(0, 3 * 24 * 60, 7)
    )


def test_of_a_window_longer_than_a_month_of_days_the_last_start_counts() -> None:
    assert seen("2026-06-30 12:00", window("0 0 1 * *", "744h")) == (True, "07-02 00:00")


def test_a_leap_day_opens_in_leap_years_only() -> None:
    leap = window("0 0 29 2 *", "24h")

    assert schedule.look((leap,), at("2027-03-01 00:00")) == Window(
        open=False, changes_at=at("2028-02-29 00:00")
    )
    assert schedule.look((leap,), at("2028-02-29 23:59")) == Window(
        open=True, changes_at=at("2028-03-01 00:00")
    )


# -- the nights the clocks change ------------------------------------------------------------------------
def test_a_window_lasts_as_long_on_the_night_that_loses_an_hour() -> None:
    """29 March 2026, 02:00 becomes 03:00 in Berlin: 01:00 there is 00:00 in UTC."""
    night = window("0 1 * * *", "4h", BERLIN)

    assert seen("2026-03-29 00:00", night) == (True, "03-29 04:00")
    assert seen("2026-03-29 04:00", night) == (False, "03-29 23:00")


def test_a_start_that_the_clocks_skip_is_made_up_for_right_after() -> None:
    skipped = window("30 2 * * *", "1h", BERLIN)

    assert seen("2026-03-29 00:59", skipped) == (False, "03-29 01:00")
    assert seen("2026-03-29 01:00", skipped) == (True, "03-29 02:00")
    assert seen("2026-03-29 02:00", skipped) == (False, "03-30 00:30")


def test_a_start_that_comes_twice_counts_once() -> None:
    """25 October 2026, 03:00 becomes 02:00: 02:30 is at 00:30 and at 01:30 in UTC."""
    twice = window("30 2 * * *", "15m", BERLIN)

    assert seen("2026-10-25 00:30", twice) == (True, "10-25 00:45")
    assert seen("2026-10-25 01:30", twice) == (False, "10-26 01:30")


def test_a_window_open_through_the_hour_that_comes_twice_stays_open() -> None:
    long = window("45 2 * * *", "3h", BERLIN)
    start = at("2026-10-25 00:45")

    assert all(schedule.look((long,), start + timedelta(minutes=minute)).open for minute in range(180))
    assert not schedule.look((long,), start + timedelta(minutes=180)).open
    assert not schedule.look((long,), start - timedelta(minutes=1)).open


def test_each_hour_of_the_night_that_has_one_more_opens() -> None:
    hourly = window("0 * * * *", "1m", BERLIN)
    opened = [
        minute
        for minute in range(26 * 60)
        if schedule.look((hourly,), at("2026-10-24 22:00") + timedelta(minutes=minute)).open
    ]

    assert opened == list(range(0, 26 * 60, 60))


@settings(max_examples=300, deadline=None)
@given(
    minute=st.integers(0, 59),
    hour=st.integers(0, 23),
    zone=st.sampled_from([BERLIN, "America/New_York", "Australia/Lord_Howe", "Antarctica/Troll", "UTC"]),
    ahead=st.integers(0, 2 * 365 * 24 * 3600),
)
def test_starts_enclose_the_moment_and_no_day_is_without_one(
    minute: int, hour: int, zone: str, ahead: int
) -> None:
    now = at("2026-01-01 00:00") + timedelta(seconds=ahead)
    before, after = schedule.starts(f"{minute} {hour} * * *", zone, now)

    assert after is not None
    assert before <= now < after
    assert timedelta(hours=19) <= after - before <= timedelta(hours=29)
    assert schedule.starts(f"{minute} {hour} * * *", zone, after)[0] == after
    assert schedule.starts(f"{minute} {hour} * * *", zone, before)[1] == after


def test_a_clock_that_goes_back_is_looked_at_anew() -> None:
    night = window("0 1 * * *", "4h")

    assert [
        seen(moment, night)[0] for moment in ("2026-06-05 02:00", "2026-06-01 02:00", "2026-06-01 06:00")
    ] == [
        True,
        True,
        False,
    ]


# -- what cannot be read ----------------------------------------------------------------------------------
BAD = {
    "an hour that does not exist": (window("0 25 * * *"), "schedule: '0 25 * * *' is no schedule: bad hour"),
    "a range backwards": (window("0 5-1 * * *"), "schedule: '0 5-1 * * *' is no schedule: bad hour"),
    "a step of nothing": (window("*/0 * * * *"), "schedule: '*/0 * * * *' is no schedule: bad minute"),
    "30 February": (window("0 0 30 2 *"), "schedule: '0 0 30 2 *' is no schedule: bad day-of-month"),
    "a second Monday on the first": (
        window("0 0 */40 * 1#2"),
        "schedule: '0 0 */40 * 1#2' never comes: no day of the next 50 years matches",
    ),
    "six fields": (
        window("0 0 1 * * *"),
        "schedule: '0 0 1 * * *' must have 5 fields: minute, hour, day of month, month, day of week",
    ),
    "a place without clocks": (
        window("0 1 * * *", zone="Europe/Bielefeld"),
        "timeZone: 'Europe/Bielefeld' is no time zone of the IANA list, such as Europe/Berlin",
    ),
    "a way out of the folder": (
        window("0 1 * * *", zone="../../etc/passwd"),
        "timeZone: '../../etc/passwd' is no time zone of the IANA list, such as Europe/Berlin",
    ),
    "a moment": (window("0 1 * * *", "59s"), "duration: '59s' must be from 1m to 744h"),
    "words": (
        window("0 1 * * *", "long"),
        "duration: 'long' is not a duration: write it like 50ms, 90s, 5m or 1h30m",
    ),
}


@pytest.mark.parametrize(("bad", "said"), BAD.values(), ids=BAD)
def test_what_cannot_be_read_is_said_with_its_field(bad: TimeWindow, said: str) -> None:
    good = window("0 1 * * *")

    assert (
        schedule.problem(SiteWindows(download=(good,), update=(good, bad)))
        == f"spec.windows.update[1].{said}"
    )
    assert schedule.problem(SiteWindows(download=(bad,))) == f"spec.windows.download[0].{said}"


def test_windows_that_can_be_read_have_no_problem() -> None:
    fine = (
        window("0 1 * * *"),
        window("*/5 0-6 1,15 JAN-MAR MON-FRI", "744h", "Etc/GMT+5"),
        window("0 0 L * 5L"),
    )

    assert schedule.problem(SiteWindows(download=fine, update=fine)) == ""
    assert schedule.problem(SiteWindows()) == ""


@pytest.mark.parametrize(
    "cron", ["0 0 */40 * 1#2", "0 0 29 2 */7", "0 0 * 2 MON#5", "59 23 31 12 *", "* * * * *"]
)
def test_a_hostile_schedule_costs_little_and_only_once(cron: str) -> None:
    hostile = window(cron, "1m", BERLIN)
    start = at("2026-06-01 00:00")
    first = schedule._kept_starts(hostile.schedule, BERLIN, start)

    assert all(
        schedule._kept_starts(hostile.schedule, BERLIN, start + timedelta(seconds=second)) is first
        for second in range(60)
    )


def test_a_clock_beyond_all_calendars_is_an_error_and_no_crash() -> None:
    with pytest.raises(ValueError, match="no calendar"):
        schedule.look((window("0 1 * * *", zone=BERLIN),), datetime.max.replace(tzinfo=UTC))


# -- both kinds ------------------------------------------------------------------------------------------
def test_no_windows_are_always_open_whatever_the_clock_says() -> None:
    assert schedule.evaluate(SiteWindows(), at("1971-01-01 00:00"), "before its time") == Windows()


def test_with_a_clock_nobody_believes_no_window_is_open() -> None:
    night = SiteWindows(update=(window("* * * * *"),))

    found = schedule.evaluate(night, at("2026-06-01 00:00"), "an hour ahead")

    assert (found.download.open, found.update, found.reason, found.trouble) == (
        True,
        Window(open=False, changes_at=None),
        "ClockUntrusted",
        "an hour ahead",
    )
    assert schedule.evaluate(night, at("2026-06-01 00:00")).update.open
