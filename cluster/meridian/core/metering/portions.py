"""Which part of a count is one worker's.

Invariants: over all spenders the parts of a key sum to exactly the whole; and the part of a spender never falls when
the whole rises. So while a change of N is under way, and some have heard of it and some not, the parts sum to at most
the greater of both: a change needs no second phase.
"""

import zlib
from dataclasses import dataclass

NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class Portion:
    """The slices `indexes` of `spenders` equal ones, none of which anybody else has."""

    spenders: int
    indexes: tuple[int, ...]

    def __post_init__(self) -> None:
        assert all(0 <= index < self.spenders for index in self.indexes)
        assert len(set(self.indexes)) == len(self.indexes)

    def own(self, amount: int, digest: int) -> int:
        """The part of `amount`. The digest of a key turns the ring, so that odd ones of different keys lie with
        different spenders."""
        spenders = self.spenders
        each, odd = divmod(amount, spenders)
        part = each * len(self.indexes)
        if odd:
            for index in self.indexes:
                if (index + digest) % spenders < odd:
                    part += 1
        return part


ALL = Portion(1, (0,))
NOTHING = Portion(1, ())


def digest(limit: str, key: str) -> int:
    """Where a key lies on the ring of a limit; the same on every node. 32 bits."""
    return zlib.crc32(key.encode(), zlib.crc32(limit.encode()))
