"""Messages that are broken by chance, for fuzzing."""

from collections.abc import Sequence
from random import Random


def mutated(chance: Random, seeds: Sequence[bytes]) -> bytes:
    """A message with bytes changed, cut, repeated, added or of another; sometimes nothing of a message at all."""
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.randrange(5)):
        if not data:
            break
        at = chance.randrange(len(data))
        kind = chance.randrange(6)
        if kind == 0:
            data[at] = chance.randrange(256)
        elif kind == 1:
            data[at] ^= 1 << chance.randrange(8)
        elif kind == 2:
            del data[at + 1 :]
        elif kind == 3:
            data[at:at] = data[at : at + chance.randrange(60)]
        elif kind == 4:
            data[at:at] = chance.randbytes(chance.randrange(1, 20))
        else:
            other = chance.choice(seeds)
            data[at:at] = other[chance.randrange(len(other) + 1) :][:200]
    return bytes(data) if chance.randrange(20) else chance.randbytes(chance.randrange(600))
