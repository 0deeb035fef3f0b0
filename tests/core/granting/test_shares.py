import pytest
from hypothesis import given
from hypothesis import strategies as st

from meridian.core.granting.shares import (
    Cut,
    Rule,
    Share,
    Value,
    digest,
    fill_seconds,
    owner,
    share_of,
    switchable,
    tokens,
    tokens_by_place,
)

CUT = Cut(seats=12, slices=2, homes=4, alone_max=6)


def share(value: Value, seat: int, slot: int) -> Share:
    return share_of(CUT, tokens_by_place(CUT, value), [seat], [], slot)


@given(st.integers(1, 5000), st.integers(0, 23))
def test_the_slices_of_a_key_hold_exactly_the_burst(burst: int, class_: int) -> None:
    value = Value(0, 1, Rule(10.0, burst))
    shares = [share(value, seat, slot) for seat in range(CUT.seats) for slot in range(CUT.slices)]
    assert sum(one.own(class_) for one in shares) == burst


@given(st.integers(7, 5000), st.integers(0, 23))
def test_shared_tokens_lie_evenly(burst: int, place: int) -> None:
    assert abs(tokens(CUT, Rule(1.0, burst), place) - burst / CUT.ring) < 1


@given(st.integers(1, 6), st.text())
def test_a_small_burst_has_one_owner_and_all_agree_who(burst: int, key: str) -> None:
    value = Value(0, 1, Rule(1.0, burst))
    place = owner(CUT, value, digest("limit", key))
    assert place is not None
    assert share(value, *place).own(digest("limit", key) % CUT.ring) == burst


def test_a_shared_limit_has_no_owner() -> None:
    assert owner(CUT, Value(0, 1, Rule(1.0, 7)), 5) is None
    assert owner(CUT, Value(0, 2, Rule(1.0, 6), Rule(1.0, 7)), 5) is None


@given(st.integers(1, 500), st.integers(1, 500), st.floats(0.1, 100), st.floats(0.1, 100))
def test_while_a_limit_changes_both_bounds_hold(b1: int, b2: int, r1: float, r2: float) -> None:
    value = Value(0, 2, Rule(r1, b1), Rule(r2, b2))
    held = sum(tokens_by_place(CUT, value))
    assert held <= min(b1, b2)
    assert held / fill_seconds(CUT, value) <= min(r1, r2) / 1.00999


def test_home_seats_are_told_apart() -> None:
    value = Value(0, 1, Rule(1.0, 240))
    both = share_of(CUT, tokens_by_place(CUT, value), [1], [5, 7], 0)
    assert (both.home(3), both.own(3)) == (10, 30)


def test_a_value_comes_into_force_when_every_holder_acknowledged_it() -> None:
    value = Value(1, 3, Rule(1.0, 10), Rule(2.0, 20))
    assert not switchable(value, ["a", "b"], {"a": (1, 3)}, frozen=False)
    assert not switchable(value, ["a"], {"a": (0, 9)}, frozen=False), "of an earlier generation"
    assert switchable(value, ["a", "b"], {"a": (1, 3), "b": (1, 4)}, frozen=False)
    assert not switchable(value, ["a", "b"], {"a": (1, 3), "b": (1, 4)}, frozen=True)


def test_a_loan_must_fit_into_a_lease() -> None:
    with pytest.raises(ValueError, match="a loan must fit"):
        Cut(lease_seconds=4.0, loan_seconds=2.0)


@pytest.mark.parametrize("wrong", [{"homes": 0}, {"homes": 17}, {"slices": 0}])
def test_a_cut_of_nothing_is_none(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"seats|slices"):
        Cut(**wrong)
