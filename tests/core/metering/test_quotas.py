"""A day's quota of one worker: the calendar, the disk, and clocks that are set."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from meridian.core.metering.calendar import PeriodName, period_of
from meridian.core.metering.portions import ALL, Portion
from meridian.core.metering.quotas import DISK_SECONDS, Ledger, Quotas, Record, slack_of

ZONE = ZoneInfo("UTC")
NOON = datetime(2026, 3, 10, 12, tzinfo=UTC).timestamp()
MIDNIGHT = datetime(2026, 3, 11, tzinfo=UTC).timestamp()


def quotas(amount: int, now: float = NOON, *, durable: bool = True, portion: Portion = ALL) -> Quotas:
    one = Quotas("daily", amount, "day", ZONE, now, durable=durable)
    one.take(portion, dict.fromkeys(portion.indexes, 0.0))
    return one


@pytest.mark.parametrize(
    ("moment", "period", "zone", "start", "end"),
    [
        ("2026-03-10T12:00Z", "day", "UTC", "2026-03-10T00:00Z", "2026-03-11T00:00Z"),
        ("2026-03-29T12:00Z", "day", "Europe/Berlin", "2026-03-28T23:00Z", "2026-03-29T22:00Z"),  # 23 hours
        ("2026-10-25T00:30Z", "day", "Europe/Berlin", "2026-10-24T22:00Z", "2026-10-25T23:00Z"),  # 25 hours
        ("2026-10-25T01:30Z", "day", "Europe/Berlin", "2026-10-24T22:00Z", "2026-10-25T23:00Z"),
        ("2028-02-29T12:00Z", "month", "UTC", "2028-02-01T00:00Z", "2028-03-01T00:00Z"),
        ("2026-12-31T23:59Z", "month", "Asia/Tokyo", "2026-12-31T15:00Z", "2027-01-31T15:00Z"),
        ("2026-03-10T00:00Z", "day", "UTC", "2026-03-10T00:00Z", "2026-03-11T00:00Z"),
    ],
)
def test_periods(moment: str, period: PeriodName, zone: str, start: str, end: str) -> None:
    at, first, last = (datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() for text in (moment, start, end))
    assert period_of(at, period, ZoneInfo(zone)) == (first, last)


def test_a_quota_is_spent_once_a_day() -> None:
    one = quotas(3, durable=False)
    assert [one.admit("k", NOON) for _ in range(3)] == [0.0] * 3
    assert one.admit("k", NOON) == MIDNIGHT - NOON and one.admit("other", NOON) == 0.0
    assert one.admit("k", MIDNIGHT) == 0.0


def test_a_clock_that_is_set_back_begins_nothing_anew() -> None:
    one = quotas(1, durable=False)
    assert one.admit("k", MIDNIGHT + 5) == 0.0
    assert one.admit("k", NOON) > 0.0 < one.admit("k", MIDNIGHT + 10)


def test_a_key_is_never_further_ahead_of_the_disk_than_its_slack() -> None:
    one = quotas(320)
    slack = slack_of(320)
    spent = 0
    while one.admit("k", NOON) == 0.0:
        spent += 1
    assert spent == slack and one.admit("k", NOON) == DISK_SECONDS
    records = one.records()
    assert records[0] == Record("daily", NOON - 12 * 3600, "k", 1 + slack) and len(records) == 1
    one.written(records[0])
    while one.admit("k", NOON) == 0.0:
        spent += 1
    assert spent == 1 + 2 * slack


def test_after_a_crash_nothing_that_was_spent_is_spent_again() -> None:
    one = quotas(320)
    for _ in range(slack_of(320)):
        assert one.admit("k", NOON) == one.admit("unwritten", NOON) == 0.0
    (record,) = [record for record in one.records() if record.key == "k"]
    after = quotas(320)
    after.resume(Ledger(record.since, 1, {"k": (record.booked, 1)}), [NOON])
    assert after.look("k", NOON)[0] == 320 - record.booked - slack_of(320)
    assert after.look("unwritten", NOON)[0] == 320 - slack_of(320)
    tomorrow = quotas(320, MIDNIGHT + 1)
    tomorrow.resume(Ledger(record.since, 1, {"k": (record.booked, 1)}), [NOON, MIDNIGHT + 1])
    assert tomorrow.look("k", MIDNIGHT + 1)[0] == 320 - slack_of(320), "one of the crashes was in this period"


def test_a_planned_restart_costs_nothing() -> None:
    one = quotas(320)
    for _ in range(5):
        one.admit("k", NOON)
    (record,) = one.handover()
    after = quotas(320)
    after.resume(Ledger(record.since, 0, {"k": (record.booked, 0)}), [])
    assert after.look("k", NOON)[0] == 315 and one.admit("k", NOON) > 0.0


def test_a_slice_of_anothers_gives_nothing_before_the_next_period() -> None:
    one = Quotas("daily", 10, "day", ZONE, NOON)
    one.take(ALL, {0: NOON})
    assert one.admit("k", NOON) == MIDNIGHT - NOON
    assert one.admit("k", MIDNIGHT) == 0.0


def test_what_is_past_is_dropped_little_by_little() -> None:
    one = quotas(100, durable=False)
    for number in range(3000):
        one.admit(str(number), NOON)
    assert one.admit("0", MIDNIGHT) == 0.0
    for _ in range(3):
        one.poll()
    assert not one._past
