"""How a limit is cut into whole tokens. For every key the tokens of all slices sum to exactly the burst.

The slice x places after a key's first one has floor((x+1)B/N) - floor(xB/N) of N slices. The key's digest turns the
ring, so that odd tokens of different keys lie with different spenders. A burst too small to be shared lies on one
slice: its spender owns the key.

A change of rate or burst has two phases. While `following` is set, everyone takes per slice the lesser of both;
`following` becomes `current` by one write when `switchable`. So the old bound holds before that write and the new one
after it, whoever has heard of it and whoever has not.
"""

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

CLOCK_DRIFT_MAX = 0.01  # clocks whose rates are within so much of true time are inside invariant 2


@dataclass(frozen=True, slots=True)
class Cut:
    """How all limits are cut, and what the promises between spenders last. Fixed for one generation of the store.

    `homes` seats (the first ones) may belong to a machine for good. Clocks' rates are within `drift` of true time. A
    burst of at most `alone_max` has one owner per key: with fewer tokens than spenders, sharing would strand them.
    """

    seats: int = 16
    slices: int = 2
    homes: int = 4
    alone_max: int = 8
    lease_seconds: float = 10.0
    loan_seconds: float = 2.0
    drift: float = CLOCK_DRIFT_MAX

    def __post_init__(self) -> None:
        """Raises ValueError: a cut is also read from the store."""
        if not 0 < self.homes <= self.seats:
            raise ValueError(f"{self.homes} home seats of {self.seats} seats: at least one, and not more than all")
        if self.slices <= 0:
            raise ValueError(f"{self.slices} slices: each worker spends one, so there must be one")
        if not self.lease_seconds > 2 * self.withheld_seconds:
            raise ValueError("a loan must fit into what is left of a lease")

    @property
    def spread(self) -> float:
        """How much longer one clock may show a time than another: the ratio of the fastest to the slowest."""
        return (1 + self.drift) / (1 - self.drift)

    @property
    def certain_seconds(self) -> float:
        """How long after asking for a lease, by the holder's clock, the store certainly still keeps it."""
        return self.lease_seconds / self.spread

    @property
    def withheld_seconds(self) -> float:
        """How long after granting, by the lender's clock, a borrower may still spend a loan."""
        return self.loan_seconds * self.spread

    @property
    def ring(self) -> int:
        """The number of slices of all seats."""
        return self.seats * self.slices


@dataclass(frozen=True, slots=True)
class Rule:
    """What a limit allows, in tokens."""

    rate_per_second: float
    burst: int


@dataclass(frozen=True, slots=True)
class Value:
    """What is in force for a limit: `current`, or while `following` is set, per slice the lesser of both.

    `version` rises with every write; `generation` is the store's and rises when it was restored.
    """

    generation: int
    version: int
    current: Rule
    following: Rule | None = None

    @property
    def order(self) -> tuple[int, int]:
        """Which of two values is the newer one."""
        return self.generation, self.version

    @property
    def rules(self) -> tuple[Rule, ...]:
        return (self.current,) if self.following is None else (self.current, self.following)


def digest(limit: str, key: str) -> int:
    """Where a key lies on the ring; the same on every node. 32 bits."""
    return zlib.crc32(key.encode(), zlib.crc32(limit.encode()))


def tokens(cut: Cut, rule: Rule, place: int) -> int:
    """The whole tokens of the slice `place` places after a key's first one."""
    if rule.burst <= cut.alone_max:
        return rule.burst if place == 0 else 0
    return (place + 1) * rule.burst // cut.ring - place * rule.burst // cut.ring


@dataclass(frozen=True, slots=True)
class Share:
    """What one worker has of its own, of a limit: by the class of a key, which is its digest modulo `Cut.ring`."""

    by_place: tuple[int, ...] = ()
    slices: tuple[int, ...] = ()
    home_slices: tuple[int, ...] = ()

    def own(self, class_: int) -> int:
        """Whole tokens of all seats."""
        return self._sum(self.slices, class_)

    def home(self, class_: int) -> int:
        """Whole tokens of home seats, which no lease can take away."""
        return self._sum(self.home_slices, class_)

    def _sum(self, slices: tuple[int, ...], class_: int) -> int:
        by_place = self.by_place
        return sum([by_place[slice_ - class_] for slice_ in slices])  # a negative place counts from the ring's end


def tokens_by_place(cut: Cut, value: Value) -> tuple[int, ...]:
    """The whole tokens of every slice of a key; in a change of the limit the lesser of both."""
    return tuple(min(tokens(cut, rule, place) for rule in value.rules) for place in range(cut.ring))


def share_of(cut: Cut, by_place: tuple[int, ...], home: Iterable[int], leased: Iterable[int], slot: int) -> Share:
    """What worker `slot` of a node with these seats has."""
    home_slices = tuple(slice_of(cut, seat, slot) for seat in home)
    return Share(by_place, home_slices + tuple(slice_of(cut, seat, slot) for seat in leased), home_slices)


def fill_seconds(cut: Cut, value: Value) -> float:
    """How long an empty bucket of any size takes to fill, by its holder's clock, even if that runs fast."""
    return max(rule.burst / rule.rate_per_second for rule in value.rules) * (1 + cut.drift)


def slice_of(cut: Cut, seat: int, slot: int) -> int:
    """Where a worker's slice of a seat lies on the ring; in this order neighbours lie with different seats."""
    return slot * cut.seats + seat


def owner(cut: Cut, value: Value, key_digest: int) -> tuple[int, int] | None:
    """The (seat, slot) that owns a key outright, or None if the limit is shared. Ask there where own tokens are 0."""
    if max(rule.burst for rule in value.rules) > cut.alone_max:
        return None
    place = key_digest % cut.ring
    return place % cut.seats, place // cut.seats


def switchable(value: Value, holders: Iterable[str], acknowledged: Mapping[str, tuple[int, int]], frozen: bool) -> bool:
    """Whether `following` may become `current`: every node that holds a seat has acknowledged this value.

    Read `holders` after the value was written, and require of whoever takes a seat later to read the value in the
    same transaction: then nobody can be missing here. Never while `frozen`: a restored store does not know who holds
    home seats.
    """
    return not frozen and all(acknowledged.get(node, (-1, -1)) >= value.order for node in holders)
