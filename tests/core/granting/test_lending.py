import pytest

from meridian.core.granting import lending
from meridian.core.granting.account import Account, Line


def account(own: float = 20.0, demand: float = 0.0, level: float = 20.0) -> Account:
    """Fills in ten seconds, and has been watched for long."""
    one = Account(0, own, own, 10.0, level, 100.0, 50.0, 1, estimated_at=100.0, demand=demand)
    one.resize()
    return one


def test_a_lender_keeps_what_its_demand_needs_and_never_less_than_a_token() -> None:
    assert lending.spare(account(demand=0.5), 20.0, 0.0, 100.0) == 15.0
    assert lending.spare(account(), 20.0, 0.0, 100.0) == 19.0
    assert lending.spare(account(demand=0.5), 20.0, 12.0, 100.0) == 3.0
    assert lending.spare(account(demand=9.0), 20.0, 0.0, 100.0) == 0.0


def test_a_lender_that_knows_nothing_yet_gives_half_of_what_is_full() -> None:
    new = account()
    new.opened_at = 100.0
    assert lending.spare(new, 20.0, 0.0, 100.0) == 10.0
    new.level = 5.0
    assert lending.spare(new, 20.0, 0.0, 100.0) == 0.0


def test_demand_is_a_mean_at_first_and_then_forgets() -> None:
    one = account()
    one.opened_at = one.estimated_at = 100.0
    one.arrivals = 10
    lending.estimate(one, 100.5)
    assert one.demand == pytest.approx(20.0)
    for step in range(1, 200):
        lending.estimate(one, 100.5 + step * 0.1)
    assert one.demand < 0.01


def test_who_has_most_to_spare_is_asked_first_and_nobody_more_often_than_agreed() -> None:
    one = account(demand=5.0, level=0.0)
    one.short_at = 100.0
    one.lines = {"b": Line(spare=3.0), "c": Line(spare=30.0), "d": Line(spare=50.0, ask_after=101.0)}
    plan = lending.asks(one, "key", "a", ["b", "c", "d"], 50.0, 2.0, 100.0)
    assert plan == [("c", 30.0), ("b", 30.0 - 50.0 / 4)]


def test_nobody_is_asked_for_a_key_that_is_not_short() -> None:
    assert lending.asks(account(), "key", "a", ["b", "c"], 50.0, 2.0, 100.0) == []


def test_a_loan_is_renewed_at_half_its_time_and_the_smallest_go_first_when_there_is_too_much() -> None:
    one = account()
    one.lines = {
        "b": Line(tokens=10.0, until=101.5),
        "c": Line(tokens=4.0, until=100.9),
        "d": Line(tokens=9.0, until=100.5),
    }
    one.resize()
    plan = dict(lending.asks(one, "key", "a", [], 33.0, 2.0, 100.0))
    assert plan == {"c": 0.0, "d": 3.0}, "ten tokens too many"


def test_pauses_grow_with_refusals_and_silence() -> None:
    assert lending.pause_seconds(Line(refused=1)) < lending.pause_seconds(Line(refused=2))
    assert lending.pause_seconds(Line(refused=50)) == lending.REFUSED_SECONDS_MAX
    assert lending.patience_seconds(Line(silent=50)) == lending.SILENT_SECONDS_MAX
    assert lending.pause_seconds(Line(spare=5.0)) == 0.0
