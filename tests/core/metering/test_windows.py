"""One worker's part of a window: what it admits, remembers, lends and hands over."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from meridian.core.granting.messages import Ask, Grant
from meridian.core.metering.portions import ALL, NEVER, NOTHING, Portion
from meridian.core.metering.windows import SLOTS, Terms, Windows

TERMS = Terms(4, 10.0, loan_seconds=2.0)


LONG_AGO = -1e9


def since(portion: Portion, at: float = LONG_AGO) -> dict[int, float]:
    return dict.fromkeys(portion.indexes, at)


def windows(terms: Terms = TERMS, portion: Portion = ALL, address: str = "a/0", keys_max: int = 1000) -> Windows:
    one = Windows("few", terms, address, 1, keys_max)
    one.take(portion, since(portion))
    return one


@given(st.integers(1, 200), st.lists(st.floats(0, 3), min_size=1, max_size=300), st.floats(0.99, 1.01))
def test_no_window_has_more_than_its_part(amount: int, gaps: list[float], rate: float) -> None:
    one = windows(Terms(amount, 10.0))
    now, admitted = 0.0, []
    for gap in gaps:
        now += gap
        for _ in range(5):
            if one.admit("k", now * rate) == 0.0:
                admitted.append(now)
    for first, later in zip(admitted, admitted[amount:], strict=False):
        assert later - first >= 10.0


@given(st.integers(1, 400))
def test_what_the_window_allows_is_admitted_and_again_a_window_later(amount: int) -> None:
    one = windows(Terms(amount, 10.0))
    assert [one.admit("k", 100.0) for _ in range(amount)] == [0.0] * amount
    wait = one.admit("k", 100.0)
    assert 10.0 < wait <= 10.0 * (1.01 + 1 / SLOTS) + 1e-6
    assert [one.admit("k", 100.0 + wait) for _ in range(amount)] == [0.0] * amount


def test_a_process_that_knows_nothing_waits_for_what_its_predecessor_may_have_spent_and_lent() -> None:
    one = Windows("few", TERMS)
    one.take(ALL, {0: 50.0})
    assert 12.1 < one.admit("k", 50.0) < 12.2, "a window, and a loan before it, by the slowest clock"
    assert one.admit("k", 62.2) == 0.0


def test_one_that_hands_over_loses_nothing_and_frees_nothing() -> None:
    old = windows()
    for now in (1.0, 2.0, 2.0):
        assert old.admit("k", now) == 0.0
    new = Windows("few", TERMS, "a/0", 2)
    new.resume(old.handover())
    new.take(ALL, since(ALL))
    assert [new.admit("k", 3.0) == 0.0 for _ in range(2)] == [True, False]
    assert old.admit("other", 3.0) == NEVER and new.admit("other", 3.0) == 0.0


def test_a_slice_that_is_taken_away_and_given_back_counts_as_anothers() -> None:
    one = windows(portion=Portion(2, (0, 1)))
    one.take(Portion(2, (0,)), {0: LONG_AGO})
    one.take(Portion(2, (0, 1)), {0: LONG_AGO, 1: 6.0})
    assert [one.admit("k", 7.0) == 0.0 for _ in range(3)] == [True, True, False]
    assert (one.look("k", 17.5)[0], one.look("k", 18.2)[0]) == (2.0, 4.0)


def test_a_change_of_the_amount_keeps_what_was_counted() -> None:
    one = windows()
    assert [one.admit("k", 1.0) for _ in range(4)] == [0.0] * 4
    one.change(5)
    assert one.admit("k", 1.0) == 0.0 < one.admit("k", 1.0)
    one.change(2)
    assert one.admit("k", 9.0) > 0.0
    assert one.admit("k", 11.2) == 0.0


def short(borrower: Windows, now: float) -> Ask:
    """It is refused, and asks."""
    borrower.peers = ["b/0"]
    assert borrower.admit("k", now) > 0.0
    (ask,) = borrower.poll(now)
    return ask


def test_a_loan_is_booked_by_the_lender_and_spent_once() -> None:
    borrower, lender = windows(portion=Portion(2, ())), windows(portion=Portion(2, (0, 1)), address="b/0")
    ask = short(borrower, 5.0)
    grant = lender.asked(ask, 5.1)
    assert grant is not None and grant.tokens == 1.0
    assert lender.look("k", 5.1)[0] == 3.0 == lender.look("k", 5.1 + TERMS.own_seconds + TERMS.loan_seconds)[0]
    assert lender.look("k", 5.2 + TERMS.lent_seconds)[0] == 4.0
    borrower.granted(grant, 5.2)
    borrower.granted(grant, 5.2)
    assert borrower.admit("k", 5.3) == 0.0 < borrower.admit("k", 5.3), "an answer counts once"


def test_a_loan_ends_counted_from_asking() -> None:
    borrower, lender = windows(portion=Portion(2, ())), windows(portion=Portion(2, (0, 1)), address="b/0")
    late = lender.asked(short(borrower, 5.0), 5.1)
    assert late is not None
    borrower.granted(late, 7.0)
    assert borrower.admit("k", 7.0) > 0.0, "it came two seconds after the ask"
    again = lender.asked(borrower.poll(7.2)[0], 7.2)
    assert again is not None and again.tokens
    borrower.granted(again, 7.3)
    assert borrower.look("k", 9.1)[0] == 1.0 > borrower.look("k", 9.3)[0]


def test_who_is_short_or_counts_otherwise_lends_nothing() -> None:
    borrower, lender = windows(portion=Portion(2, ())), windows(portion=Portion(2, (0, 1)), address="b/0")
    ask = short(borrower, 5.0)
    assert lender.asked(replace(ask, order=(60_000, 0)), 5.0) is None
    assert lender.asked(ask, 5.0) is not None and lender.asked(ask, 5.0) is None, "a doubled ask books once"
    lender.peers = ["a/0"]
    for _ in range(4):
        lender.admit("k", 5.0)
    refused = lender.asked(replace(ask, serial=9), 5.0)
    assert refused is not None and refused.tokens == 0.0
    borrower.granted(Grant("few", "k", "a/0", 99, "b/0", ask.serial, 5.0, 0.0), 5.1)
    assert borrower.admit("k", 5.1) > 0.0, "an answer to a predecessor"


def test_a_full_table_refuses_new_keys_and_forgets_only_what_is_free() -> None:
    one = windows(keys_max=2)
    assert one.admit("a", 1.0) == one.admit("b", 2.0) == 0.0
    assert one.admit("c", 3.0) > 0.0 and one.refused_for_room
    assert one.admit("c", 11.5) == 0.0, "a is free"
    one.take(NOTHING, {})
    assert one.admit("d", 11.5) == NEVER


def test_an_answer_from_afar_counts_though_more_was_asked_for_meanwhile() -> None:
    terms = Terms(40, 10.0)
    borrower, lender = windows(terms, Portion(2, ())), windows(terms, Portion(2, (0, 1)), address="b/0")
    borrower.peers = ["b/0"]
    under_way: list[tuple[float, Grant | None]] = []
    admitted = 0
    for tick in range(100):
        now = 5.0 + tick * 0.05
        admitted += borrower.admit("k", now) == 0.0
        under_way += [(now + 0.25, lender.asked(ask, now + 0.12)) for ask in borrower.poll(now)]
        for due, grant in under_way:
            if grant is not None and due <= now < due + 0.05:
                borrower.granted(grant, now)
    assert admitted > 20, "of the 40 that the lender has and does not want"
