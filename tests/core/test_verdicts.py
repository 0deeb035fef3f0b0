"""The judgement: each rule by an example, and invariant 5 for whatever evidence there may be."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meridian.core.health import Sight
from meridian.core.invariants import judgement_violations, sequence_violations
from meridian.core.verdicts import (
    Evidence,
    Heard,
    Member,
    NodeVerdict,
    RegionVerdict,
    Report,
    Standing,
    Verdict,
    greater,
    judge,
    newer,
)

NOW = 1000.0
SIGHTS = {"+": Sight.UP, "-": Sight.DOWN, "?": Sight.UNKNOWN}
STANDINGS = {"S": Standing.SERVING, "?": Standing.SUSPECT, "D": Standing.DRAINING, "W": Standing.WITHDRAWN}
THREE = {"a": "eu", "b": "us", "c": "ap"}


def verdict(names: Mapping[str, str], standings: str) -> Verdict:
    """The verdict in which the nodes stand as the letters say, in order; '.' leaves one out."""
    nodes = {
        name: NodeVerdict(name, region, (f"ip-{name}",), STANDINGS[letter])
        for (name, region), letter in zip(names.items(), standings, strict=True)
        if letter != "."
    }
    regions = {}
    for region in sorted({node.region for node in nodes.values()}):
        best = min((n.standing for n in nodes.values() if n.region == region), key=lambda s: s.value)
        regions[region] = RegionVerdict(region, best)
    return Verdict(5, 7, nodes, regions, "a")


def evidence(names: Mapping[str, str], sights: Mapping[str, str], **changes: object) -> Evidence:
    """`sights`: by observer, one letter for each node in order ('.' for itself); who is not named is silent."""
    heard = {}
    for observer, letters in sights.items():
        seen = {name: SIGHTS[letter] for name, letter in zip(names, letters, strict=True) if letter != "."}
        heard[observer] = Heard(Report(observer, names[observer], f"{observer}.1", 1, 1, seen), NOW - 0.1)
    members = {name: Member(name, region, (f"ip-{name}",)) for name, region in names.items()}
    made = Evidence(heard, members, frozenset(names.values()), since=0.0)
    return replace(made, **changes)  # type: ignore[arg-type]  # fields of Evidence


def standings(judged: Verdict, names: Mapping[str, str]) -> str:
    letters = {standing: letter for letter, standing in STANDINGS.items()}
    return "".join(letters[judged.nodes[name].standing] if name in judged.nodes else "." for name in names)


def judged(names: Mapping[str, str], before: str, sights: Mapping[str, str], **changes: object) -> str:
    given_ = evidence(names, sights, **changes)
    after = judge(verdict(names, before), given_, NOW, leader=next(iter(names)), fence=5)
    assert judgement_violations(verdict(names, before), after, given_, NOW) == []
    return standings(after, names)


FIVE = {"a1": "eu", "a2": "eu", "b1": "us", "b2": "us", "c": "ap"}
ALONE = {"a1": "eu", "a2": "eu", "a3": "eu"}


@pytest.mark.parametrize(
    ("names", "before", "sights", "after"),
    [
        # Two regions outvote the third; its node goes with it.
        (THREE, "SSS", {"a": ".+-", "b": "+.-"}, "SSW"),
        # Silence alone, or being seen down alone, is not enough.
        (THREE, "SSS", {"a": ".++", "b": "+.+"}, "SSS"),
        (THREE, "SSS", {"a": ".+-", "b": "+.-", "c": "++."}, "SSS"),
        # Only one of two other regions sees it down: suspect, and kept.
        (THREE, "SSS", {"a": ".+-", "b": "+.?"}, "SS?"),
        # The second loss of three: one observer is left.
        (THREE, "SSW", {"a": ".--"}, "S?W"),
        (THREE, "SSS", {"a": ".--"}, "S??"),
        # Two regions: the other is the only observer.
        ({"a": "eu", "b": "us"}, "SS", {"a": ".-"}, "S?"),
        # One region: nodes go while one that is well remains, and one voice will do if there is no other.
        ({"a1": "eu", "a2": "eu"}, "SS", {"a1": ".-"}, "SW"),
        (ALONE, "SSS", {"a1": ".++", "a2": "+.-"}, "SSW"),
        # But if there is another, the judge alone is no witness: he may be losing sight of one after the other.
        (ALONE, "SSS", {"a1": ".+-"}, "SS?"),
        # He who sees all of several others down is cut off himself.
        (ALONE, "SSS", {"a1": ".--"}, "S??"),
        (ALONE, "SSW", {"a1": ".--"}, "S?W"),
        # A region with a node that is well loses only the other.
        (FIVE, "SSSSS", {"a1": ".++-+", "a2": "+.+-+", "b1": "++.-+", "c": "+++-."}, "SSSWS"),
        # A region of two goes as a whole by the other two regions' votes; in each, most of its nodes.
        (FIVE, "SSSSS", {"a1": ".+--+", "a2": "+.--+", "c": "++--."}, "SSWWS"),
        (FIVE, "SSSSS", {"a1": ".+--+", "a2": "+.+-+", "c": "++--."}, "SS??S"),
        # Who was withdrawn has no voice about others.
        (THREE, "SSW", {"a": ".+-", "c": "+-."}, "SSW"),
        # The way back: it speaks, and more see it up than down.
        (THREE, "SSW", {"a": ".+-", "b": "+.-", "c": "++."}, "SSW"),
        (THREE, "SSW", {"a": ".++", "b": "+.-", "c": "++."}, "SSW"),
        (THREE, "SSW", {"a": ".++", "b": "+.+", "c": "++."}, "SSS"),
        (THREE, "SSW", {"a": ".++", "b": "+.+"}, "SSW"),
        (THREE, "SS?", {"a": ".+-", "b": "+.?", "c": "++."}, "SS?"),
        (THREE, "SS?", {"a": ".++", "b": "+.+", "c": "++."}, "SSS"),
        # A new node enters when it speaks and another sees it, or when it is alone.
        (THREE, "SS.", {"a": ".+?", "b": "+.?", "c": "++."}, "SS."),
        (THREE, "SS.", {"a": ".++", "b": "+.?", "c": "++."}, "SSS"),
        (THREE, "SS.", {"a": ".++", "b": "+.?"}, "SS."),
        (THREE, "...", {"a": ".??"}, "S.."),
        # All down, nobody heard: the last good set.
        (THREE, "SSS", {}, "SSS"),
        (THREE, "SSW", {}, "SSW"),
    ],
)
def test_rules(names: Mapping[str, str], before: str, sights: Mapping[str, str], after: str) -> None:
    assert judged(names, before, sights) == after


def drainer(name: str, *, draining: bool = True) -> Evidence:
    calm = evidence(THREE, {"a": ".++", "b": "+.+", "c": "++."})
    report = replace(calm.heard[name].report, draining=draining)
    return replace(calm, heard={**calm.heard, name: Heard(report, NOW)})


def test_who_says_draining_drains_leaves_and_is_not_counted_as_failed() -> None:
    draining = judge(verdict(THREE, "SSS"), drainer("c"), NOW, leader="a", fence=5)
    assert standings(draining, THREE) == "SSD"
    assert draining.regions["ap"].standing is Standing.DRAINING
    gone = {name: member for name, member in drainer("c").members.items() if name != "c"}
    left = judge(draining, replace(drainer("c"), members=gone), NOW, leader="a", fence=5)
    assert standings(left, THREE) == "SS."
    back = judge(draining, drainer("c", draining=False), NOW, leader="a", fence=5)
    assert standings(back, THREE) == "SSS"


def test_draining_is_refused_to_the_last_and_two_who_ask_do_not_take_turns() -> None:
    both = drainer("b")
    both = replace(both, heard={"b": both.heard["b"], "c": drainer("c").heard["c"]})
    first = judge(verdict(THREE, "WSS"), both, NOW, leader="b", fence=5)
    assert standings(first, THREE) == "WSD"
    assert "nobody else" in first.nodes["b"].reason
    assert judge(first, both, NOW, leader="b", fence=5) is first
    other_first = judge(verdict(THREE, "WDS"), both, NOW, leader="b", fence=5)
    assert standings(other_first, THREE) == "WDS"


def test_the_judges_own_silence_is_not_the_others() -> None:
    alone = evidence(THREE, {"a": ".+-", "b": "+.-"}, since=NOW - 1.0)
    assert standings(judge(verdict(THREE, "SSS"), alone, NOW, leader="a", fence=5), THREE) == "SSS"


def test_a_node_the_store_forgot_is_not_silent() -> None:
    assert judged(THREE, "SSS", {"a": ".+-", "b": "+.-", "c": "++."}, members={}) == "SSS"


def test_a_node_that_says_it_does_not_serve_is_as_good_as_silent() -> None:
    given_ = evidence(THREE, {"a": ".+-", "b": "+.-", "c": "++."})
    report = replace(given_.heard["c"].report, serving=False)
    given_ = replace(given_, heard={**given_.heard, "c": Heard(report, NOW)})
    assert standings(judge(verdict(THREE, "SSS"), given_, NOW, leader="a", fence=5), THREE) == "SSW"


def test_versions_count_changes_and_nothing_else() -> None:
    before = verdict(THREE, "SSS")
    calm = evidence(THREE, {"a": ".++", "b": "+.+", "c": "++."})
    assert judge(before, calm, NOW, leader="a", fence=5) is before
    taken = judge(before, calm, NOW, leader="b", fence=9)
    assert (taken.fence, taken.version, taken.leader) == (9, 7, "b")
    assert greater(taken, before)
    assert not greater(before, taken)
    moved = replace(calm, members={**calm.members, "c": Member("c", "ap", ("new",))})
    changed = judge(before, moved, NOW, leader="a", fence=5)
    assert (changed.version, changed.nodes["c"].addresses) == (8, ("new",))


def test_reports_are_ordered_by_epoch_and_sequence() -> None:
    report = Report("a", "eu", "a.1", 5, 10, {})
    held = Heard(report, NOW)
    assert newer(report, None, NOW)
    assert not newer(report, held, NOW)
    assert newer(replace(report, sequence=11), held, NOW)
    assert newer(replace(report, epoch=6, sequence=1), held, NOW)
    reborn = replace(report, node_id="a.2", epoch=0, sequence=1)  # started while the store was away
    assert not newer(reborn, held, NOW + 1.0)
    assert newer(reborn, held, NOW + 2.1)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Verdict, Evidence]:
    """Any verdict, and any evidence about it."""
    names = dict(
        zip("abcdef", draw(st.lists(st.sampled_from(["eu", "us", "ap"]), min_size=1, max_size=6)), strict=False)
    )
    before = verdict(names, "".join(draw(st.sampled_from("SSSSS?DW.")) for _ in names))
    sight = st.sampled_from([Sight.UP, Sight.DOWN, Sight.DOWN, Sight.UNKNOWN])
    heard = {}
    for name, region in names.items():
        if draw(st.booleans()):
            sights = {other: draw(sight) for other in names if other != name}
            draining, serving = draw(st.sampled_from([(False, True), (False, True), (True, True), (False, False)]))
            report = Report(name, region, f"{name}.1", 1, 1, sights, draining, serving)
            heard[name] = Heard(report, NOW - draw(st.sampled_from([0.0, 0.4, 1.6, 3.0])))
    members = {name: Member(name, region, (f"ip-{name}",)) for name, region in names.items() if draw(st.integers(0, 4))}
    regions = frozenset({"eu", "us", "ap"}) if draw(st.booleans()) else frozenset(names.values())
    return before, Evidence(heard, members, regions, since=NOW - draw(st.sampled_from([0.6, 60.0])))


@settings(max_examples=500, deadline=None)
@given(cases())
def test_invariant_5_holds_for_whatever_evidence(case: tuple[Verdict, Evidence]) -> None:
    before, given_ = case
    after = judge(before, given_, NOW, leader="a", fence=5)
    assert judgement_violations(before, after, given_, NOW) == []
    if after is not before:
        assert sequence_violations([before, after]) == []
    for name, node in after.nodes.items():
        assert node.name == name
        assert after.regions[node.region].standing.value <= node.standing.value


@settings(max_examples=300, deadline=None)
@given(cases())
def test_judging_the_same_evidence_again_comes_to_rest(case: tuple[Verdict, Evidence]) -> None:
    current, given_ = case
    for _ in range(6):
        after = judge(current, given_, NOW, leader="a", fence=5)
        if after is current:
            return
        current = after
    raise AssertionError(f"still changing: {current}")
