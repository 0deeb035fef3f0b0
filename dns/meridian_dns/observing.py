"""What a server shows of its work: counters of all, and some answers whole, to whoever watches.

Invariant: what is not watched costs one look at an attribute for each query, and a watcher changes no answer.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from meridian_dns.tally import Tallies, Tally
from meridian_dns.view import RegionView


@dataclass(frozen=True, slots=True)
class Transport:
    """A way that queries come. `datagram`: an answer must fit one, and the sender's address may be forged."""

    name: str
    datagram: bool = False


UDP = Transport("udp", datagram=True)
TCP, TLS, QUIC, HTTPS = Transport("tcp"), Transport("tls"), Transport("quic"), Transport("https")


@dataclass(frozen=True, slots=True)
class Sight:
    """One answer: the messages, who asked and how, what it is counted under, by which view, and how long it took."""

    query: bytes
    reply: bytes
    source: str
    transport: Transport
    tally: Tally
    view: RegionView
    seconds: float


class Watcher(Protocol):
    """Is shown a sample of the answers."""

    def begin(self) -> float:
        """Whether the query that is answered next is to be shown: its time in seconds, or 0.0 for no."""

    def end(self) -> float:
        """The time, in the seconds of `begin`."""

    def take(self, sight: Sight) -> None:
        """What was to be shown. Quick, and raises nothing."""


@dataclass(slots=True)
class Counters:
    """What a server did since it started."""

    tallies: Tallies = field(default_factory=Tallies)
    queries: Counter[str] = field(default_factory=Counter)
    """messages that came, by the transport's name"""
    full_path: int = 0
    dropped: int = 0
    errors: int = 0
    truncated: int = 0
    throttled: int = 0
    unsent: int = 0
    transfers: int = 0
    transfers_refused: int = 0

    @property
    def answers(self) -> Mapping[tuple[int, int], int]:
        """Answers by (type, rcode); type 0 is all types not counted alone."""
        found: Counter[tuple[int, int]] = Counter()
        for tally in self.tallies:
            found[tally.type, tally.rcode] += tally.answers
        return +found
