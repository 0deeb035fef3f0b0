"""The parts of a key sum to the whole, and a change of the whole needs no second phase."""

from hypothesis import given
from hypothesis import strategies as st

from meridian.core.metering.portions import NOTHING, Portion, digest

_amounts = st.integers(0, 10_000)


@given(_amounts, st.integers(1, 64), st.text(max_size=8), st.data())
def test_parts_sum_to_the_whole_however_slices_are_held(
    amount: int, spenders: int, key: str, data: st.DataObject
) -> None:
    holders = [data.draw(st.integers(0, 3)) for _ in range(spenders)]
    portions = [Portion(spenders, tuple(i for i, who in enumerate(holders) if who == one)) for one in range(4)]
    assert sum(portion.own(amount, digest("limit", key)) for portion in portions) == amount


@given(_amounts, _amounts, st.integers(1, 64), st.integers(0, 2**32 - 1), st.data())
def test_while_some_know_the_new_whole_all_stay_within_the_greater(
    old: int, new: int, spenders: int, turn: int, data: st.DataObject
) -> None:
    parts = [Portion(spenders, (i,)).own(data.draw(st.sampled_from([old, new])), turn) for i in range(spenders)]
    assert sum(parts) <= max(old, new)


def test_without_slices_there_is_nothing() -> None:
    assert NOTHING.own(1000, 7) == 0
