"""How far regions are from each other: what their nodes measured, joined into the verdict. Pure.

Invariant: answers that go by distance do not flap with the network. What keeps it:
- A **round trip** that a node tells is the median of its last probes, and a distance is the median of all that the
  nodes of both regions tell of each other. So neither one slow probe nor one odd node moves it.
- A distance that is held stays until the new one is off by more than OFF_PART of it, and by OFF_SECONDS at least.
- Distances change at most once in SURVEY_SECONDS, all that are due together: that is what they may cost in versions of
  the verdict.

What nobody measures any more is kept: the way to a region that is gone is as long as it was. It goes with the region.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Set
from math import isfinite
from statistics import median_low

from meridian.core.standings import STALE_SECONDS, Distance, Evidence, Pair

SURVEY_SECONDS = 10.0
OFF_PART = 0.25
OFF_SECONDS = 0.005
REGIONS_MAX = 64  # some 2,000 distances, 100 KB of a verdict
ROUND_TRIP_SECONDS_MAX = 60.0
DIGITS = 4  # a tenth of a millisecond


def survey(
    before: Mapping[Pair, Distance], evidence: Evidence, regions: Set[str], now: float
) -> Mapping[Pair, Distance]:
    """Returns the distances between `regions`, those of the verdict, at `now`; `before` itself if nothing changed."""
    kept = {pair: held for pair, held in before.items() if regions >= set(pair)}
    if now - max((held.taken for held in kept.values()), default=float("-inf")) >= SURVEY_SECONDS:
        for pair, told in _told(evidence, sorted(regions)[:REGIONS_MAX], now).items():
            seconds = round(median_low(told), DIGITS)
            if pair not in kept or _is_off(kept[pair].seconds, seconds):
                kept[pair] = Distance(seconds, now)
    return before if kept == before else kept


def is_round_trip(seconds: float) -> bool:
    """Whether it can be one; what is not is left out of what nodes tell."""
    return isfinite(seconds) and 0.0 <= seconds <= ROUND_TRIP_SECONDS_MAX


def _told(evidence: Evidence, regions: Iterable[str], now: float) -> dict[Pair, list[float]]:
    """All that is known now of each two of `regions`, from both sides."""
    surveyed = frozenset(regions)
    told = defaultdict[Pair, list[float]](list)
    for heard in evidence.heard.values():
        report = heard.report
        if report.region not in surveyed or now - heard.made > STALE_SECONDS:
            continue
        for region, seconds in report.round_trips.items():
            if region in surveyed and region != report.region:
                told[min(region, report.region), max(region, report.region)].append(seconds)
    return told


def _is_off(held: float, seconds: float) -> bool:
    return abs(seconds - held) > max(OFF_SECONDS, OFF_PART * held)
