"""Tables: fair, the same everywhere, and little moved by what changes."""

import hashlib
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meridian.core.hashing import (
    MAGLEV_SLOTS,
    POINTS_MAX,
    Maglev,
    Ring,
    fraction_of,
    hash_of,
    maglev_of,
    ring_of,
)

Endpoints = tuple[tuple[str, int], ...]
addresses = st.lists(
    st.tuples(st.integers(0, 10_000).map(lambda number: f"10.0.{number // 250}.{number % 250}:80"), st.integers(1, 8)),
    min_size=2, max_size=12, unique_by=lambda one: one[0],
).map(tuple)  # fmt: skip


def owners(table: Ring | Maglev, endpoints: Endpoints, count: int = 4000) -> list[str]:
    """To whom keys belong."""
    return [endpoints[next(table.walk(hash_of(b"key %d" % key)))][0] for key in range(count)]


def test_hashes_are_the_same_everywhere() -> None:
    assert hash_of(b"a client") == int.from_bytes(hashlib.blake2b(b"a client", digest_size=8).digest(), "little")
    assert fraction_of(hash_of(b"a client"), 7) == fraction_of(hash_of(b"a client"), 7)
    spread = Counter(int(10 * fraction_of(hash_of(b"%d" % key), 3)) for key in range(10_000))
    assert len(spread) == 10 and min(spread.values()) > 850


@given(addresses)
@settings(max_examples=10, deadline=None)
def test_maglev_gives_each_its_share_of_slots(endpoints: Endpoints) -> None:
    whole = sum(weight for _, weight in endpoints)
    counts = Counter(maglev_of(endpoints).owners)
    for index, (_, weight) in enumerate(endpoints):
        assert counts[index] == pytest.approx(MAGLEV_SLOTS * weight / whole, abs=len(endpoints) + 1)


@given(addresses)
@settings(max_examples=10, deadline=None)
def test_a_ring_gives_each_about_its_share(endpoints: Endpoints) -> None:
    whole = sum(weight for _, weight in endpoints)
    counts = Counter(owners(ring_of(endpoints), endpoints))
    for address, weight in endpoints:
        assert counts[address] / 4000 == pytest.approx(weight / whole, rel=0.5, abs=0.02)


@pytest.mark.parametrize(("make", "moved_max"), [(ring_of, 0.0), (maglev_of, 0.03)])
@given(addresses, st.data())
@settings(max_examples=10, deadline=None)
def test_an_endpoint_that_leaves_the_document_moves_few_keys_of_others(
    make: object, moved_max: float, endpoints: Endpoints, data: st.DataObject
) -> None:
    assert callable(make)
    even: Endpoints = tuple((address, 1) for address, _ in endpoints)
    gone = data.draw(st.sampled_from(even))
    left = tuple(one for one in even if one != gone)
    before, after = owners(make(even), even), owners(make(left), left)
    moved = sum(one != two for one, two in zip(before, after, strict=True) if one != gone[0])
    assert moved / len(before) <= moved_max


def test_many_endpoints_have_fewer_points_each_but_all_have_some() -> None:
    endpoints = tuple((f"10.0.{number // 250}.{number % 250}:80", 1 + 99 * (number == 0)) for number in range(5000))
    ring = ring_of(endpoints)
    assert len(ring.points) <= POINTS_MAX + len(endpoints) and set(ring.owners) == set(range(5000))
    assert list(ring.points) == sorted(ring.points)


def test_common_factors_of_weights_do_not_count() -> None:
    one, two = ring_of((("a:1", 100), ("b:1", 200))), ring_of((("a:1", 1), ("b:1", 2)))
    assert one.points == two.points and one.owners == two.owners
