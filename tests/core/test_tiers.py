"""Never nothing, own region and first priority first, what falls short spills, what comes up warms up."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.balanced import chosen, ready, upstream

from meridian.core.balancing import choose
from meridian.core.tiers import SLOW_STEPS, UpstreamState, build_tiers, slow_part


def test_tiers_in_order() -> None:
    of = upstream(1, 1, 1, 1, regions=("here", None, "far", "lost"))
    state = ready(of, withdrawn=frozenset({"lost", "here"}))

    def first() -> set[int]:
        state.tiers = build_tiers(of, state, "here", frozenset({"lost", "here"}))
        return {endpoint.index for endpoint in state.tiers[0].endpoints}

    assert first() == {0, 1}, "a withdrawn region still serves its own clients"
    state.endpoints[0].ejected = state.endpoints[1].probed_down = True
    assert first() == {2}
    state.endpoints[2].ejected = True
    assert first() == {3}
    state.endpoints[3].ejected = True
    assert first() == {0, 1, 2, 3}, "fail open"


def test_a_share_is_no_reason_to_serve_nobody_and_none_in_its_own_region() -> None:
    of = upstream(1, 1, regions=("half", "half"))
    state = UpstreamState.of(of)
    assert len(build_tiers(of, state, "here", frozenset(), frozenset(), {"half": 0.05})[0].endpoints) == 2
    own = build_tiers(of, state, "half", frozenset(), frozenset(), {"half": 0.05})[0]
    assert own.even and len(own.endpoints) == 2


def test_a_suspect_region_comes_after_those_that_are_well_and_before_withdrawn_ones() -> None:
    of = upstream(1, 1, 1, regions=("gone", "doubted", "well"))
    state = UpstreamState.of(of)
    tiers = build_tiers(of, state, "here", frozenset({"gone"}), frozenset({"doubted"}))
    order = [tuple(endpoint.region for endpoint in tier.endpoints) for tier in tiers]
    assert order == [("well",), ("doubted",), ("gone",), ("gone", "doubted", "well")]


def test_priorities_come_before_nearness_and_the_verdict_before_priorities() -> None:
    of = upstream(1, 1, 1, 1, regions=("far", "here", "far", "gone"), priorities=(0, 1, 1, 0))
    tiers = build_tiers(of, UpstreamState.of(of), "here", frozenset({"gone"}))
    assert [sorted(tier.places) for tier in tiers] == [[0], [1], [2], [3], [0, 1, 2, 3]]
    assert [tier.good for tier in tiers] == [True, True, True, False, False]


@pytest.mark.parametrize(("down", "expected"), [(0, 1.0), (1, 1.0), (2, 0.5 / 0.7), (3, 0.25 / 0.7), (4, 0.0)])
def test_what_a_region_cannot_carry_spills_to_the_next(down: int, expected: float) -> None:
    of = upstream(*[1] * 8, regions=(*["here"] * 4, *["far"] * 4), spill_below=0.7)
    state = UpstreamState.of(of)
    for one in state.endpoints[:down]:
        one.probed_down = True
    state.tiers = build_tiers(of, state, "here", frozenset())
    draw = random.Random(3).random
    near = sum(endpoint.region == "here" for _ in range(4000) if (endpoint := choose(of, state, draw)))
    assert near / 4000 == pytest.approx(expected, abs=0.03)


@given(
    st.lists(
        st.tuples(st.sampled_from([None, "here", "a", "b"]), st.booleans(), st.integers(0, 2), st.integers(1, 5)),
        min_size=1, max_size=10,
    ),
    st.floats(0, 1), st.floats(0, 1), st.sets(st.sampled_from(["here", "a", "b"])),
)  # fmt: skip
def test_the_shares_of_tiers_that_requests_begin_in_make_a_whole(
    endpoints: list[tuple[str | None, bool, int, int]], spill: float, panic: float, withdrawn: set[str]
) -> None:
    of = upstream(
        *[one[3] for one in endpoints], regions=tuple(one[0] for one in endpoints),
        priorities=tuple(one[2] for one in endpoints), spill_below=spill, panic_below=panic,
    )  # fmt: skip
    state = UpstreamState.of(of)
    for one, (_, down, _, _) in zip(state.endpoints, endpoints, strict=True):
        one.probed_down = down
    tiers = build_tiers(of, state, "here", frozenset(withdrawn))
    assert all(tier.endpoints for tier in tiers)
    assert tiers[-1].endpoints == of.endpoints, "never nothing"
    if tiers[0].takes < 1.0:
        assert sum(tier.takes for tier in tiers if tier.good) == pytest.approx(1.0)
        assert all(0.0 <= tier.takes <= 1.0 for tier in tiers)


def test_too_few_that_are_well_are_not_believed() -> None:
    of = upstream(1, 1, 1, panic_below=0.5)
    state = UpstreamState.of(of)
    state.endpoints[0].ejected = True
    assert len(build_tiers(of, state, "here", frozenset())[0].endpoints) == 2
    state.endpoints[1].probed_down = True
    assert len(build_tiers(of, state, "here", frozenset())[0].endpoints) == 3


def test_what_came_up_takes_a_growing_part() -> None:
    of = upstream(1, 1, slow_start_seconds=20.0)
    state = UpstreamState.of(of)
    state.endpoints[1].since = 1000.0
    parts = []
    for now in range(1000, 1022):
        state.tiers = build_tiers(of, state, "here", frozenset(), now=float(now))
        counts = chosen(of, state, 1000)
        parts.append(round(counts[1] / counts[0], 1))
    assert parts == sorted(parts) and (parts[0], parts[-1]) == (0.1, 1.0)
    assert len({slow_part(of, 1000.0, 1000 + tenth / 10) for tenth in range(300)}) == SLOW_STEPS


def test_endpoints_that_came_up_together_share_evenly() -> None:
    of = upstream(1, 1, slow_start_seconds=20.0)
    state = UpstreamState.of(of)
    for one in state.endpoints:
        one.since = 50.0
    state.tiers = build_tiers(of, state, "here", frozenset(), now=51.0)
    assert chosen(of, state, 100) == Counter({0: 50, 1: 50})
    assert ready(of).tiers[0].even
