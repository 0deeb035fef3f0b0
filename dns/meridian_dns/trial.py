"""Zones of a candidate beside those in force: a sample of the questions is answered from both, and compared.

What is sent is always the answer in force. An answer depends on the question, the zones, the view and the draw alone,
so nothing would be learnt by sending the other one, while resolvers would keep a bad one for its time to live.

Invariant: nothing here raises, or changes what is answered.
"""

import logging
from dataclasses import dataclass

from meridian_dns.edns import ServerOptions
from meridian_dns.fastpath import FastPath
from meridian_dns.message import AA, HEADER, STREAM_BYTES_MAX, TC, encode, parse
from meridian_dns.records import IXFR, NOERROR
from meridian_dns.responder import Holdings, decide
from meridian_dns.tally import Tallies
from meridian_dns.view import RegionView

DRAWS = 2**32

log = logging.getLogger("meridian_dns")


@dataclass(slots=True)
class Compared:
    """Questions that both versions answered; how many the candidate failed on (and the version in force did not), or
    left without records (and the version in force did not); and the other way round."""

    questions: int = 0
    failed: int = 0
    unanswered: int = 0
    unanswered_in_force: int = 0


class Trial:
    """A candidate's holdings. `compared` only grows."""

    def __init__(self, holdings: Holdings, share: float, payload_bytes: int) -> None:
        """`share` of the questions, from 0 to 1, is compared."""
        self.compared = Compared()
        self._below = share * DRAWS
        self._payload_bytes = payload_bytes
        self._take(holdings)

    def swap(self, view: RegionView) -> None:
        """Takes another view, as the version in force does."""
        self._take(Holdings(self._fast.holdings.zones, view, self._fast.holdings.geo))

    def compare(self, data: bytes, source: str, draw: int, reply: bytes, sample_draw: int) -> None:
        """Looks at a question that was answered by `reply`, if `sample_draw` (of DRAWS) says so."""
        if sample_draw >= self._below:
            return
        compared = self.compared
        try:
            own = self._respond(data, source, draw)
            if own is None:
                return
            compared.questions += 1
            ours, theirs = _has_records(own), _has_records(reply)
            compared.unanswered += theirs and not ours
            compared.unanswered_in_force += ours and not theirs
        except Exception:
            compared.questions += 1
            compared.failed += 1
            if compared.failed & (compared.failed - 1) == 0:
                log.exception("a candidate's zones failed on a query (failure %d)", compared.failed)

    def _take(self, holdings: Holdings) -> None:
        self._fast = FastPath(holdings, Tallies(), self._payload_bytes, ServerOptions(b"", None, 0.0))

    def _respond(self, data: bytes, source: str, draw: int) -> bytes | None:
        """The candidate's answer, whole, as over a stream; None for what is no question of a zone's data."""
        reply = self._fast.respond(data, source, draw, datagram=False)
        if reply is not None:
            return reply
        query = parse(data)
        if query is None or query.question is None or query.signed_at or query.question.type == IXFR:
            return None
        answer = decide(query, self._fast.holdings, source, draw)
        return encode(query, answer, bytes_max=STREAM_BYTES_MAX, payload_bytes=self._payload_bytes)


def _has_records(reply: bytes) -> bool:
    """Whether the client was given what it asked for, all or the start of it, or told whom to ask."""
    _, flags, _, answers, authorities, _ = HEADER.unpack_from(reply)
    refers = authorities and not flags & AA
    return flags & 0xF == NOERROR and bool(answers or flags & TC or refers)
