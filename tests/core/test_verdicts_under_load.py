"""Rule 10 inside the judgement: who goes at once, who in steps, and what is said of it."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from meridian.core.capacity import SETTLE_SECONDS, STEP_SECONDS
from meridian.core.health import Sight
from meridian.core.invariants import judgement_violations
from meridian.core.verdicts import Evidence, Heard, Member, NodeVerdict, RegionVerdict, Report, Standing, Verdict, judge

NOW = 1000.0
NAMES = {"a": "eu", "b": "us", "c": "ap"}
EACH = dict.fromkeys(("eu", "us", "ap"), 1000.0)
BUSY = {"a": 600.0, "b": 600.0, "c": 800.0}
CALM = {"a": 200.0, "b": 200.0, "c": 800.0}


def verdict(names: Mapping[str, str] = NAMES) -> Verdict:
    nodes = {name: NodeVerdict(name, region, (), Standing.SERVING) for name, region in names.items()}
    return Verdict(5, 7, nodes, {region: RegionVerdict(region, Standing.SERVING) for region in names.values()}, "a")


def evidence(
    loads: Mapping[str, float],
    now: float = NOW,
    *,
    names: Mapping[str, str] = NAMES,
    draining: str = "",
    dark: str = "",
    silent: str = "",
    capacities: Mapping[str, float] = EACH,
    each: float = 0.0,
) -> Evidence:
    """Everyone sees everyone, but whom the letters name."""
    heard = {}
    for name, region in names.items():
        if name in silent:
            continue
        down = [other for other in names if other in dark + silent and other != name]
        sights = {other: Sight.DOWN if other in down else Sight.UP for other in names if other != name}
        report = Report(
            name, region, f"{name}.1", 1, 1, sights, draining=name in draining, dark=frozenset(down) & set(dark),
            load=loads[name], capacity=each,
        )  # fmt: skip
        heard[name] = Heard(report, now)
    members = {name: Member(name, region, ()) for name, region in names.items()}
    return Evidence(heard, members, frozenset(names.values()), 0.0, capacities)


def step(before: Verdict, given: Evidence, now: float = NOW) -> Verdict:
    after = judge(before, given, now, leader="a", fence=5)
    assert judgement_violations(before, after, given, now) == []
    return after


def test_a_drained_region_goes_in_steps_and_says_why() -> None:
    told = step(verdict(), evidence(BUSY, draining="c"))
    assert (told.nodes["c"].standing, told.nodes["c"].keeps) == (Standing.DRAINING, True)
    region = told.regions["ap"]
    assert (region.standing, region.share, region.demand, region.moved) == (Standing.DRAINING, 0.75, 800.0, NOW)
    assert region.reason == "asked to drain; the others cannot carry all of it, so it keeps 75% of its clients"
    assert told.version == 8
    assert step(told, evidence(BUSY, NOW + 1, draining="c"), NOW + 1) is told
    later = NOW + STEP_SECONDS
    less = step(told, evidence({"a": 700.0, "b": 700.0, "c": 600.0}, later, draining="c"), later)
    assert less.regions["ap"].share == 0.5
    assert less.regions["ap"].reason.endswith("keeps 50% of its clients")
    last = later + STEP_SECONDS
    gone = step(less, evidence({"a": 300.0, "b": 300.0, "c": 400.0}, last, draining="c"), last)
    assert (gone.regions["ap"].share, gone.nodes["c"].keeps) == (None, False)
    assert gone.regions["ap"].reason == "asked to drain"
    assert gone.regions["ap"].part == 0.0
    called = last + 100.0
    back = step(gone, evidence({"a": 990.0, "b": 990.0, "c": 0.0}, called, draining="c"), called)
    assert (back.regions["ap"].share, back.nodes["c"].keeps) == (0.25, True)


@pytest.mark.parametrize(
    ("loads", "capacities"),
    [
        (CALM, EACH),  # there is room for all of it
        (BUSY, {}),  # nobody declares anything
        (BUSY, {"eu": 1000.0, "ap": 1000.0}),  # one who stays does not
    ],
)
def test_a_drained_region_goes_at_once_where_there_is_room_or_no_rule(
    loads: Mapping[str, float], capacities: Mapping[str, float]
) -> None:
    told = step(verdict(), evidence(loads, draining="c", capacities=capacities))
    assert (told.nodes["c"].standing, told.nodes["c"].keeps) == (Standing.DRAINING, False)
    assert (told.regions["ap"].share, told.regions["ap"].part) == (None, 0.0)


def test_a_drained_region_goes_at_once_while_a_member_could_not_read_its_share() -> None:
    older = replace(evidence(BUSY, draining="c"), sharing=False)
    assert step(verdict(), older).regions["ap"].part == 0.0


def test_a_region_with_one_who_stays_does_not_leave_though_only_those_speak_who_do() -> None:
    names = {"a": "eu", "b": "us", "c1": "ap", "c2": "ap"}
    given = evidence({"a": 0.0, "b": 0.0, "c1": 0.0, "c2": 0.0}, names=names, draining="c2")
    heard = {name: last for name, last in given.heard.items() if name != "c1"}  # not heard yet: neither well nor silent
    told = step(verdict(names), replace(given, heard=heard))
    assert (told.nodes["c1"].standing, told.regions["ap"].part) == (Standing.SERVING, 1.0)


def test_a_gray_region_goes_in_steps_and_is_withdrawn_at_the_end() -> None:
    told = step(verdict(), evidence(BUSY, dark="c"))
    assert (told.nodes["c"].standing, told.regions["ap"].share) == (Standing.SUSPECT, 0.75)
    assert told.regions["ap"].reason == (
        "it speaks, but nobody reaches it; the others cannot carry all of it, so it keeps 75% of its clients"
    )
    assert told.nodes["c"].penalty == 0.0
    later = NOW + STEP_SECONDS
    gone = step(told, evidence(CALM, later, dark="c"), later)
    assert (gone.nodes["c"].standing, gone.nodes["c"].penalty, gone.regions["ap"].share) == (
        Standing.WITHDRAWN, 1.0, None,
    )  # fmt: skip


def test_a_silent_region_goes_whatever_the_others_carry() -> None:
    told = step(verdict(), evidence(BUSY, silent="c"))
    assert (told.nodes["c"].standing, told.regions["ap"].part) == (Standing.WITHDRAWN, 0.0)
    kept = step(verdict(), evidence(BUSY, dark="c"))
    later = NOW + 1.0
    gone = step(kept, evidence(BUSY, later, silent="c"), later)
    assert (gone.nodes["c"].standing, gone.regions["ap"].part) == (Standing.WITHDRAWN, 0.0)


def test_a_gray_region_that_heals_keeps_its_share_until_it_serves_and_then_takes_up_by_steps() -> None:
    told = step(verdict(), evidence(BUSY, dark="c"))
    later = NOW + STEP_SECONDS
    half = step(told, evidence(BUSY, later, dark="c"), later)
    assert half.regions["ap"].share == 0.5
    given = evidence(BUSY, later + 6.0, dark="c")
    hopeful = replace(given, heard={n: replace(h, report=replace(h.report, dark=frozenset()))
                                    for n, h in given.heard.items()})  # fmt: skip
    doubted = step(half, hopeful, later + 6.0)
    assert (doubted.nodes["c"].standing, doubted.regions["ap"].share) == (Standing.SUSPECT, 0.5)
    well = step(half, evidence({**BUSY, "c": 300.0}, later + 7.0), later + 7.0)
    assert (well.nodes["c"].standing, well.regions["ap"].share) == (Standing.SERVING, 0.75)
    settled = later + 7.0 + SETTLE_SECONDS
    whole = step(well, evidence({**BUSY, "c": 450.0}, settled), settled)
    assert (whole.regions["ap"].share, whole.regions["ap"].reason) == (None, "")


def test_one_node_of_a_region_goes_at_once_and_the_region_gives_away_what_the_rest_cannot_carry() -> None:
    names = {"a": "eu", "b": "us", "c1": "ap", "c2": "ap"}
    loads = {"a": 300.0, "b": 300.0, "c1": 900.0, "c2": 500.0}
    given = evidence(loads, names=names, capacities={}, each=1000.0)
    drained = replace(given.heard["c2"], report=replace(given.heard["c2"].report, draining=True))
    told = step(verdict(names), replace(given, heard={**given.heard, "c2": drained}))
    assert (told.nodes["c2"].standing, told.nodes["c2"].keeps) == (Standing.DRAINING, False)
    assert (told.regions["ap"].standing, told.regions["ap"].share) == (Standing.SERVING, None)
    later = NOW + 3.0
    loads = {"a": 300.0, "b": 300.0, "c1": 1400.0, "c2": 0.0}
    over = evidence(loads, later, names=names, capacities={}, each=1000.0)
    over = replace(over, heard={**over.heard, "c2": replace(drained, made=later, report=replace(
        drained.report, load=0.0))})  # fmt: skip
    less = step(told, over, later)
    assert less.regions["ap"].share == 0.75
    assert less.regions["ap"].reason == "it cannot carry all that comes, so it keeps 75% of its clients"
