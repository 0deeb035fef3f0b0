import pytest

from meridian.core.granting.account import Account, Line
from meridian.core.granting.messages import Ask, Grant


def account(own: float = 20.0, level: float = 20.0) -> Account:
    """Fills at two tokens a second, of twenty."""
    one = Account(0, own, own / 2, 10.0, level, 100.0, 100.0, 1)
    one.resize()
    return one


def ask(serial: int, borrower: str = "b/0", kept: int = 0) -> Ask:
    return Ask("limit", "key", borrower, 1, "a/0", serial, kept, 5.0, (0, 1))


def test_lending_clamps_the_level_and_its_end_brings_none_back() -> None:
    one = account()
    one.lend(ask(1), 15.0, until=110.0)
    assert (one.cap, one.level) == (5.0, 5.0)
    one.settle(110.0)
    assert (one.cap, one.level) == (20.0, 5.0)
    one.settle(111.0)
    assert one.level == pytest.approx(7.0)


def test_each_loan_ends_at_its_own_time_however_late_that_is_noticed() -> None:
    one = account(level=0.0)
    one.lend(ask(1), 10.0, until=101.0)
    one.lend(ask(2, "c/0"), 10.0, until=103.0)
    assert one.cap == 0.0
    one.settle(105.0)
    assert one.level == pytest.approx(0.0 + 2 * 1.0 + 2 * 2.0)


def test_of_several_loans_to_one_borrower_the_greatest_is_withheld() -> None:
    one = account()
    one.lend(ask(1), 10.0, until=102.0)
    one.lend(ask(2), 4.0, until=103.0)
    assert one.withheld == 10.0
    one.forget_below(("b/0", 1), kept=2)
    assert one.withheld == 4.0
    one.forget_below(("b/0", 2), kept=9)
    assert one.withheld == 4.0, "another incarnation speaks for itself only"


def test_a_new_loan_takes_the_place_of_the_old_one_on_its_line() -> None:
    one = account()
    line = one.lines.setdefault("b/0", Line())
    one.accept(line, Grant("limit", "key", "a/0", 1, "b/0", 1, 8.0, 0.0), until=102.0)
    one.accept(line, Grant("limit", "key", "a/0", 1, "b/0", 2, 6.0, 0.0), until=103.0)
    assert (one.held, one.cap, one.level) == (6.0, 26.0, 20.0)
    one.settle(103.0)
    assert (one.cap, one.level) == (20.0, 20.0)


def test_a_refusal_says_when_a_token_is_there() -> None:
    one = account(level=0.5)
    assert one.admit(100.0) == pytest.approx(0.25)
    assert account(own=0.0, level=0.0).admit(100.0) == float("inf")
