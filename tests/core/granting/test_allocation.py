"""The agent's seats, in conversation with a store that is written down here."""

from collections.abc import Iterable
from dataclasses import replace

import pytest

from meridian.core.granting.allocation import Allocation, deadline, started, step, target
from meridian.core.granting.seats import (
    Acknowledge,
    AskLease,
    Command,
    Confirmed,
    Event,
    Free,
    KeepLease,
    Leased,
    LeaseFailed,
    Leave,
    Listed,
    NotTaken,
    Save,
    Seat,
    Take,
    Taken,
    Tell,
    Woke,
    WorkerStarted,
)
from meridian.core.granting.shares import Cut, Rule, Value

CUT = Cut(seats=4, slices=1, homes=2, alone_max=2)
VALUES = {"limit": Value(0, 1, Rule(10.0, 40))}


class Agent:
    """Holds the state; `>>` is `hear`, `<<` is what it returns."""

    def __init__(self, homes: Iterable[int] = ()) -> None:
        self.state: Allocation = started(CUT, "a", "a#1", frozenset(homes), VALUES)

    def hear(self, event: Event, now: float) -> list[Command]:
        outcome = step(self.state, event, now)
        self.state = outcome.state
        return list(outcome.commands)

    def seated(self) -> "Agent":
        """With home seat 0 and leased seats 2 and 3, confirmed."""
        commands = self.hear(listed(), 0.0) + self.hear(Leased(7, 0.0), 0.1)
        for take in takes(commands):
            self.hear(Taken(take.seat, take.nonce, VALUES), 0.2)
        self.hear(Confirmed(0, "a#1", self.state.told.sequence), 0.3)
        return self


def listed(
    seats: dict[int, Seat] | None = None, members: tuple[str, ...] = ("a",), generation: int = 0, frozen: bool = False
) -> Listed:
    return Listed(generation, frozen, seats or {}, VALUES, members)


def takes(commands: list[Command]) -> list[Take]:
    return [command for command in commands if isinstance(command, Take)]


def tells(commands: list[Command]) -> list[Tell]:
    return [command for command in commands if isinstance(command, Tell)]


@pytest.mark.parametrize("members", [("a",), ("a", "b"), ("a", "b", "c"), tuple("abcdefgh")])
def test_targets_sum_to_all_seats(members: tuple[str, ...]) -> None:
    assert sum(target(members, node, 12) for node in members) == 12


def test_home_seats_on_disk_are_told_before_the_store_says_anything() -> None:
    told = tells(Agent(homes=[1]).hear(WorkerStarted(0), 0.0) + Agent(homes=[1]).hear(Woke(), 0.0))
    assert told[-1].allowance.home == {1}


def test_a_node_takes_a_home_and_its_part_of_the_seats() -> None:
    agent = Agent()
    first = agent.hear(listed(), 0.0)
    assert AskLease() in first
    assert [(take.home, take.lease, take.expected) for take in takes(first)] == [(True, 0, None)]
    more = takes(agent.hear(Leased(7, 0.0), 0.1))
    assert {(take.home, take.lease) for take in more} == {(False, 7)}


def test_a_seat_counts_only_after_the_stores_yes_and_is_saved_before_it_is_told() -> None:
    agent = Agent()
    take = takes(agent.hear(listed(), 0.0))[0]
    assert not agent.state.held
    commands = agent.hear(Taken(take.seat, take.nonce, VALUES), 0.1)
    kinds = [type(command) for command in commands]
    assert kinds.index(Save) < kinds.index(Tell)
    assert tells(commands)[0].allowance.home == {take.seat}


def test_an_unknown_answer_is_no_and_a_late_yes_to_it_too() -> None:
    agent = Agent()
    take = takes(agent.hear(listed(), 0.0))[0]
    agent.hear(NotTaken(take.seat, take.nonce), 0.1)
    agent.hear(Taken(take.seat, take.nonce, VALUES), 0.2)
    assert not agent.state.held


def test_a_seat_seen_under_its_own_name_is_stamped_anew() -> None:
    agent = Agent()
    take = takes(agent.hear(listed({1: Seat("a", "old", True)}), 0.0))[0]
    assert (take.seat, take.expected, take.home) == (1, "old", True)
    assert take.nonce != "old"


def test_a_lease_is_counted_from_asking_for_less_than_the_store_keeps_it() -> None:
    agent = Agent().seated()
    assert agent.state.told.leased
    assert agent.state.told.until == pytest.approx(10.0 * 0.99 / 1.01)
    agent.hear(Leased(7, 3.0), 3.4)
    assert agent.state.told.until == pytest.approx(3.0 + 10.0 * 0.99 / 1.01)
    agent.hear(Woke(), 20.0)
    assert agent.state.told.leased == frozenset()
    assert agent.state.told.home


def test_a_lease_that_is_gone_takes_its_seats_and_those_on_their_way_with_it() -> None:
    agent = Agent()
    agent.hear(listed(), 0.0)
    way = takes(agent.hear(Leased(7, 0.0), 0.1))[0]
    agent.hear(Woke(), 4.0)
    assert AskLease() not in agent.hear(LeaseFailed(6, gone=True), 4.1), "not this one"
    agent.hear(LeaseFailed(7, gone=True), 4.2)
    agent.hear(Taken(way.seat, way.nonce, VALUES), 4.3)
    assert way.seat not in agent.state.held


def test_the_lease_is_renewed_in_time() -> None:
    agent = Agent().seated()
    when = deadline(agent.state)
    assert when == pytest.approx(2.5)
    assert KeepLease(7) in agent.hear(Woke(), 2.5)


def test_a_seat_is_given_back_only_after_all_workers_do_without_it() -> None:
    agent = Agent().seated()
    seats = {seat: Seat("a", one.nonce, one.home) for seat, one in agent.state.held.items()}
    commands = agent.hear(listed(seats, members=("a", "b")), 1.0)
    assert not any(isinstance(command, Free) for command in commands)
    told = tells(commands)[-1].allowance
    assert len(told.leased) < 3
    stale = agent.hear(Confirmed(0, "a#0", told.sequence), 1.1)
    assert not any(isinstance(command, Free) for command in stale), "an earlier agent's allowance"
    freed = [command for command in agent.hear(Confirmed(0, "a#1", told.sequence), 1.2) if isinstance(command, Free)]
    assert freed
    assert all(command.nonce == seats[command.seat].nonce for command in freed)
    assert all(command.seat not in agent.state.told.leased for command in freed)


def test_a_worker_that_started_has_confirmed_nothing() -> None:
    agent = Agent().seated()
    agent.hear(WorkerStarted(0), 1.0)
    agent.hear(Leave(), 1.1)
    assert agent.state.held, "nobody knows what the one before it lent"


def test_who_leaves_clears_its_disk_before_it_gives_its_home_back() -> None:
    agent = Agent().seated()
    commands = agent.hear(Leave(), 1.0)
    saves = [command for command in commands if isinstance(command, Save)]
    assert saves[-1].home == frozenset()
    freed = agent.hear(Confirmed(0, "a#1", agent.state.told.sequence), 2.0)
    assert len([command for command in freed if isinstance(command, Free)]) == 3
    assert deadline(agent.state) is None


def test_a_value_is_acknowledged_after_all_workers_keep_to_it() -> None:
    agent = Agent().seated()
    seats = {seat: Seat("a", one.nonce, one.home) for seat, one in agent.state.held.items()}
    value = replace(VALUES["limit"], version=2, following=Rule(5.0, 20))
    commands = agent.hear(replace(listed(seats), values={"limit": value}), 1.0)
    assert Acknowledge("limit", (0, 2)) not in commands
    assert Acknowledge("limit", (0, 2)) in agent.hear(Confirmed(0, "a#1", agent.state.told.sequence), 1.1)


def test_in_a_restored_store_old_leases_are_waited_for_and_homes_are_their_holders() -> None:
    agent = Agent().seated()
    home = next(seat for seat, one in agent.state.held.items() if one.home)
    other = 1 - home
    commands = agent.hear(listed({home: Seat("gone", "x", True)}, generation=1, frozen=True), 5.0)
    assert agent.state.told.leased == frozenset()
    claims = takes(commands)
    assert [(take.seat, take.expected) for take in claims] == [(home, "x")], "it is on its disk"
    agent.hear(Taken(home, claims[0].nonce, VALUES), 5.1)
    assert not takes(agent.hear(Leased(9, 5.0), 5.2)), "an old lease may be out"
    later = takes(agent.hear(Leased(9, 15.1), 5.0 + 10.0 * CUT.spread + 0.01))
    assert later
    assert other not in {take.seat for take in later}, "it may be the home of one who is not back"


def test_a_listing_of_an_earlier_generation_is_not_heard() -> None:
    agent = Agent()
    agent.hear(listed(generation=2), 0.0)
    agent.hear(listed(generation=1), 0.1)
    assert agent.state.generation == 2


def test_a_listing_from_before_a_home_was_taken_does_not_cost_it() -> None:
    agent = Agent()
    take = takes(agent.hear(listed(), 0.0))[0]
    agent.hear(Taken(take.seat, take.nonce, VALUES), 0.1)
    agent.hear(listed(), 0.2)  # a watch that lags
    assert agent.state.told.home == {take.seat}
    agent.hear(listed({take.seat: Seat("a", take.nonce, True)}), 0.3)
    assert agent.state.told.home == {take.seat}
    agent.hear(listed(), 0.4)  # an operator gave it away
    assert not agent.state.told.home


def test_a_home_that_another_has_is_lost_whether_it_was_listed_or_not() -> None:
    agent = Agent()
    take = takes(agent.hear(listed(), 0.0))[0]
    agent.hear(Taken(take.seat, take.nonce, VALUES), 0.1)
    agent.hear(listed({take.seat: Seat("b", "b#1-0", True)}, ("a", "b")), 0.2)
    assert not agent.state.told.home
