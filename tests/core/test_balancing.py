"""Fair shares, few moves, and never nothing."""

import math
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.balanced import chosen, owner, ready, reordered, upstream

from meridian.core.balancing import ALGORITHMS, LATENCY_DECAY_SECONDS, Ask, choose, observe
from meridian.core.hashing import hash_of
from meridian.core.tiers import EndpointState, UpstreamState, build_tiers

BY_LOAD = ("least_request", "ewma")  # without any they prefer by chance only
HASHED = ("ring_hash", "maglev", "ip_hash")


@pytest.mark.parametrize("balance", ALGORITHMS)
@pytest.mark.parametrize("weights", [(1, 1, 1), (5, 1, 1), (1, 2, 3, 4)])
def test_shares_follow_weights(balance: str, weights: tuple[int, ...]) -> None:
    of = upstream(*weights, balance=balance)
    counts = chosen(of, ready(of), 7000)
    tolerance = {"round_robin": 0.001, "ring_hash": 0.1}.get(balance, 0.05)
    for index, weight in enumerate(weights):
        if balance not in BY_LOAD:
            assert abs(counts[index] / 7000 - weight / sum(weights)) <= tolerance


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


def test_ewma_prefers_what_answers_quickly_and_forgets_a_peak() -> None:
    of = upstream(1, 1, balance="ewma")
    state = ready(of)
    observe(state.endpoints[0], 0.01, 0.0)
    observe(state.endpoints[1], 0.01, 0.0)
    observe(state.endpoints[1], 1.0, 0.0)
    assert chosen(of, state, 1000)[1] < 300, "by chance twice the same one"
    state.endpoints[0].active = 200
    assert chosen(of, state, 1000)[0] < 300, "a hundred times quicker, but two hundred are there"
    for seconds in range(1, 100):
        observe(state.endpoints[1], 0.01, float(seconds))
    assert state.endpoints[1].latency_seconds == pytest.approx(0.01, rel=0.05)


def test_ewma_sends_one_request_only_to_what_has_not_answered_yet() -> None:
    of = upstream(1, 1, balance="ewma")
    state = ready(of)
    observe(state.endpoints[0], 0.5, 0.0)
    draws = iter([0.0, 0.9] * 2)
    assert choose(of, state, lambda: next(draws), (), Ask(None, 0.0)) is of.endpoints[1]
    state.endpoints[1].active = 1
    assert choose(of, state, lambda: next(draws), (), Ask(None, 0.0)) is of.endpoints[0]


@given(st.lists(st.tuples(st.floats(0.0001, 60), st.floats(0, 30)), min_size=1, max_size=50))
def test_a_latency_average_lies_between_what_was_seen(seen: list[tuple[float, float]]) -> None:
    state, now = EndpointState(), 0.0
    for seconds, pause in seen:
        now += pause
        observe(state, seconds, now)
        assert state.latency_seconds >= seconds * 0.999, "a peak counts at once"
    lowest, highest = min(one for one, _ in seen), max(one for one, _ in seen)
    assert lowest * 0.999 <= state.latency_seconds <= highest * 1.001
    assert LATENCY_DECAY_SECONDS > 0


@pytest.mark.parametrize("balance", HASHED)
def test_a_lost_endpoint_costs_its_own_keys_only_and_gets_them_back(balance: str) -> None:
    of = upstream(*[1] * 10, balance=balance, load_bound=0.0)
    state = ready(of)
    before = {key: owner(of, state, key) for key in range(2000)}
    state.endpoints[3].ejected = True
    state.tiers = build_tiers(of, state, "here", frozenset())
    after = {key: owner(of, state, key) for key in range(2000)}
    assert {key for key in before if before[key] != after[key]} == {key for key in before if before[key] == 3}
    heirs = Counter(after[key] for key in before if before[key] == 3)
    assert max(heirs.values()) < sum(heirs.values()) * 0.6, "its keys do not all go to one other"
    state.endpoints[3].ejected = False
    state.tiers = build_tiers(of, state, "here", frozenset())
    assert {key: owner(of, state, key) for key in range(2000)} == before


@pytest.mark.parametrize("balance", HASHED)
@given(st.permutations(range(6)))
@settings(max_examples=5)
def test_owners_do_not_depend_on_the_order_of_endpoints(balance: str, order: list[int]) -> None:
    of = upstream(1, 2, 1, 3, 1, 1, balance=balance, load_bound=0.0)
    other = reordered(of, order)
    one, two = ready(of), ready(other)
    for key in range(300):
        hashed = Ask(hash_of(b"%d" % key))
        first, second = choose(of, one, lambda: 0.5, (), hashed), choose(other, two, lambda: 0.5, (), hashed)
        assert first is not None and second is not None and first.address == second.address


@pytest.mark.parametrize("balance", ["ring_hash", "maglev"])
@given(st.lists(st.integers(1, 5), min_size=2, max_size=8), st.floats(1.01, 3.0), st.data())
@settings(max_examples=30)
def test_no_endpoint_carries_more_than_the_bound_on_load(
    balance: str, weights: list[int], bound: float, data: st.DataObject
) -> None:
    of = upstream(*weights, balance=balance, load_bound=bound)
    state = ready(of)
    keys = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=100), label="keys")  # few and hot
    for key in keys:
        index = owner(of, state, key)
        state.endpoints[index].active += 1
        state.load.active += 1
        allowed = math.ceil(bound * state.load.active * weights[index] / sum(weights))
        assert state.endpoints[index].active <= allowed


@pytest.mark.parametrize("balance", HASHED)
def test_requests_without_a_key_are_spread(balance: str) -> None:
    of = upstream(1, 1, 1, balance=balance)
    state, draw = ready(of), random.Random(1).random
    counts = Counter(endpoint.index for _ in range(900) if (endpoint := choose(of, state, draw)))
    assert min(counts.values()) > 200


@pytest.mark.parametrize("balance", HASHED)
def test_a_warming_endpoint_takes_a_part_of_its_keys_and_then_all(balance: str) -> None:
    of = upstream(1, 1, balance=balance, load_bound=0.0, slow_start_seconds=10.0)
    state = ready(of)
    whole = {key for key in range(2000) if owner(of, state, key) == 0}
    state.endpoints[0].since = 100.0
    had: set[int] = set()
    for now, part in ((100.0, 0.1), (104.5, 0.5), (110.0, 1.0)):
        state.tiers = build_tiers(of, state, "here", frozenset(), now=now)
        has = {key for key in range(2000) if owner(of, state, key) == 0}
        assert had <= has <= whole and abs(len(has) / len(whole) - part) < 0.05
        had = has
    assert had == whole


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
    if balance not in BY_LOAD:
        assert abs(counts[1] / 6000 - 1 / 3) < (0.1 if balance in HASHED else 0.03)
    else:
        assert counts[1] < counts[0]
