"""Both ends of a succession of gateway workers (nodes/succession), as limits see them.

Invariant: what the new worker admitted, or carries, for the old one is released once: when the old one says that the
exchange is over, or all of it when the old one has ended.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence

from meridian.core.snapshot import Limit
from meridian.gateway.admission import Admission, Verdict
from meridian.gateway.gateway import Gateway
from meridian.gateway.limits import Told as Allowed
from meridian.nodes.spending import told_from_proto, told_to_proto
from meridian.nodes.succession import Asked, Estate, Line, Released, Said, Told, listen
from meridian_proto.v1.spending_pb2 import Allowance

# How long an exchange waits for the successor, which reads the estate before it answers: a million keys take seconds,
# as a busy machine may. The old worker has nothing left to admit by, so what does not wait is refused.
ANSWER_SECONDS = 10.0

_Pairs = Sequence[tuple[Limit, str]]


class Heir:
    """The successor, to the worker that retires."""

    def __init__(self, line: Line, loop: asyncio.AbstractEventLoop) -> None:
        self._line = line
        self._loop = loop
        self._number = 0
        self._gone = False
        self._waiting: dict[int, tuple[_Pairs, Callable[[Verdict | None], None]]] = {}

    async def run(self) -> None:
        """Until the successor is gone."""
        try:
            await listen(self._line, self._take)
        finally:
            self._gone = True
            self._line.close()
            for number in tuple(self._waiting):
                self._give_up(number)

    def ask(self, asked: _Pairs, then: Callable[[Verdict | None], None]) -> None:
        """See admission.Successor."""
        if self._gone:
            then(None)
            return
        self._number += 1
        self._waiting[self._number] = (asked, then)
        self._line.say(Asked(self._number, tuple((limit.name, key) for limit, key in asked)))
        self._loop.call_later(ANSWER_SECONDS, self._give_up, self._number)

    def release(self, limit: Limit, key: str) -> None:
        """See admission.Successor."""
        self._line.say(Released(limit.name, key))

    def _take(self, said: Said) -> None:
        if not isinstance(said, Told):
            return
        found = self._waiting.pop(said.number, None)
        if found is None:  # too late: what it holds is given back
            for name, key in said.held:
                self._line.say(Released(name, key))
            return
        asked, then = found
        limits = {limit.name: limit for limit, _ in asked}
        held = tuple((limits[name], key) for name, key in said.held if name in limits)
        then(Verdict(limits.get(said.refused_by), list(said.fields), held))

    def _give_up(self, number: int) -> None:
        if (found := self._waiting.pop(number, None)) is not None:
            found[1](None)


class Predecessor:
    """The worker that retires, to its successor."""

    def __init__(self, line: Line, gateway: Gateway, under_way: Sequence[tuple[str, str, int]]) -> None:
        """`under_way` are exchanges that concurrency limits had admitted: they count here until they end."""
        self._line = line
        self._gateway = gateway
        self._held: Counter[tuple[str, str]] = Counter()
        for limit, key, count in under_way:
            if gateway.meters.carry(limit, key, count):
                self._held[limit, key] += count

    async def run(self) -> None:
        """Until it is gone."""
        try:
            await listen(self._line, self._take)
        finally:
            self._line.close()
        for (limit, key), count in list(self._held.items()):
            for _ in range(count):
                self._release(limit, key)

    def _take(self, said: Said) -> None:
        if isinstance(said, Released):
            self._release(said.limit, said.key)
        elif isinstance(said, Asked):
            self._decide(said)

    def _decide(self, said: Asked) -> None:
        known, admission = self._gateway.snapshot.limits, self._admission
        asked = [(known[name], key) for name, key in said.limits if name in known]

        def tell(verdict: Verdict) -> None:
            refused = verdict.refused_by.name if verdict.refused_by is not None else ""
            held = tuple((limit.name, key) for limit, key in verdict.held)
            self._held.update(held)
            self._line.say(Told(said.number, refused, tuple(verdict.told), held))

        if not asked:
            tell(Verdict(None, []))
        elif admission.consults(asked):
            admission.consult(asked, tell)
        else:
            tell(admission.decide(asked))

    def _release(self, name: str, key: str) -> None:
        if self._held[name, key] > 0:
            self._held[name, key] -= 1
            limit = self._gateway.snapshot.limits.get(name)
            if limit is not None:
                self._gateway.meters.release(limit, key)

    @property
    def _admission(self) -> Admission:
        return self._gateway.admission


def estate_of(gateway: Gateway, generation: int, now: float) -> Estate:
    """All that a gateway knows of limits, which it gives away by this; and its flows of UDP."""
    told = gateway.limits.told
    under_way = gateway.meters.under_way()
    started, left, spenders = gateway.limits.hand_over(now)
    said = told_to_proto(told).SerializeToString() if told is not None else b""
    return Estate(generation, started, said, spenders, dict(left), under_way, gateway.flows())


def told_in(estate: Estate) -> Allowed | None:
    """What the agent had told the worker that left this."""
    return told_from_proto(Allowance.FromString(estate.told)) if estate.told else None
