"""Consistent hashing: which endpoint a key belongs to, and which come next when that one cannot have it.

A table is a function of the endpoints' addresses and weights alone, the same in every worker of every node and whatever
their order. Health does not change it: an endpoint that cannot be used is walked past, so that only its own keys move,
and they come back to it. Tables are made when a document is compiled, beside the loop.

Sources: ring, Karger et al., "Consistent Hashing and Random Trees" (1997), with the points per server of libketama;
Maglev, Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer" (2016), section 3.4.
"""

from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from heapq import heapify, heapreplace, merge
from itertools import islice
from math import gcd
from typing import Protocol

POINTS_PER_WEIGHT = 160  # shares are within some 8 % of the weights (one standard deviation)
POINTS_MAX = 131_072  # of one ring: 1.3 MB; with more endpoints than that allows each has fewer points
MAGLEV_SLOTS = 65_537  # prime, and the paper's: shares within 1 % of the weights up to 650 endpoints
WALK_MAX = 256  # steps past endpoints that cannot be used; where half of them can, 2**-256 need more
_TABLES_KEPT = 256  # of upstreams whose endpoints did not change between two documents; 131 kB each, at most 1.3 MB
_SORTED_AT_ONCE = 4096  # one call into compiled code holds the interpreter: this many take a millisecond

_POINT_BITS = 64
_OWNER_BITS = 16  # an upstream has at most 10,000 endpoints


def hash_of(key: bytes) -> int:
    """64 bits of a key, the same everywhere: the processes' own `hash` is not."""
    return int.from_bytes(blake2b(key, digest_size=8).digest(), "little")


def fraction_of(key: int, index: int) -> float:
    """A number in [0, 1) that belongs to a key and an endpoint's index (the finaliser of splitmix64)."""
    mixed = (key ^ (index + 1) * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
    mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
    return ((mixed ^ mixed >> 31) >> 11) / 9007199254740992.0


class Table(Protocol):
    """Owners of keys."""

    def walk(self, key: int) -> Iterator[int]:
        """Indexes of endpoints in the order in which they may have the key; they may repeat."""


@dataclass(frozen=True, slots=True, eq=False)
class Ring:
    """Points on a circle, rising, and whose they are."""

    points: "array[int]"
    owners: "array[int]"

    def walk(self, key: int) -> Iterator[int]:
        """From the key's place on the circle onwards."""
        count = len(self.points)
        at = bisect_right(self.points, key)
        for step in range(min(count, WALK_MAX)):
            yield self.owners[(at + step) % count]


@dataclass(frozen=True, slots=True, eq=False)
class Maglev:
    """A slot for each remainder, and whose it is."""

    owners: "array[int]"

    def walk(self, key: int) -> Iterator[int]:
        """The key's slot, then others in an order of the key's own: keys of one lost endpoint go to all others."""
        stride = 1 + (key >> 32) % (MAGLEV_SLOTS - 1)
        for step in range(WALK_MAX):
            yield self.owners[(key + step * stride) % MAGLEV_SLOTS]


@lru_cache(maxsize=_TABLES_KEPT)
def ring_of(endpoints: tuple[tuple[str, int], ...]) -> Ring:
    """The ring of these (address, weight)."""
    weights = _reduced(endpoints)
    all_points = min(POINTS_PER_WEIGHT * sum(weights), POINTS_MAX)
    found: list[int] = []
    for index, ((address, _), weight) in enumerate(zip(endpoints, weights, strict=True)):
        count = max(1, weight * all_points // sum(weights))
        found += (point << _OWNER_BITS | index for point in islice(_points(address), count))
    pieces = [sorted(found[at : at + _SORTED_AT_ONCE]) for at in range(0, len(found), _SORTED_AT_ONCE)]
    points, owners = array("Q"), array("H")
    for one in merge(*pieces):
        points.append(one >> _OWNER_BITS)
        owners.append(one & 0xFFFF)
    return Ring(points, owners)


@lru_cache(maxsize=_TABLES_KEPT)
def maglev_of(endpoints: tuple[tuple[str, int], ...]) -> Maglev:
    """The Maglev table of these (address, weight): each takes the free slots of its own permutation, in turns that come
    as often as its weight says."""
    owners = array("i", [-1]) * MAGLEV_SLOTS
    turns = []
    for order, index in enumerate(sorted(range(len(endpoints)), key=endpoints.__getitem__)):  # not as in the document
        address, weight = endpoints[index]
        number = hash_of(address.encode())
        slot, skip = number % MAGLEV_SLOTS, 1 + (number >> 32) % (MAGLEV_SLOTS - 1)
        turns.append((1.0 / weight, order, index, slot, skip, 1.0 / weight))
    heapify(turns)
    for _ in range(MAGLEV_SLOTS):
        due, order, index, slot, skip, pause = turns[0]
        while owners[slot] >= 0:
            slot = (slot + skip) % MAGLEV_SLOTS
        owners[slot] = index
        heapreplace(turns, (due + pause, order, index, slot, skip, pause))
    return Maglev(array("H", owners))


def _reduced(endpoints: Sequence[tuple[str, int]]) -> list[int]:
    """The weights without what they have in common: 100 and 200 are 1 and 2."""
    common = gcd(*(weight for _, weight in endpoints))
    return [weight // common for _, weight in endpoints]


def _points(address: str) -> Iterator[int]:
    """Places of an address on the circle, without end: the first ones stay when its weight changes."""
    count = 0
    while True:
        digest = blake2b(b"%b %d" % (address.encode(), count)).digest()  # 64 bytes
        for at in range(0, len(digest), _POINT_BITS // 8):
            yield int.from_bytes(digest[at : at + _POINT_BITS // 8], "little")
        count += 1
