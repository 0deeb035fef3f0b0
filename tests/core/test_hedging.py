"""When a try is late, by what was seen."""

import random
from math import inf

from hypothesis import given, settings
from hypothesis import strategies as st

from meridian.core.hedging import GROWTH, KEPT, SEEN_MIN, Hedge, Latencies

P95 = Hedge(0.95, 0.0)


def seen(*seconds: float) -> Latencies:
    """After these times."""
    latencies = Latencies()
    for one in seconds:
        latencies.observe(one)
    return latencies


def test_nothing_is_late_until_enough_was_seen() -> None:
    assert seen(*[0.01] * (SEEN_MIN - 1)).late_after(P95) == inf
    assert 0.01 <= seen(*[0.01] * SEEN_MIN).late_after(P95) <= 0.01 * GROWTH


@settings(deadline=None)
@given(st.floats(0.0002, 10.0), st.floats(0.0, 2.0), st.sampled_from((0.5, 0.9, 0.95, 0.99)), st.integers(0, 99))
def test_a_percentile_is_right_to_a_tenth(middle: float, spread: float, part: float, seed: int) -> None:
    draw = random.Random(seed)
    times = [middle * draw.lognormvariate(0.0, spread) for _ in range(1000)]
    times = [min(max(one, 0.0002), 50.0) for one in times]
    exact = sorted(times)[int(part * 1000)]
    found = seen(*times).late_after(Hedge(part, 0.0))
    assert exact / GROWTH**1.01 <= found <= exact * GROWTH**1.01


def test_it_is_never_sooner_than_the_document_says_and_follows_a_change() -> None:
    latencies = seen(*[0.001] * KEPT)
    assert latencies.late_after(Hedge(0.95, 0.02)) == 0.02
    for _ in range(3 * KEPT):
        latencies.observe(0.1)
    assert latencies.late_after(P95) >= 0.1
    assert latencies.total <= KEPT, "what is old is forgotten"


def test_any_time_has_its_place() -> None:
    latencies = seen(*[0.0] * 50, *[1e9] * 60)
    assert latencies.late_after(Hedge(0.3, 0.0)) < 0.001 and latencies.late_after(P95) > 90
