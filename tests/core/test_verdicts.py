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
    merge,
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


def told(given_: Evidence, **by_observer: Mapping[str, object]) -> Evidence:
    """The same evidence with other fields in some observers' reports."""
    heard = dict(given_.heard)
    for observer, changes in by_observer.items():
        report = replace(heard[observer].report, **changes)  # type: ignore[arg-type]  # fields of Report
        heard[observer] = replace(heard[observer], report=report)
    return replace(given_, heard=heard)


def rule(names: Mapping[str, str], before: Verdict, given_: Evidence, judge_name: str = "") -> str:
    after = judge(before, given_, NOW, leader=judge_name or next(iter(names)), fence=5)
    assert judgement_violations(before, after, given_, NOW) == []
    return standings(after, names)


def test_whom_another_hears_is_not_silent_and_whom_nobody_hears_is_though_the_judge_slept() -> None:
    four = {**THREE, "d": "sa"}
    given_ = evidence(four, {"a": ".+-+", "b": "+.-+", "d": "++-."})
    assert rule(four, verdict(four, "SSSS"), given_) == "SSWS"
    assert rule(four, verdict(four, "SSSS"), told(given_, d={"heard": {"c": 0.5}})) == "SSSS"
    assert rule(four, verdict(four, "SSSS"), told(given_, d={"heard": {"c": 1.5}})) == "SSWS"
    asleep = replace(given_, since=NOW - 0.6)
    assert rule(four, verdict(four, "SSSS"), asleep) == "SSSS"
    assert rule(four, verdict(four, "SSSS"), told(asleep, d={"heard": {"c": 3.0}})) == "SSWS"


@pytest.mark.parametrize(
    ("names", "sights", "dark", "after"),
    [
        # It speaks, and nobody reaches it.
        (THREE, {"a": ".+-", "b": "+.-", "c": "++."}, {"a": "c", "b": "c"}, "SSW"),
        # Not for long enough yet, as one of them says.
        (THREE, {"a": ".+-", "b": "+.-", "c": "++."}, {"a": "c"}, "SSS"),
        # Another reaches it.
        (
            FIVE,
            {"a1": ".++++", "a2": "+.++-", "b1": "++.+-", "b2": "+++.-"},
            {"a2": "c", "b1": "c", "b2": "c"},
            "SSSSS",
        ),
        # One voice alone, or one region alone.
        (THREE, {"a": ".+-", "b": "+.?", "c": "++."}, {"a": "c"}, "SSS"),
        ({"a1": "eu", "a2": "eu", "b": "us"}, {"a1": ".+-", "a2": "+.-", "b": "++."}, {"a1": "b", "a2": "b"}, "SS?"),
        # A node whose mate is well goes alone.
        (ALONE, {"a1": ".+-", "a2": "+.-", "a3": "++."}, {"a1": "a3", "a2": "a3"}, "SSW"),
        # The judge's own data path is as dead as anyone's.
        (THREE, {"a": ".++", "b": "-.+", "c": "-+."}, {"b": "a", "c": "a"}, "WSS"),
        # All of them at once: it is not they.
        (THREE, {"a": ".--", "b": "-.-", "c": "--."}, {"a": "bc", "b": "ac", "c": "ab"}, "SSS"),
    ],
)
def test_gray_failures_end(
    names: Mapping[str, str], sights: Mapping[str, str], dark: Mapping[str, str], after: str
) -> None:
    by_name = {o: {"dark": frozenset([who] if who in names else list(who))} for o, who in dark.items()}
    given_ = evidence(names, sights)
    given_ = replace(
        given_, heard={**{n: Heard(Report(n, r, f"{n}.1", 1, 1, {}), NOW) for n, r in names.items()}, **given_.heard}
    )
    assert rule(names, verdict(names, "S" * len(names)), told(given_, **by_name)) == after


SEVEN = {name: f"r{name}" for name in "abcdefg"}


@pytest.mark.parametrize(
    ("sights_of_a", "seconds", "after"),
    [
        (".++++--", 60.0, "SSSSSWW"),
        (".++++--", 5.0, "SSSSSWW"),  # all agree
        (".+++++-", 60.0, "SSSSSWW"),  # four of six do, and no region went of late
        (".+++++-", 29.0, "SSSSS?W"),
        (".++++?-", 29.0, "SSSSSWW"),  # who has not seen it counts neither way
    ],
)
def test_the_guard_asks_all_for_a_second_region(sights_of_a: str, seconds: float, after: str) -> None:
    before = verdict(SEVEN, "SSSSSSW")
    gone = replace(before.regions["rg"], changed=NOW - seconds)
    before = replace(before, regions={**before.regions, "rg": gone})
    sights = {"a": sights_of_a, "b": "+.+++--", "c": "++.++--", "d": "+++.+--", "e": "++++.--"}
    assert rule(SEVEN, before, evidence(SEVEN, sights)) == after
    assert rule(SEVEN, before, evidence(SEVEN, sights), "c") == after  # whoever judges


def test_two_regions_at_once_need_all_voices_for_the_second() -> None:
    sights = {"a": ".++++-+", "b": "+.+++--", "c": "++.++--", "d": "+++.+--", "e": "++++.--"}
    assert rule(SEVEN, verdict(SEVEN, "SSSSSSS"), evidence(SEVEN, sights)) == "SSSSSW?"
    sights["a"] = ".++++--"
    assert rule(SEVEN, verdict(SEVEN, "SSSSSSS"), evidence(SEVEN, sights)) == "SSSSSWW"


def test_who_falls_again_and_again_stays_out_but_not_for_ever_and_not_alone() -> None:
    calm = evidence(THREE, {"a": ".++", "b": "+.+", "c": "++."})

    def fallen(penalty: float, seconds: float, others: str = "SS") -> Verdict:
        before = verdict(THREE, others + "W")
        return replace(
            before, nodes={**before.nodes, "c": replace(before.nodes["c"], changed=NOW - seconds, penalty=penalty)}
        )

    assert rule(THREE, fallen(2.9, 0.0), calm) == "SSS"
    assert rule(THREE, fallen(4.0, 20.0), calm) == "SSW"
    assert rule(THREE, fallen(4.0, 26.0), calm) == "SSS"
    assert rule(THREE, fallen(1e9, 599.0), calm) == "SSW"
    assert rule(THREE, fallen(1e9, 601.0), calm) == "SSS"
    only_c = evidence(THREE, {"c": "--."})
    assert rule(THREE, fallen(1e9, 10.0, "??"), only_c, "c") == "??S"
    held = judge(fallen(4.0, 20.0), calm, NOW, leader="a", fence=5)
    assert "too often" in held.nodes["c"].reason


def test_the_record_remembers_when_and_how_often() -> None:
    before = verdict(THREE, "SSS")
    before = replace(before, nodes={**before.nodes, "c": replace(before.nodes["c"], changed=NOW - 60.0, penalty=2.0)})
    down = judge(before, evidence(THREE, {"a": ".+-", "b": "+.-"}), NOW, leader="a", fence=5)
    assert (down.nodes["c"].changed, down.nodes["c"].penalty) == (NOW, 2.0)  # half of two, and one more
    assert down.regions["ap"].changed == NOW
    assert down.nodes["a"].changed == before.nodes["a"].changed


def test_what_a_node_merged_itself_is_no_news_to_the_next_leader() -> None:
    silent = evidence(THREE, {"a": ".+?", "b": "+.-"})
    assert rule(THREE, verdict(THREE, "SSS"), silent, "b") == "SS?"
    claim = {"withdrawn": frozenset("c")}
    assert rule(THREE, verdict(THREE, "SSS"), told(silent, a=claim), "b") == "SSW"
    # It speaks again, but its probes are not good yet: the slow path.
    returning = evidence(THREE, {"a": ".+-", "b": "+.-", "c": "++."})
    assert rule(THREE, verdict(THREE, "SSS"), returning) == "SSS"
    assert rule(THREE, verdict(THREE, "SSS"), told(returning, a=claim)) == "SSW"
    well = evidence(THREE, {"a": ".++", "b": "+.+", "c": "++."})
    assert rule(THREE, verdict(THREE, "SSS"), told(well, a=claim)) == "SSS"


def test_a_merge_stands_upon_the_fenced_verdict_and_any_greater_one_ends_it() -> None:
    base = verdict(THREE, "SSS")
    calm = evidence(THREE, {"a": ".++", "b": "+.+", "c": "++."})
    assert merge(base, calm, NOW, merger="b") is base
    merged = merge(base, evidence(THREE, {"a": ".+-", "b": "+.-"}), NOW, merger="b")
    assert standings(merged, THREE) == "SSW"
    assert (merged.fence, merged.version, merged.leader, merged.fallback) == (5, 7, "a", 1)
    assert not greater(base, merged)
    assert greater(replace(base, version=8), merged)
    assert greater(replace(base, fence=6), merged)


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
    ago = st.sampled_from([0.5, 1.0, 40.0, 700.0])
    share = st.sampled_from([None, None, 0.25, 0.8])
    regions_before = {
        n: replace(region, changed=NOW - draw(ago), share=draw(share), demand=800.0, moved=NOW - draw(ago))
        for n, region in before.regions.items()
    }
    nodes_before = {
        n: replace(node, changed=NOW - draw(ago), penalty=draw(st.sampled_from([0.0, 2.0, 9.0])))
        for n, node in before.nodes.items()
    }
    before = replace(before, nodes=nodes_before, regions=regions_before)
    sight = st.sampled_from([Sight.UP, Sight.DOWN, Sight.DOWN, Sight.UNKNOWN])
    heard = {}
    for name, region in names.items():
        if draw(st.booleans()):
            sights = {other: draw(sight) for other in names if other != name}
            draining, serving = draw(st.sampled_from([(False, True), (False, True), (True, True), (False, False)]))
            report = Report(name, region, f"{name}.1", 1, 1, sights, draining, serving)
            few = st.frozensets(st.sampled_from(sorted(names)), max_size=2)
            heard_of = st.dictionaries(st.sampled_from(sorted(names)), st.sampled_from([0.1, 1.4, 2.0]), max_size=3)
            dark = frozenset(n for n in draw(few) if sights.get(n) is Sight.DOWN)
            report = replace(
                report,
                heard=draw(heard_of),
                dark=dark,
                withdrawn=draw(few) if draw(st.booleans()) else frozenset(),
                load=draw(st.sampled_from([0.0, 300.0, 990.0])),
            )
            heard[name] = Heard(report, NOW - draw(st.sampled_from([0.0, 0.4, 1.6, 3.0])))
    members = {name: Member(name, region, (f"ip-{name}",)) for name, region in names.items() if draw(st.integers(0, 4))}
    for witness in draw(st.sampled_from([(), (), ("w1",), ("w1", "w2")])):
        report = Report(witness, f"r-{witness}", "w.1", 1, 1, {name: draw(sight) for name in names}, witness=True)
        heard[witness] = Heard(report, NOW - draw(st.sampled_from([0.0, 0.4, 3.0])))
        members[witness] = Member(witness, f"r-{witness}", (), witness=True)
    regions = frozenset({"eu", "us", "ap"}) if draw(st.booleans()) else frozenset(names.values())
    capacities = dict.fromkeys(("eu", "us", "ap"), 1000.0) if draw(st.booleans()) else {}
    return before, Evidence(heard, members, regions, NOW - draw(st.sampled_from([0.6, 60.0])), capacities)


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
