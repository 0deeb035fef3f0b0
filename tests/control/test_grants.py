"""Seats: never two nodes on one, and a node keeps its own."""

import asyncio
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.control.parts import KEYS, FlakyStore, running
from tests.simulation.virtual import run_virtual

from meridian.control.disk import NoDisk
from meridian.control.grants import Cut, Grants, Seat
from meridian.core.limiting import share
from meridian.store.port import Put


class Memory(NoDisk):
    """A disk that outlives the node."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    async def save(self, name: str, content: bytes) -> None:
        self.kept[name] = content

    async def load(self, name: str) -> bytes | None:
        return self.kept.get(name)


def build(store: FlakyStore, name: str, disk: NoDisk, cut: Cut = Cut(3, 2)) -> tuple[Grants, list[Seat | None]]:  # noqa: B008  # frozen
    told: list[Seat | None] = []
    return Grants(store, KEYS, name, cut, disk, told.append), told


@given(st.integers(1, 7), st.integers(1, 9), st.integers(1, 200))
def test_the_seats_of_a_cut_are_all_spenders_once_and_odd_tokens_go_round(seats: int, slices: int, burst: int) -> None:
    cut = Cut(seats, slices)
    indexes = [index for seat in range(seats) for index in Seat(seat, cut).indexes]
    assert Counter(indexes) == Counter(range(seats * slices))
    tokens = [
        sum(share(1.0, burst, seats * slices, index, 0.0).burst for index in Seat(seat, cut).indexes)
        for seat in range(seats)
    ]
    assert sum(tokens) == burst
    assert max(tokens) - min(tokens) <= 1


def test_each_node_takes_a_seat_and_one_too_many_gets_none() -> None:
    async def story() -> None:
        store = FlakyStore(asyncio.get_running_loop().time)
        nodes = [build(store, name, NoDisk()) for name in "abcd"]
        async with running(*(grants.run() for grants, _ in nodes)):
            await asyncio.sleep(1.0)
            seats = [grants.seat.index for grants, _ in nodes if grants.seat is not None]
            assert sorted(seats) == [0, 1, 2]
            ((name, out),) = [(n, g) for n, (g, _) in zip("abcd", nodes, strict=True) if g.seat is None]
            assert "all 3 seats are taken" in out.detail
            await store.txn([], [Put(KEYS.limit("seats", "0"), name.encode())])  # an operator's hand
            await asyncio.sleep(11.0)
            assert out.seat == Seat(0, Cut(3, 2))
            assert [told[-1] for grants, told in nodes if grants.seat is None] == [None]

    run_virtual(story)


def test_a_node_keeps_its_seat_over_restarts_and_without_the_store() -> None:
    async def story() -> None:
        store, disk = FlakyStore(asyncio.get_running_loop().time), Memory()
        first, told = build(store, "a", disk)
        async with running(first.run()):
            await asyncio.sleep(0.5)
            store.away = True
            await asyncio.sleep(60.0)
            assert told == [Seat(0, Cut(3, 2))]
            assert "the seat is kept" in first.detail
        again, told_again = build(store, "a", disk)
        await again.load()
        async with running(again.run()):
            await asyncio.sleep(5.0)
            assert told_again == [Seat(0, Cut(3, 2))]
            store.away = False
            await asyncio.sleep(5.0)
            assert (again.seat, again.detail) == (Seat(0, Cut(3, 2)), "")
            assert told_again == [Seat(0, Cut(3, 2))]

    run_virtual(story)


def test_another_configuration_is_reported_and_not_applied() -> None:
    async def story() -> None:
        store = FlakyStore(asyncio.get_running_loop().time)
        first, _ = build(store, "a", NoDisk())
        second, _ = build(store, "b", NoDisk(), Cut(5, 4))
        async with running(first.run()):
            await asyncio.sleep(0.5)
        async with running(second.run()):
            await asyncio.sleep(0.5)
            assert second.seat == Seat(1, Cut(3, 2))
            assert "says 5 of 4, which is not applied" in second.detail

    run_virtual(story)


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_lost_answers_never_give_one_seat_to_two(lost: int) -> None:
    async def story() -> None:
        store = FlakyStore(asyncio.get_running_loop().time)
        store.lose_answers = lost
        nodes = [build(store, name, NoDisk()) for name in "abc"]
        async with running(*(grants.run() for grants, _ in nodes)):
            await asyncio.sleep(10.0)
            assert sorted(grants.seat.index for grants, _ in nodes if grants.seat is not None) == [0, 1, 2]

    run_virtual(story)
