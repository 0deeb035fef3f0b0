"""What lines come to is never less than what was spent."""

from hypothesis import given
from hypothesis import strategies as st

from meridian.core.metering.ledgers import Closed, Exact, Held, Ledgers, Line, Opened
from meridian.core.metering.quotas import Record
from meridian.core.metering.windows import Handover

A = Record("daily", 100.0, "a", 9)
HANDOVER = Handover("few", (10_000, 0), (("k", ((50.0, 3),)),))
HELD = Held(4, {1: (5.0, 500.0)})


def ledgers(*lines: Line) -> Ledgers:
    found = Ledgers()
    for line in lines:
        found.add(line)
    return found


def test_nobody_was_here() -> None:
    assert Ledgers().is_new and not ledgers(Opened(1.0, "b")).is_new


def test_a_planned_restart_loses_nothing() -> None:
    found = ledgers(
        Opened(1.0, "b"), HELD, A, Exact(Record("daily", 100.0, "a", 4)), HANDOVER, Closed(), Opened(2.0, "b")
    )
    assert found.limits["daily"].booked == {"a": (4, 0)} and found.limits["daily"].crashes == 0
    assert found.windows == {"few": HANDOVER} and found.is_clean and found.held == HELD


def test_after_a_crash_every_key_may_be_ahead_and_windows_are_forgotten() -> None:
    late = Record("daily", 100.0, "b", 5)
    found = ledgers(Opened(1.0, "b"), A, HANDOVER, Opened(200.0, "b"), late, Opened(300.0, "b"))
    assert found.limits["daily"].booked == {"a": (9, 2), "b": (5, 1)} and found.limits["daily"].crashes == 2
    assert not found.windows and not found.is_clean and found.crashed_at == [200.0, 300.0]


def test_a_crash_before_the_first_line_of_a_period_counts_in_it() -> None:
    found = ledgers(Opened(1.0, "b"), A, Opened(1050.0, "b"), Record("daily", 1000.0, "a", 3))
    assert found.limits["daily"].crashes == 1 and found.limits["daily"].booked == {"a": (3, 0)}


def test_windows_are_of_one_boot() -> None:
    found = ledgers(Opened(1.0, "b"), HANDOVER, Closed(), Opened(2.0, "after a boot"))
    assert not found.windows and not found.is_clean and not found.crashed_at


_lines = st.one_of(
    st.builds(Opened, st.floats(0, 1000), st.sampled_from("bc")),
    st.builds(Record, st.just("daily"), st.sampled_from([100.0, 500.0]), st.sampled_from("xyz"), st.integers(1, 9)),
    st.just(Closed()),
)


@given(st.lists(_lines, max_size=20), st.lists(_lines, max_size=10))
def test_a_ledger_that_is_written_anew_comes_to_the_same(before: list[Line], after: list[Line]) -> None:
    one = ledgers(*before, Opened(2000.0, "b"))
    other = ledgers(*one.lines())
    for found in (one, other):
        for line in after:
            found.add(line)
    assert (one.limits, one.crashed_at, one.is_open, one.boot) == (
        other.limits, other.crashed_at, other.is_open, other.boot
    )  # fmt: skip
