"""Upstreams in few words, for tests of balancing."""

import random
from collections import Counter
from dataclasses import replace
from typing import Any

from meridian.core.balancing import Ask, choose
from meridian.core.hashing import Table, hash_of, maglev_of, ring_of
from meridian.core.snapshot import Endpoint, Upstream
from meridian.core.tiers import UpstreamState, build_tiers


def upstream(
    *weights: int, balance: str = "round_robin", regions: tuple[str | None, ...] = (), priorities: tuple[int, ...] = (),
    **more: Any,
) -> Upstream:  # fmt: skip
    """An upstream with endpoints of these weights."""
    endpoints = tuple(
        Endpoint(
            index, f"10.0.0.{index}:80", f"10.0.0.{index}", 80, regions[index] if regions else None, weight,
            priorities[index] if priorities else 0,
        )
        for index, weight in enumerate(weights)
    )  # fmt: skip
    made = Upstream("app", balance, endpoints, None, 1.0, 30.0, 1024, has_priorities=any(priorities), **more)
    return replace(made, table=table_of(made))


def table_of(of: Upstream) -> Table | None:
    """As a snapshot would have it."""
    weights = tuple((endpoint.address, endpoint.weight) for endpoint in of.endpoints)
    if of.balance == "ring_hash":
        return ring_of(weights)
    return maglev_of(weights) if of.balance in ("maglev", "ip_hash") else None


def reordered(of: Upstream, order: list[int]) -> Upstream:
    """The same endpoints in another order."""
    endpoints = tuple(replace(of.endpoints[old], index=new) for new, old in enumerate(order))
    other = replace(of, endpoints=endpoints)
    return replace(other, table=table_of(other))


def ready(of: Upstream, own: str = "here", withdrawn: frozenset[str] = frozenset()) -> UpstreamState:
    """A state with tiers."""
    state = UpstreamState.of(of)
    state.tiers = build_tiers(of, state, own, withdrawn)
    return state


def owner(of: Upstream, state: UpstreamState, key: int) -> int:
    """Whose a key is."""
    endpoint = choose(of, state, lambda: 0.5, (), Ask(hash_of(b"%d" % key)))
    assert endpoint is not None
    return endpoint.index


def chosen(of: Upstream, state: UpstreamState, count: int) -> Counter[int]:
    """How often each was chosen, by requests that have keys of their own."""
    draw = random.Random(7).random
    out: Counter[int] = Counter()
    for number in range(count):
        endpoint = choose(of, state, draw, (), Ask(hash_of(b"%d" % number)))
        assert endpoint is not None
        out[endpoint.index] += 1
    return out
