"""Never nothing, own region first, fair shares."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meridian.core.balancing import ALGORITHMS, UpstreamState, build_tiers, choose
from meridian.core.snapshot import Endpoint, Upstream


def upstream(*weights: int, balance: str = "round_robin", regions: tuple[str | None, ...] = ()) -> Upstream:
    """An upstream with endpoints of these weights."""
    endpoints = tuple(
        Endpoint(index, f"10.0.0.{index}:80", f"10.0.0.{index}", 80, regions[index] if regions else None, weight)
        for index, weight in enumerate(weights)
    )
    return Upstream("app", balance, endpoints, None, 1.0, 60.0, 30.0, 2, 1024)


def ready(of: Upstream, own: str = "here", withdrawn: frozenset[str] = frozenset()) -> UpstreamState:
    """A state with tiers."""
    state = UpstreamState.of(of)
    state.tiers = build_tiers(of, state, own, withdrawn)
    return state


def chosen(of: Upstream, state: UpstreamState, count: int) -> Counter[int]:
    """How often each was chosen."""
    draw = random.Random(7).random
    out: Counter[int] = Counter()
    for _ in range(count):
        endpoint = choose(of, state, draw)
        assert endpoint is not None
        out[endpoint.index] += 1
    return out


@pytest.mark.parametrize("balance", ALGORITHMS)
@pytest.mark.parametrize("weights", [(1, 1, 1), (5, 1, 1), (1, 2, 3, 4)])
def test_shares_follow_weights(balance: str, weights: tuple[int, ...]) -> None:
    of = upstream(*weights, balance=balance)
    counts = chosen(of, ready(of), 7000)
    tolerance = 0.0 if balance == "round_robin" else 0.05
    for index, weight in enumerate(weights):
        if balance != "least_request":  # with no load it prefers by chance only
            assert abs(counts[index] / 7000 - weight / sum(weights)) <= tolerance + 0.001


def test_a_heavy_endpoints_turns_are_spread() -> None:
    of = upstream(5, 1, 1)
    state = ready(of)
    order = [choose(of, state, lambda: 0.0) for _ in range(7)]
    assert [endpoint.index for endpoint in order if endpoint] == [0, 0, 1, 0, 2, 0, 0]


def test_least_request_prefers_what_is_less_busy_for_its_weight() -> None:
    of = upstream(1, 1, balance="least_request")
    state = ready(of)
    state.endpoints[0].active = 100
    assert chosen(of, state, 1000)[1] > 700
    of = upstream(10, 1, balance="least_request")
    state = ready(of)
    state.endpoints[0].active, state.endpoints[1].active = 9, 5
    assert chosen(of, state, 1000)[1] < 50


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


@given(
    st.lists(
        st.tuples(st.integers(1, 9), st.sampled_from([None, "here", "a", "b"]), st.booleans(), st.booleans()),
        min_size=1, max_size=8,
    ),
    st.sampled_from(sorted(ALGORITHMS)),
    st.sets(st.sampled_from(["here", "a", "b"])),
    st.floats(0, 1, exclude_max=True),
)  # fmt: skip
def test_every_endpoint_is_tried_once_and_never_none_before(
    endpoints: list[tuple[int, str | None, bool, bool]], balance: str, withdrawn: set[str], chance: float
) -> None:
    of = upstream(*[one[0] for one in endpoints], balance=balance, regions=tuple(one[1] for one in endpoints))
    state = UpstreamState.of(of)
    for one, (_, _, down, ejected) in zip(state.endpoints, endpoints, strict=True):
        one.probed_down, one.ejected = down, ejected
    state.tiers = build_tiers(of, state, "here", frozenset(withdrawn))
    tried: tuple[int, ...] = ()
    for _ in endpoints:
        endpoint = choose(of, state, lambda: chance, tried)
        assert endpoint is not None and endpoint.index not in tried
        tried = (*tried, endpoint.index)
    assert choose(of, state, lambda: chance, tried) is None


@pytest.mark.parametrize("balance", ALGORITHMS)
def test_spill_goes_to_regions_by_their_shares(balance: str) -> None:
    of = upstream(1, 1, 2, balance=balance, regions=("whole", "half", None))
    state = UpstreamState.of(of)
    state.endpoints[2].probed_down = True
    state.tiers = build_tiers(of, state, "here", frozenset(), frozenset(), {"half": 0.5, "elsewhere": 0.1})
    assert [tier.endpoints[0].region for tier in state.tiers] == ["whole", "whole"]
    counts = chosen(of, state, 6000)
    if balance != "least_request":  # with no load it prefers by chance only
        assert abs(counts[1] / 6000 - 1 / 3) < 0.03
    else:
        assert counts[1] < counts[0]


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
