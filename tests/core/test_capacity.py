"""Shares by example, as properties of one decision, and in a loop with clients who follow late."""

from dataclasses import dataclass, field, replace
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meridian.core.capacity import (
    FILL,
    FULL,
    PARTS,
    SETTLE_SECONDS,
    STEP_PARTS,
    STEP_SECONDS,
    Room,
    Share,
    capacity_of,
    loads,
    share_out,
    smoothed,
)
from meridian.core.health import Sight
from meridian.core.standings import Evidence, Heard, Member, NodeVerdict, RegionVerdict, Report, Standing, Verdict

NOW = 1000.0
WHOLE = Share(1.0, 0.0, float("-inf"))


def room(name: str, load: float, capacity: float | None = 1000.0, *, leaving: bool = False, **more: object) -> Room:
    return replace(Room(name, load, capacity, leaving, WHOLE), **more)  # type: ignore[arg-type]  # fields of Room


def parts(*rooms: Room, now: float = NOW) -> dict[str, float]:
    return {name: share.part for name, share in share_out(rooms, now).items()}


def test_who_leaves_goes_at_once_where_the_others_can_carry_it() -> None:
    assert parts(room("a", 500, leaving=True), room("b", 500), room("c", 500)) == {"a": 0.0, "b": 1.0, "c": 1.0}


def test_who_leaves_goes_by_a_quarter_where_they_cannot() -> None:
    assert parts(room("a", 800, leaving=True), room("b", 600), room("c", 600))["a"] == 0.75
    before = Share(0.75, 800.0, NOW - STEP_SECONDS)
    b, c = room("b", 700), room("c", 700)
    assert parts(room("a", 600, leaving=True, before=before), b, c)["a"] == 0.5
    late = replace(before, part=0.55)  # 400 of 2000 could be carried: 0.5 of 800 must stay
    assert parts(room("a", 440, leaving=True, before=late), room("b", 780), room("c", 780))["a"] == 0.5


def test_nothing_moves_before_the_step_is_over() -> None:
    before = Share(0.75, 800.0, NOW - STEP_SECONDS + 0.1)
    assert parts(room("a", 600, leaving=True, before=before), room("b", 100), room("c", 100))["a"] == 0.75


def test_who_leaves_takes_back_what_the_others_cannot_carry_any_more() -> None:
    gone = Share(0.0, 800.0, NOW - 60.0)
    assert parts(room("a", 0, leaving=True, before=gone), room("b", 900), room("c", 900))["a"] == 0.0
    back = share_out([room("a", 0, leaving=True, before=gone), room("b", 960), room("c", 990)], NOW)["a"]
    assert back == Share(0.25, 800.0, NOW)


def test_a_region_that_gets_too_much_gives_away_what_others_have_room_for() -> None:
    assert parts(room("a", 990), room("b", 300)) == {"a": 0.8, "b": 1.0}
    assert parts(room("a", 940), room("b", 300)) == {"a": 1.0, "b": 1.0}
    assert parts(room("a", 990), room("b", 790))["a"] == 1.0  # a twentieth would be 50, and there is room for 10
    assert parts(room("a", 990), room("b", 990)) == {"a": 1.0, "b": 1.0}


def test_what_is_just_taken_back_is_nobodys_room_yet() -> None:
    gone = Share(0.0, 2000.0, NOW - 60.0)
    assert parts(room("a", 0, leaving=True, before=gone), room("b", 990), room("c", 960)) == {
        "a": 0.2, "b": 1.0, "c": 1.0,
    }  # fmt: skip


def test_who_gave_away_takes_it_back_once_less_comes() -> None:
    before = Share(0.8, 990.0, NOW - SETTLE_SECONDS)
    assert parts(room("a", 784, before=before), room("b", 500))["a"] == 0.8
    assert parts(room("a", 400, before=before), room("b", 300))["a"] == 1.0


def test_who_is_called_back_serves_at_once_and_takes_up_by_steps() -> None:
    gone = Share(0.0, 600.0, NOW - 1.0)
    others = room("b", 500), room("c", 500)
    assert parts(room("a", 10, before=gone), *others)["a"] == 0.05
    assert parts(room("a", 10, before=replace(gone, moved=NOW - STEP_SECONDS)), *others)["a"] == 0.25


def test_a_region_that_is_coming_back_keeps_its_share() -> None:
    before = Share(0.4, 800.0, NOW - 100.0)
    assert parts(room("a", 10, leaving=True, before=before, returning=True), room("b", 10))["a"] == 0.4


def test_without_a_declaration_of_all_who_stay_there_is_no_rule() -> None:
    assert share_out([room("a", 800, leaving=True), room("b", 600), room("c", 600, None)], NOW) == {}
    assert share_out([room("a", 800, leaving=True)], NOW) == {}
    assert parts(room("a", 800, None, leaving=True), room("b", 600))["a"] == 0.75  # what leaves need not say


def test_demand_is_what_came_before_until_the_share_has_stood() -> None:
    before = Share(0.5, 800.0, NOW - SETTLE_SECONDS + 0.1)
    rooms = room("a", 700, leaving=True, before=before), room("b", 700)
    assert share_out(rooms, NOW)["a"].demand == 800.0
    assert share_out(rooms, NOW + 0.2)["a"].demand == 1400.0
    grown = replace(rooms[0], load=900.0), rooms[1]
    assert share_out(grown, NOW)["a"].demand == 900.0


@pytest.mark.parametrize(
    ("declared", "nodes", "capacity"),
    [
        (None, [100.0, 200.0], 300.0),
        (250.0, [100.0, 200.0], 250.0),
        (500.0, [100.0, 200.0], 300.0),
        (500.0, [100.0, 0.0], 500.0),
        (None, [100.0, 0.0], None),
        (None, [], None),
        (500.0, [], 500.0),
    ],
)
def test_a_region_carries_what_its_nodes_do_and_at_most_its_own(
    declared: float | None, nodes: list[float], capacity: float | None
) -> None:
    assert capacity_of(declared, nodes) == capacity


def test_smoothing_reaches_a_new_load_in_some_seconds_however_often_it_is_sampled() -> None:
    often = rarely = 0.0
    for _ in range(20):
        often = smoothed(often, 100.0, 0.5)
    for _ in range(5):
        rarely = smoothed(rarely, 100.0, 2.0)
    assert often == pytest.approx(rarely)
    assert 80.0 < often < 90.0


def test_the_load_of_a_region_is_that_of_its_nodes_who_speak() -> None:
    def heard(name: str, load: float, made: float) -> Heard:
        return Heard(Report(name, "eu", name, 1, 1, {"b": Sight.UP}, load=load, capacity=500.0), made)

    nodes = {name: NodeVerdict(name, "eu", (), Standing.SERVING) for name in "abc"}
    nodes["d"] = NodeVerdict("d", "eu", (), Standing.WITHDRAWN)
    verdict = Verdict(1, 1, nodes, {"eu": RegionVerdict("eu", Standing.SERVING)})
    told = {"a": heard("a", 100, NOW), "b": heard("b", 50, NOW), "c": heard("c", 70, NOW - 9), "d": heard("d", 3, NOW)}
    found = loads(verdict, Evidence(told, {"a": Member("a", "eu", ())}, frozenset(), 0.0, {"eu": 5000.0}), NOW)["eu"]
    assert (found.load, found.capacity) == (153.0, 1000.0)


# Whatever the regions are

PART = st.integers(0, PARTS).map(lambda part: part / PARTS)


ROOMS_MOVED = st.sampled_from([NOW - 1.0, NOW - 100.0])


@st.composite
def settled(draw: st.DrawFn) -> list[Room]:
    """Regions whose shares have stood for long: what is measured is what the shares make of the demand."""
    found = []
    for index in range(draw(st.integers(2, 5))):
        leaving = draw(st.booleans())
        part = draw(PART)
        demand = draw(st.floats(1.0, 2000.0))
        capacity = draw(st.floats(100.0, 2000.0))
        found.append(Room(f"r{index}", part * demand, capacity, leaving, Share(part, demand, draw(ROOMS_MOVED))))
    return found


@given(settled())
def test_what_is_moved_is_at_most_what_the_others_have_room_for(rooms: list[Room]) -> None:
    after = share_out(rooms, NOW)
    moved = {room.name: (room.before.part - after[room.name].part) * after[room.name].demand for room in rooms if after}
    given_away = sum(load for load in moved.values() if load > 0)
    spare = sum(max(0.0, (room.capacity or 0.0) - room.load) for room in rooms if not room.leaving)
    assert given_away <= spare + 1e-6


@given(settled())
def test_shares_move_by_a_step_and_stay_between_none_and_all(rooms: list[Room]) -> None:
    after = share_out(rooms, NOW)
    for one in rooms:
        if one.name in after:
            part = after[one.name].part
            assert 0.0 <= part <= 1.0
            assert part * PARTS == round(part * PARTS)
            assert part > 0.0 or one.leaving  # who stays is never left out
            assert part == 0.0 or abs(part - one.before.part) <= STEP_PARTS / PARTS + 1e-9


@given(settled(), st.floats(1.0, 500.0))
def test_more_load_elsewhere_never_sends_more_away(rooms: list[Room], more: float) -> None:
    """The share of who leaves is monotone in the load of the others."""
    busy = [one if one.leaving else replace(one, load=one.load + more) for one in rooms]
    leaving = [one.name for one in rooms if one.leaving]
    light, heavy = share_out(rooms, NOW), share_out(busy, NOW)
    if light and len(leaving) == 1:
        assert heavy[leaving[0]].part >= light[leaving[0]].part


@given(settled(), st.randoms())
def test_the_order_in_which_regions_are_told_does_not_matter(rooms: list[Room], random: Random) -> None:
    mixed = list(rooms)
    random.shuffle(mixed)
    first, second = share_out(rooms, NOW), share_out(mixed, NOW)
    assert {name: share.part for name, share in first.items()} == {name: share.part for name, share in second.items()}


# In a loop: what clients do with the shares, late, comes back as load


@dataclass
class Clients:
    """Each region's own demand; a client goes to the next region that keeps him, and follows with a delay."""

    demand: dict[str, float]
    capacity: dict[str, float]
    leaving: set[str] = field(default_factory=set)
    shares: dict[str, Share] = field(default_factory=dict)
    loads: dict[str, float] = field(default_factory=dict)
    follow_seconds: float = 8.0
    now: float = NOW

    def tick(self, seconds: float = 0.5) -> None:
        goal = dict.fromkeys(self.demand, 0.0)
        names = sorted(self.demand)
        for home, demand in self.demand.items():
            at = names.index(home)
            left = demand
            for name in names[at:] + names[:at]:
                part = self.shares[name].part if name in self.shares else 1.0
                goal[name] += left * part
                left -= left * part
            goal[home] += left
        for name in names:
            before = self.loads.get(name, self.demand[name])
            self.loads[name] = before + (goal[name] - before) * min(1.0, seconds / self.follow_seconds)
        rooms = [
            Room(name, self.loads[name], self.capacity[name], name in self.leaving, self.shares.get(name, WHOLE))
            for name in names
        ]
        self.shares = share_out(rooms, self.now)
        self.now += seconds

    def run(self, seconds: float) -> list[dict[str, float]]:
        """Returns each tick's parts."""
        found = []
        for _ in range(int(seconds / 0.5)):
            self.tick()
            found.append({name: share.part for name, share in self.shares.items()})
        return found


THREE = {"a": 800.0, "b": 600.0, "c": 600.0}
EACH = {"a": 1000.0, "b": 1000.0, "c": 1000.0}


def turns(values: list[float]) -> int:
    """How often a sequence changes its direction."""
    steps = [after - before for before, after in pairwise(values) if after != before]
    return sum(one * other < 0 for one, other in pairwise(steps))


@pytest.mark.parametrize("follow_seconds", [0.5, 8.0, 20.0])
def test_a_drain_beyond_the_others_means_goes_down_to_what_they_carry_and_stays(follow_seconds: float) -> None:
    world = Clients(dict(THREE), EACH, {"a"}, follow_seconds=follow_seconds)
    told = [parts["a"] for parts in world.run(300.0)]
    assert told == sorted(told, reverse=True)
    assert told[-1] == 0.5
    assert world.loads["b"] + world.loads["c"] <= FILL * 2000 + 1


@pytest.mark.parametrize("follow_seconds", [0.5, 8.0, 20.0])
def test_a_wave_of_load_moves_the_share_up_and_down_once(follow_seconds: float) -> None:
    world = Clients(dict(THREE), EACH, {"a"}, follow_seconds=follow_seconds)
    told = [parts["a"] for parts in world.run(120.0)]
    world.demand.update(b=900, c=900)
    told += [parts["a"] for parts in world.run(180.0)]
    assert told[-1] == 1.0
    world.demand.update(b=200, c=200)
    told += [parts["a"] for parts in world.run(180.0)]
    assert told[-1] == 0.0
    assert turns(told) == 2


def test_a_region_that_gets_too_much_comes_to_rest_and_so_do_its_neighbours() -> None:
    world = Clients({"a": 1500.0, "b": 300.0, "c": 300.0}, EACH)
    told = world.run(300.0)
    for name in "abc":
        assert turns([parts[name] for parts in told]) == 0
        assert world.loads[name] <= FULL * 1000 + 1
    assert told[-1] == told[-200]
