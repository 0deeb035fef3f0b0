"""What keeps early data (0-RTT, RFC 8446 section 8) from being played again: each ticket is good for it once, in the
worker that gave it, to the address that got it.

A ticket carries a tag that only this worker could have made, of the client's address. Whoever shows one for early data
has it struck off, and it stays struck off until it expires. So a recorded first flight comes to nothing here, and
anywhere else it meets another worker's secret; nor can it be sent in somebody else's name, although an address is not
proved yet when early data is read. What is refused costs a whole handshake and no error.
"""

import hmac
import os
from collections.abc import Callable
from hashlib import blake2b

from meridian.wire.aioquic_hooks import TICKET_SECONDS

SPENT_MAX = 100_000
"""Tickets that are remembered, some 15 MB: a worker does not do as many handshakes in an hour for long; beyond, early
data is refused until the oldest have expired."""

_TAG_BYTES = 16


class SpentTickets:
    """Those of one worker's listener that were used for early data."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` gives seconds that only rise."""
        self._clock = clock
        self._secret = os.urandom(32)
        self._spent: dict[bytes, float] = {}  # until when, the first to expire first

    def __len__(self) -> int:
        return len(self._spent)

    def of_client(self, address: str) -> "EarlyData":
        """For one connection."""
        return EarlyData(self, hmac.digest(self._secret, address.encode(), "sha256")[:_TAG_BYTES])

    def spend(self, ticket: bytes) -> bool:
        """Whether it is the first time."""
        now = self._clock()
        while self._spent and next(iter(self._spent.values())) <= now:
            del self._spent[next(iter(self._spent))]
        name = blake2b(ticket, digest_size=16).digest()
        if name in self._spent or len(self._spent) >= SPENT_MAX:
            return False
        self._spent[name] = now + TICKET_SECONDS
        return True


class EarlyData:
    """See aioquic_hooks.Early."""

    def __init__(self, spent: SpentTickets, tag: bytes) -> None:
        self.tag = tag
        self._spent = spent

    def take(self, ticket: bytes, tag: bytes) -> bool:
        """See aioquic_hooks.Early."""
        return hmac.compare_digest(tag, self.tag) and self._spent.spend(ticket)
