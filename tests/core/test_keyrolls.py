"""Rollovers against every cache there could be: at each moment a resolver may hold any DS, any key set and any
signature that was given within its time to live, and they must fit together."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.scale import TIMES as TIMES_OF_CI

from meridian.core import keyrolls
from meridian.core.keyrolls import Exit, Forget, Gone, Phase, Role, Roll, Seen, Times, Wanted, Woken, ZoneKeys

TIMES = Times(keys_seconds=10, zone_seconds=30, parent_seconds=40, spread_seconds=5)
EVENTS = {"roll csk": Role.CSK, "roll ksk": Role.KSK, "roll zsk": Role.ZSK}


@dataclass
class World:
    """A zone, its parent that obeys CDS after a while, and all that was given out, second by second."""

    zone: ZoneKeys
    now: float = 0.0
    trusted: frozenset[str] = frozenset()
    forgotten: set[str] = field(default_factory=set)
    history: list[tuple[float, frozenset[str], frozenset[str], frozenset[str], frozenset[str]]] = field(
        default_factory=list
    )

    def feed(self, event: keyrolls.Event) -> None:
        stepped = keyrolls.step(self.zone, event, self.now)
        self.zone = stepped.state
        self.forgotten |= {command.key for command in stepped.commands if isinstance(command, Forget)}

    def parent_obeys(self) -> None:
        """Takes over what CDS asks, as a registry does, and the operator confirms it."""
        if self.zone.exit is Exit.ASKED:
            self.trusted = frozenset()
            self.feed(Gone())
        elif offered := frozenset(use.key for use in keyrolls.uses(self.zone) if use.offered):
            self.trusted = offered
            if keyrolls.refusal(self.zone, Seen()) is None:
                self.feed(Seen())

    def pass_seconds(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now += 1.0
            if (due := keyrolls.deadline(self.zone)) is not None and self.now >= due:
                self.feed(Woken())
            used = tuple(keyrolls.uses(self.zone))
            assert not self.forgotten & {use.key for use in used}, "a key is used after its private part was forgotten"
            published = frozenset(use.key for use in used)
            signs_keys = frozenset(use.key for use in used if use.signs_keys)
            signs_zone = frozenset(use.key for use in used if use.signs_zone)
            self.history.append((self.now, self.trusted, published, signs_keys, signs_zone))
            self.check()

    def check(self) -> None:
        """Every mix of what caches may hold."""

        def held(seconds: float) -> list[tuple[float, frozenset[str], frozenset[str], frozenset[str], frozenset[str]]]:
            return [entry for entry in self.history if entry[0] >= self.now - seconds]

        trusts = {entry[1] for entry in held(TIMES.parent_seconds)} - {frozenset()}
        key_sets = {entry[2:4] for entry in held(TIMES.keys_seconds)}
        signers = {entry[4] for entry in held(TIMES.zone_seconds)}
        for trust in trusts:
            for published, signs_keys in key_sets:
                assert trust & published & signs_keys, f"{self.now}: {trust} trusted, {signs_keys} signed {published}"
                assert all(signed & published for signed in signers), f"{self.now}: {signers} not in {published}"


def world(split: bool) -> World:
    keys = {Role.KSK: "ksk0", Role.ZSK: "zsk0"} if split else {Role.CSK: "csk0"}
    return World(keyrolls.begin(keys, TIMES, 0.0))


def steady(split: bool) -> World:
    made = world(split)
    made.pass_seconds(36)
    made.parent_obeys()
    made.pass_seconds(50)
    assert {track.phase for track in made.zone.tracks} == {Phase.STEADY}
    return made


def test_the_first_key_is_shown_to_the_parent_when_no_unsigned_answer_is_left() -> None:
    made = world(False)
    made.pass_seconds(34)
    assert not any(use.offered for use in keyrolls.uses(made.zone))
    made.pass_seconds(1)
    assert [use.offered for use in keyrolls.uses(made.zone)] == [True]
    made.parent_obeys()
    assert made.zone.tracks[0].phase is Phase.STEADY and keyrolls.deadline(made.zone) is None


@pytest.mark.parametrize("role", [Role.CSK, Role.KSK])
def test_a_key_that_the_parent_knows_is_rolled(role: Role) -> None:
    made = steady(role is Role.KSK)
    made.feed(Roll(role, "new"))
    phases = []
    for _ in range(200):
        made.pass_seconds(1)
        phase = made.zone.tracks[0].phase
        if phase not in phases:
            phases.append(phase)
        if phase is Phase.OFFERED:
            made.pass_seconds(20)
            assert made.zone.tracks[0].phase is Phase.OFFERED, "it waits for the parent as long as it takes"
            made.parent_obeys()
    assert phases == [Phase.PUBLISHED, Phase.OFFERED, Phase.TRUSTED, Phase.RETIRING, Phase.STEADY]
    assert made.zone.tracks[0].current == "new" and made.forgotten == {f"{role.value}0"}


def test_a_key_that_the_parent_does_not_know_is_rolled_alone() -> None:
    made = steady(True)
    made.feed(Roll(Role.ZSK, "new"))
    made.pass_seconds(15)
    assert made.zone.tracks[1].phase is Phase.RETIRING
    made.pass_seconds(35)
    assert made.zone.tracks[1] == keyrolls.Track(Role.ZSK, "new", Phase.STEADY) and made.forgotten == {"zsk0"}
    assert made.trusted == {"ksk0"}


def test_shorter_times_count_when_what_was_given_out_with_longer_ones_is_forgotten() -> None:
    made = steady(True)
    shorter = Times(keys_seconds=10, zone_seconds=1, parent_seconds=1, spread_seconds=5)
    made.feed(Wanted(True, shorter))
    made.feed(Roll(Role.ZSK, "new"))
    for _ in range(44):
        made.pass_seconds(1)
        made.feed(Wanted(True, shorter))
        assert made.zone.times == TIMES
    made.pass_seconds(1)
    made.feed(Wanted(True, shorter))
    assert (made.zone.times, made.zone.shorter) == (shorter, None)
    made.pass_seconds(5)
    assert made.zone.tracks[1] == keyrolls.Track(Role.ZSK, "new", Phase.STEADY)


def test_longer_times_count_at_once_and_shorter_ones_after_a_week_at_most() -> None:
    longer = Times(zone_seconds=2**31 - 1, parent_seconds=40, keys_seconds=10, spread_seconds=5)
    zone = steady(False).zone
    zone = keyrolls.step(zone, Wanted(True, longer), 0).state
    assert zone.times == longer
    zone = keyrolls.step(zone, Wanted(True, TIMES), 1).state
    assert (zone.times, zone.shorter_from) == (longer, 1 + 604_800 + 5)
    assert keyrolls.step(zone, Wanted(True, longer), 2).state.shorter is None, "it was taken back"
    assert keyrolls.step(zone, Wanted(True, TIMES), zone.shorter_from).state.times == TIMES


def test_to_be_unsigned_the_parent_lets_go_first() -> None:
    made = steady(False)
    made.feed(Wanted(False, TIMES))
    made.pass_seconds(500)
    assert made.zone.exit is Exit.ASKED and [use.signs_zone for use in keyrolls.uses(made.zone)] == [True]
    made.parent_obeys()
    made.pass_seconds(44)
    assert made.zone.tracks
    made.pass_seconds(1)
    assert not made.zone.tracks and made.forgotten == {"csk0"}


@pytest.mark.parametrize("seconds", [0, 20, 40, 70, 130, 160])
@pytest.mark.parametrize("gone", [False, True])
def test_a_zone_that_comes_back_on_its_way_out_goes_on_where_it_was(gone: bool, seconds: int) -> None:
    """`seconds`: how far the rollover has come: into each of its phases."""
    made = steady(False)
    made.feed(Roll(Role.CSK, "new"))
    for _ in range(seconds):
        made.pass_seconds(1)
        if made.zone.tracks[0].phase is Phase.OFFERED and seconds > 40:
            made.parent_obeys()
    made.feed(Wanted(False, TIMES))
    if gone:
        made.parent_obeys()
        made.pass_seconds(10)
    made.feed(Wanted(True, TIMES))
    assert made.zone.exit is Exit.NONE
    for _ in range(200):
        made.pass_seconds(1)
        made.parent_obeys()
    assert made.zone.tracks == (keyrolls.Track(Role.CSK, "new", Phase.STEADY),)
    assert made.trusted == {"new"} and made.forgotten == {"csk0"}


def test_a_zone_that_was_never_shown_to_the_parent_is_unsigned_at_once() -> None:
    made = world(True)
    made.pass_seconds(3)
    made.feed(Wanted(False, TIMES))
    assert not made.zone.tracks and made.forgotten == {"ksk0", "zsk0"}


def test_what_does_not_fit_is_refused_with_the_reason() -> None:
    made = world(False)
    for event, reason in (
        (Seen(), "nothing was asked"),
        (Gone(), "remove its `dnssec`"),
        (Roll(Role.CSK, "new"), "its csk is hidden"),
        (Roll(Role.ZSK, "new"), "has no zsk"),
    ):
        assert reason in str(keyrolls.refusal(made.zone, event))
        before = made.zone
        made.feed(event)
        assert made.zone == before
    made = steady(False)
    assert keyrolls.refusal(made.zone, Roll(Role.CSK, "new")) is None
    made.feed(Wanted(False, TIMES))
    assert "on its way to be unsigned" in str(keyrolls.refusal(made.zone, Roll(Role.CSK, "new")))


@settings(max_examples=60 * TIMES_OF_CI, deadline=None)
@given(
    st.booleans(),
    st.lists(st.tuples(st.sampled_from([*EVENTS, "parent", "off", "on"]), st.integers(0, 60)), max_size=14),
)
def test_no_order_of_events_breaks_the_chain(split: bool, story: list[tuple[str, int]]) -> None:
    made = steady(split)
    for number, (what, seconds) in enumerate(story):
        acts: dict[str, Callable[[], None]] = {
            "parent": made.parent_obeys,
            "off": lambda: made.feed(Wanted(False, TIMES)),
            "on": lambda: made.feed(Wanted(True, TIMES)),
        }
        if what in EVENTS:
            made.feed(Roll(EVENTS[what], f"key{number}"))
        else:
            acts[what]()
        made.pass_seconds(seconds)
