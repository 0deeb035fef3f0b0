"""Who has a voice: witnesses, those who are just back, and how quickly many voices are heard. See core/verdicts."""

from collections.abc import Mapping
from dataclasses import replace
from time import perf_counter

import pytest
from tests.core.test_verdicts import NOW, THREE, evidence, standings, verdict

from meridian.core.health import Sight
from meridian.core.invariants import judgement_violations
from meridian.core.verdicts import Evidence, Heard, Member, Report, Standing, Verdict, judge

TWO = {"a": "eu", "b": "us"}
LETTERS = {"+": Sight.UP, "-": Sight.DOWN, "?": Sight.UNKNOWN}


def witnessed(given: Evidence, names: Mapping[str, str], **sights: str) -> Evidence:
    """The evidence, and what witnesses see of the nodes in order; each stands in a region of its own."""
    heard, members = dict(given.heard), dict(given.members)
    for name, letters in sights.items():
        seen = {node: LETTERS[letter] for node, letter in zip(names, letters, strict=True)}
        heard[name] = Heard(Report(name, f"r-{name}", f"{name}.1", 1, 1, seen, witness=True), NOW - 0.1)
        members[name] = Member(name, f"r-{name}", (), witness=True)
    return replace(given, heard=heard, members=members)


@pytest.mark.parametrize(
    ("names", "before", "sights", "witnesses", "after"),
    [
        # Two regions: the other one and the witness agree.
        (TWO, "SS", {"a": ".-"}, {"w": "+-"}, "SW"),
        # Neither alone is enough; two witnesses without a region are not either.
        (TWO, "SS", {"a": ".-"}, {"w": "++"}, "S?"),
        (TWO, "SS", {"a": ".?"}, {"w": "+-"}, "S?"),
        (TWO, "SS", {"a": ".?"}, {"v": "+-", "w": "+-"}, "S?"),
        # It is silent, but not at the witness, who reaches it: kept, not even suspect, as nobody else sees it down.
        (TWO, "SS", {"a": ".+"}, {"w": "++"}, "SS"),
        # Three regions, the second loss: the last one and the witness.
        (THREE, "SSW", {"a": ".--"}, {"w": "+--"}, "S?W"),
        (THREE, "SSW", {"a": ".-+"}, {"w": "+--"}, "SWW"),
        # A witness that sees all of several down is cut off itself.
        (THREE, "SSW", {"a": ".-+"}, {"w": "---"}, "S?W"),
        # The last one stays, whatever witnesses see.
        (TWO, "WS", {"a": ".-"}, {"w": "--"}, "W?"),
    ],
)
def test_witnesses(
    names: Mapping[str, str], before: str, sights: Mapping[str, str], witnesses: Mapping[str, str], after: str
) -> None:
    given = witnessed(evidence(names, sights), names, **witnesses)
    judged = judge(verdict(names, before), given, NOW, leader="a", fence=5)
    assert standings(judged, names) == after
    assert judgement_violations(verdict(names, before), judged, given, NOW) == []
    assert set(judged.nodes) == set(names)  # a witness is never judged


def test_who_sees_all_down_but_hears_a_witness_is_not_cut_off() -> None:
    given = witnessed(evidence(THREE, {"a": ".--"}), THREE, w="+--")
    own = given.heard["a"]
    for age_seconds, after in ((1.4, "SWW"), (1.6, "S?W")):
        hears = replace(own, report=replace(own.report, heard={"w": age_seconds}))
        found = replace(given, heard={**given.heard, "a": hears})
        judged = judge(verdict(THREE, "SSW"), found, NOW, leader="w", fence=5)
        assert standings(judged, THREE) == after
        assert judgement_violations(verdict(THREE, "SSW"), judged, found, NOW) == []


def test_a_witness_that_is_away_makes_nothing_harder() -> None:
    given = witnessed(evidence(THREE, {"a": ".+-", "b": "+.-"}), THREE, w="++-")
    stale = replace(given, heard={**given.heard, "w": replace(given.heard["w"], made=NOW - 9.0)})
    assert standings(judge(verdict(THREE, "SSS"), stale, NOW, leader="a", fence=5), THREE) == "SSW"


def test_a_node_that_became_a_witness_leaves_the_verdict() -> None:
    given = witnessed(evidence(THREE, {"a": ".++", "b": "+.+"}), THREE, c="++?")
    assert standings(judge(verdict(THREE, "SSS"), given, NOW, leader="a", fence=5), THREE) == "SS."


@pytest.mark.parametrize(("seconds", "after"), [(0.9, "SS?"), (1.1, "SSW")])
def test_who_is_just_back_has_no_voice_yet(seconds: float, after: str) -> None:
    before = verdict(THREE, "SSS")
    back = replace(before.nodes["b"], changed=NOW - seconds, penalty=1.0)
    before = replace(before, nodes={**before.nodes, "b": back})
    given = evidence(THREE, {"a": ".+-", "b": "+.-"})
    judged = judge(before, given, NOW, leader="a", fence=5)
    assert standings(judged, THREE) == after
    assert judgement_violations(before, judged, given, NOW) == []


def many(count: int) -> Evidence:
    """A cluster of so many nodes in regions of ten, all well, each with a report about all others."""
    names = {f"n{i:04}": f"r{i % (count // 10):03}" for i in range(count)}
    sights, ages = dict.fromkeys(names, Sight.UP), dict.fromkeys(names, 0.2)
    heard = {n: Heard(Report(n, region, n, 1, 1, sights, heard=ages), NOW - 0.1) for n, region in names.items()}
    members = {name: Member(name, region, (f"ip-{name}",)) for name, region in names.items()}
    return Evidence(heard, members, frozenset(names.values()), since=0.0)


def test_150_nodes_are_judged_within_ten_milliseconds() -> None:
    """Twenty times a second, between which the agent's loop has other work. A region has just died."""
    given = many(150)
    before = judge(Verdict(), given, NOW, leader="n0000", fence=1)
    dead = {name for name, member in given.members.items() if member.region == "r003"}
    seen = {name: Sight.DOWN if name in dead else Sight.UP for name in given.members}
    heard = {
        name: replace(held, made=NOW - 1.7) if name in dead else replace(held, report=replace(held.report, sights=seen))
        for name, held in given.heard.items()
    }
    silent = replace(given, heard={n: replace(h, report=replace(h.report, heard={})) for n, h in heard.items()})
    seconds = []
    for _ in range(5):
        begun = perf_counter()
        after = judge(before, silent, NOW, leader="n0000", fence=1)
        seconds.append(perf_counter() - begun)
    assert {name for name, node in after.nodes.items() if node.standing is Standing.WITHDRAWN} == dead
    assert min(seconds) < 0.010
