"""The comparison of a candidate with what is in force: what it finds, and how seldom it is wrong."""

import math
import random

import pytest
from tests.scale import seeds

from meridian.core.judging import (
    ALARM,
    BOUNDS_SECONDS,
    HANDSHAKES,
    KINDS,
    NOTHING,
    PAIRED_SHARE,
    QUESTIONS,
    ROUTES_MAX,
    Arms,
    Sample,
    Tally,
    judge,
    log_evidence,
    merged,
    total,
)

SHARE = 0.05


def tally(exchanges: int, *, slow: int = 0, **counts: int) -> Tally:
    """`slow`: how many took more than a second."""
    slower = tuple(slow if bound <= 1.0 else 0 for bound in BOUNDS_SECONDS)
    return Tally(exchanges, **counts, slower=slower)


def arms(current: Tally, candidate: Tally, share: float = SHARE) -> Arms:
    return Arms(share, {"r": current}, {"r": candidate})


@pytest.mark.parametrize("kind", KINDS)
def test_a_candidate_that_fails_everything_is_found_within_ten_exchanges(kind: str) -> None:
    needed = next(n for n in range(1, 100) if judge(arms(tally(20 * n), tally(n, **{kind: n}))) is not None)
    assert 3 < needed <= 10


def test_what_is_found_is_said_with_both_sides() -> None:
    found = judge(arms(tally(900, failed=9), tally(50, failed=40)))
    assert str(found) == ("40 of 50 exchanges (80.0 %) failed, against 9 of 900 (1.0 %) with the version in force")


def test_an_upstream_that_dies_meanwhile_hits_both_and_is_nobody_s_fault() -> None:
    assert judge(arms(tally(9_500, failed=9_500), tally(500, failed=500))) is None
    assert judge(arms(tally(9_500, rejected=4_000), tally(500, rejected=215))) is None


def test_one_route_of_many_is_found_where_all_together_hide_it() -> None:
    current = {"large": tally(95_000, refused=19_000), "small": tally(190)}
    candidate = {"large": tally(5_000, refused=1_000), "small": tally(14, refused=14)}
    found = judge(Arms(SHARE, current, candidate))
    assert found is not None and found.route == "small"


def sampled(of: str, current: Tally, candidate: Tally, share: float = SHARE) -> Arms:
    return Arms(SHARE, {"r": tally(9_500)}, {"r": tally(500)}, {of: Sample(share, current, candidate)})


def test_handshakes_that_fail_on_the_candidate_are_found_within_ten() -> None:
    needed = next(n for n in range(1, 100) if judge(sampled(HANDSHAKES, tally(20 * n), tally(n, failed=n))))
    assert 3 < needed <= 10
    found = judge(sampled(HANDSHAKES, tally(200), tally(10, failed=10)))
    assert str(found).startswith("10 of 10 TLS handshakes (100.0 %) failed, against 0 of 200 (0.0 %)")
    assert judge(sampled(HANDSHAKES, tally(9_500, failed=950), tally(500, failed=55))) is None, "scanners come to both"


def test_questions_that_only_the_candidate_leaves_open_are_found_and_as_many_on_both_sides_are_not() -> None:
    found = judge(sampled(QUESTIONS, tally(1_000), tally(1_000, unrouted=40), PAIRED_SHARE))
    assert str(found).startswith("40 of 1000 DNS questions (4.0 %) got no records")
    assert judge(sampled(QUESTIONS, tally(1_000, unrouted=40), tally(1_000, unrouted=40), PAIRED_SHARE)) is None
    assert judge(sampled(QUESTIONS, tally(10**5), tally(10**5, unrouted=400), PAIRED_SHARE)) is None, "under 1 %"
    assert judge(sampled(QUESTIONS, tally(100), tally(100, failed=50), PAIRED_SHARE)) is not None


def test_slower_answers_are_found_and_a_few_slow_ones_are_not() -> None:
    found = judge(arms(tally(3_800), tally(200, slow=150)))
    assert found is not None and "took more than" in str(found)
    assert judge(arms(tally(3_800), tally(200, slow=20))) is None, "a few connections were opened first"
    assert judge(arms(tally(3_800, slow=1_900), tally(200, slow=110))) is None


def test_a_difference_that_nobody_would_act_on_is_none() -> None:
    assert judge(arms(tally(9_500_000), tally(500_000, failed=2_000))) is None


def test_looking_again_and_again_at_equal_versions_seldom_alarms() -> None:
    """One in a hundred for one test looked at after every event; what Ville's inequality promises is one in fifty."""
    threshold, alarms, runs = math.log(50), 0, 40 * len(seeds(10))
    for seed in range(runs):
        draw = random.Random(seed)
        ours = theirs = 0
        for _ in range(500):
            hit = draw.random() < SHARE
            ours, theirs = ours + hit, theirs + (not hit)
            if log_evidence(ours, theirs, SHARE) > threshold:
                alarms += 1
                break
    assert alarms <= 0.02 * runs


def test_a_random_walk_of_whole_rollouts_never_alarms() -> None:
    for seed in seeds(30):
        draw = random.Random(seed)
        rate, slow = draw.random(), draw.random()
        counts = {True: [0, 0, 0], False: [0, 0, 0]}
        for i in range(4_000):
            mine = counts[draw.random() < SHARE]
            mine[0] += 1
            mine[1] += draw.random() < rate
            mine[2] += draw.random() < slow
            if i % 100 == 0:
                sides = [tally(c[0], failed=c[1], slow=c[2]) for c in (counts[False], counts[True])]
                assert judge(arms(sides[0], sides[1])) is None, f"seed {seed}"


def test_sums() -> None:
    one = Arms(SHARE, {"a": tally(1, failed=1)}, {"a": tally(2, slow=1)})
    both = merged([one, one])
    assert both is not None
    assert total(both.current) == tally(2, failed=2)
    assert total(both.candidate) == tally(4, slow=2)
    first = sampled(HANDSHAKES, tally(8), tally(2, failed=1))
    again = merged([first, one, first])
    assert again is not None
    assert again.samples == {HANDSHAKES: Sample(SHARE, tally(16), tally(4, failed=2))}
    assert merged([]) is None
    assert total({}) == NOTHING
    assert 0 < ALARM < 0.01 and ROUTES_MAX > 0
