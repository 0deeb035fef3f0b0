import pytest

from meridian.core.granting.account import Account
from meridian.core.granting.shares import Cut, Rule, Share, Value, share_of, tokens_by_place
from meridian.core.granting.tables import EPOCHS_MAX, EVICTION_TRIES, Epoch, Table, settle_account

CUT = Cut(seats=12, slices=1, homes=4, alone_max=6)
PLACES = tokens_by_place(CUT, Value(0, 1, Rule(12.0, 120)))  # ten tokens a seat


def epoch(number: int, since: float, seats: int) -> Epoch:
    return Epoch(number, since, share_of(CUT, PLACES, range(seats), [], 0), fill=10.0)


def account(level: float, at: float, number: int) -> Account:
    one = Account(0, 20.0, 20.0, 10.0, level, at, at, number)
    one.resize()
    return one


def test_a_greater_share_brings_no_tokens() -> None:
    table = Table(0, unseen=0.0)
    table.settle([epoch(1, 0.0, seats=2)])
    table.set_level("key", 5.0, 100.0)
    table.settle([epoch(1, 0.0, seats=2), epoch(2, 100.0, seats=4)])
    assert table.level("key", 100.0) == pytest.approx(5.0)
    assert table.level("key", 101.0) == pytest.approx(9.0), "four seats give four tokens a second"
    assert table.level("never seen", 100.0) == pytest.approx(20.0), "it was full under the old share"


def test_a_smaller_share_has_room_for_less() -> None:
    table = Table(0, unseen=0.0)
    table.settle([epoch(1, 0.0, seats=4), epoch(2, 100.0, seats=1)])
    assert table.level("never seen", 100.0) == pytest.approx(10.0)


def test_shares_that_were_missed_are_gone_through_one_by_one() -> None:
    epochs = [epoch(1, 0.0, seats=4), epoch(2, 100.0, seats=1), epoch(3, 105.0, seats=4)]
    table = Table(0, unseen=0.0)
    table.settle(epochs[:1])
    table.set_level("key", 0.0, 100.0)
    late = account(0.0, 100.0, 1)
    table.settle(epochs)
    settle_account(late, epochs, 106.0)
    assert table.level("key", 106.0) == pytest.approx(5.0 + 4.0)
    assert late.level == pytest.approx(5.0 + 4.0)


def test_no_seats_no_tokens_and_none_when_they_come_back() -> None:
    table = Table(0, unseen=0.0)
    table.settle([epoch(1, 0.0, seats=2), Epoch(2, 50.0, Share(), 10.0)])
    assert table.level("key", 60.0) == 0.0
    table.settle([Epoch(2, 50.0, Share(), 10.0), epoch(3, 70.0, seats=2)])
    assert table.level("key", 70.0) == 0.0
    assert table.level("key", 71.0) == pytest.approx(2.0)


def test_whoever_missed_too_many_shares_starts_empty() -> None:
    table = Table(0, unseen=0.0)
    table.settle([epoch(1, 0.0, seats=2)])
    epochs = [epoch(number, 100.0 + number, seats=2) for number in range(4, 4 + EPOCHS_MAX)]
    late = account(20.0, 100.0, 1)
    table.settle(epochs)
    settle_account(late, epochs, epochs[-1].since)
    assert table.level("key", epochs[-1].since) == 0.0
    assert late.level == 0.0


def test_only_full_keys_are_forgotten() -> None:
    table = Table(0, unseen=0.0)
    table.settle([epoch(1, 0.0, seats=1)])
    for index in range(EVICTION_TRIES):
        table.set_level(f"{index}", 3.0, 100.0)
    assert not table.evict(106.0)
    assert table.evict(107.1)
    assert len(table.keys) == EVICTION_TRIES - 1
