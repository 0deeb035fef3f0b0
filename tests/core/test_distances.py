"""Distances by example, and that a network that swings moves them no more than is promised."""

from collections.abc import Mapping
from dataclasses import replace
from random import Random

from meridian.core.distances import OFF_PART, SURVEY_SECONDS, survey
from meridian.core.health import Sight
from meridian.core.standings import STALE_SECONDS, Distance, Evidence, Heard, Member, Report, Verdict
from meridian.core.verdicts import judge, merge

NOW = 1000.0
REGIONS = {"eu", "us", "ap"}
AP_EU, AP_US, EU_US = ("ap", "eu"), ("ap", "us"), ("eu", "us")


def told(round_trips: Mapping[str, Mapping[str, float]], now: float = NOW, age_seconds: float = 0.1) -> Evidence:
    """`round_trips`: by observer, which is named by its region and a digit."""
    heard = {
        name: Heard(Report(name, name[:2], f"{name}.1", 1, 1, {}, round_trips=trips), now - age_seconds)
        for name, trips in round_trips.items()
    }
    return Evidence(heard, {}, frozenset(REGIONS), since=0.0)


def seconds(distances: Mapping[tuple[str, str], Distance]) -> dict[tuple[str, str], float]:
    return {pair: held.seconds for pair, held in distances.items()}


def test_a_distance_is_the_median_of_what_both_sides_tell() -> None:
    trips = {"eu1": {"us": 0.08, "ap": 0.21}, "eu2": {"us": 0.0812345}, "us1": {"eu": 5.0}}
    assert seconds(survey({}, told(trips), REGIONS, NOW)) == {EU_US: 0.0812, AP_EU: 0.21}


def test_what_is_stale_or_of_no_region_of_the_verdict_counts_nothing() -> None:
    trips = {"eu1": {"us": 0.08, "eu": 0.01, "mars": 700.0}, "xx1": {"us": 0.1}}
    assert seconds(survey({}, told(trips), REGIONS, NOW)) == {EU_US: 0.08}
    assert survey({}, told(trips, age_seconds=STALE_SECONDS + 0.1), REGIONS, NOW) == {}


def test_only_what_is_off_by_much_is_taken_anew() -> None:
    before = {AP_EU: Distance(0.2, 900.0), EU_US: Distance(0.002, 900.0)}
    near = told({"eu1": {"ap": 0.2 * (1 + OFF_PART), "us": 0.0069}})
    assert survey(before, near, REGIONS, NOW) is before
    off = survey(before, told({"eu1": {"ap": 0.2 * (1 + OFF_PART) + 0.001, "us": 0.0071}}), REGIONS, NOW)
    assert seconds(off) == {AP_EU: 0.251, EU_US: 0.0071}
    assert {held.taken for held in off.values()} == {NOW}


def test_nothing_is_taken_before_the_next_survey_and_then_all_at_once() -> None:
    before = {AP_EU: Distance(0.2, NOW)}
    moved = {"eu1": {"ap": 0.1, "us": 0.08}}
    assert survey(before, told(moved), REGIONS, NOW + SURVEY_SECONDS - 0.1) is before
    after = survey(before, told(moved, NOW + SURVEY_SECONDS), REGIONS, NOW + SURVEY_SECONDS)
    assert seconds(after) == {AP_EU: 0.1, EU_US: 0.08}


def test_what_nobody_measures_any_more_is_kept_until_its_region_goes() -> None:
    before = {AP_EU: Distance(0.2, 900.0), EU_US: Distance(0.08, NOW - 1.0)}
    assert survey(before, told({}), REGIONS, NOW) is before
    assert survey(before, told({}), {"eu", "us"}, NOW) == {EU_US: Distance(0.08)}, "at once, whenever the last was"


def test_a_network_that_swings_changes_distances_seldom_and_order_hardly() -> None:
    random = Random(7)
    held: Mapping[tuple[str, str], Distance] = {}
    changes = []
    for tick in range(20 * 600):  # ten minutes of a leader's judgements
        now = NOW + tick / 20
        trips = {"eu1": {"us": random.uniform(0.08, 0.099), "ap": random.uniform(0.1, 0.12)}}
        after = survey(held, told(trips, now), REGIONS, now)
        changes += [now] if after is not held else []
        held = after
    assert len(changes) == 1, "two medians within a quarter of each other never take turns"
    for tick in range(20 * 60):  # and one that breaks the bounds all the time
        now = NOW + 700.0 + tick / 20
        after = survey(held, told({"eu1": {"us": random.choice((0.01, 0.3))}}, now), REGIONS, now)
        changes += [now] if after is not held else []
        held = after
    assert 2 < len(changes) <= 1 + 60 / SURVEY_SECONDS


def test_a_judgement_with_another_distance_is_another_version_and_without_news_it_is_the_same() -> None:
    regions = {"eu1": "eu", "us1": "us"}
    heard = {
        name: Heard(Report(name, region, f"{name}.1", 1, 1, dict.fromkeys(regions, Sight.UP)), NOW - 0.1)
        for name, region in regions.items()
    }
    members = {name: Member(name, region, (f"ip-{name}",)) for name, region in regions.items()}
    unmeasured = Evidence(heard, members, frozenset(regions.values()), since=0.0)
    first = judge(Verdict(5, 7, leader="eu1"), unmeasured, NOW, leader="eu1", fence=5)
    report = replace(heard["eu1"].report, round_trips={"us": 0.08})
    measured = replace(unmeasured, heard={**heard, "eu1": Heard(report, NOW - 0.1)})
    second = judge(first, measured, NOW, leader="eu1", fence=5)
    assert (second.version, second.nodes, second.distances) == (first.version + 1, first.nodes, {EU_US: Distance(0.08)})
    assert judge(second, measured, NOW + 0.05, leader="eu1", fence=5) is second
    assert merge(second, unmeasured, NOW + 60.0, merger="us1").distances == second.distances, "without a leader too"
