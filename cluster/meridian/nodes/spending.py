"""What agents and gateway workers say about limits, between core/granting and proto. Workers use it too: no grpc here.

Whatever does not fit (of a newer node, or garbage) is dropped: a letter may be lost at any time.
"""

from collections.abc import Callable, Iterable, Mapping
from math import isfinite

from google.protobuf.message import DecodeError

from meridian.core.granting.messages import Ask, Back, Consult, Consulted, Grant, Message, addressee
from meridian.core.granting.shares import Cut, Rule, Value
from meridian.core.granting.spender import Allowance
from meridian.core.metering.portions import Portion
from meridian.gateway.limits import Limits, Told
from meridian.gateway.meters import Meters
from meridian_proto.v1 import spending_pb2 as pb
from meridian_proto.v1.channel_pb2 import Frame


class Postbox:
    """Letters of one worker on their way out, in frames of those that come together. All on the loop."""

    def __init__(self, limits: Limits, meters: Meters, later: Callable[[Callable[[], None]], object]) -> None:
        """`later` calls a function soon, when what runs now is done."""
        self.send: Callable[[Frame], None] = lambda frame: None
        self._limits = limits
        self._meters = meters
        self._later = later
        self._letters: list[pb.Letter] = []
        self._confirmed: tuple[str, int] | None = None
        limits.post = meters.post = self._post

    def tick(self, now: float) -> None:
        """What is due: asks go out, and what the worker keeps to is confirmed."""
        self._limits.poll(now)
        self._meters.poll(now)
        confirmed = self._limits.confirmed(now) if self._meters.settled() else None
        if confirmed is not None and confirmed != self._confirmed:
            self._confirmed = confirmed
            self.send(Frame(confirmed=pb.Confirmed(agent=confirmed[0], sequence=confirmed[1])))

    def hear(self, letters: pb.Letters, clock: Callable[[], float]) -> None:
        """Letters from other workers."""
        for letter in letters.letters:
            if (message := message_from_proto(letter.body)) is not None:
                now = clock()
                if not self._meters.hear(message, now):
                    self._limits.hear(message, now)

    def _post(self, message: Message) -> None:
        if not self._letters:
            self._later(self._flush)
        self._letters.append(pb.Letter(to=addressee(message), body=message_to_proto(message)))

    def _flush(self) -> None:
        letters, self._letters = self._letters, []
        self.send(Frame(letters=pb.Letters(letters=letters)))


def told_to_proto(told: Told) -> pb.Allowance:
    """Returns what an agent says to a worker."""
    allowance, cut = told.allowance, told.cut
    return pb.Allowance(
        agent=allowance.agent,
        sequence=allowance.sequence,
        home=sorted(allowance.home),
        leased=sorted(allowance.leased),
        until=allowance.until,
        values=[_value(limit, value) for limit, value in sorted(told.values.items())],
        cut=pb.LimitCut(
            seats=cut.seats, slices=cut.slices, homes=cut.homes, alone_max=cut.alone_max,
            lease_seconds=cut.lease_seconds, loan_seconds=cut.loan_seconds, drift=cut.drift,
        ),
        store_is_lost=told.store_is_lost,
        alone=told.alone,
        fresh=sorted(allowance.fresh),
    )  # fmt: skip


def told_from_proto(message: pb.Allowance) -> Told:
    """Returns what `told_to_proto` was given."""
    cut = message.cut
    return Told(
        Cut(cut.seats, cut.slices, cut.homes, cut.alone_max, cut.lease_seconds, cut.loan_seconds, cut.drift),
        Allowance(
            message.agent,
            message.sequence,
            frozenset(message.home),
            frozenset(message.leased),
            message.until,
            frozenset(message.fresh),
        ),
        {value.limit: _value_of(value) for value in message.values},
        message.store_is_lost,
        message.alone,
    )


def portion_of(told: Told, slot: int) -> tuple[Portion, frozenset[int]]:
    """Returns what meters of worker `slot` have, and which of its slices nobody had before: of whatever counts, all is
    cut by home seats, for leased ones end."""
    cut = told.cut
    seats = sorted(told.allowance.home) if slot < cut.slices else ()
    indexes = tuple(slot * cut.homes + seat for seat in seats)
    fresh = frozenset(slot * cut.homes + seat for seat in seats if seat in told.allowance.fresh)
    return Portion(cut.homes * cut.slices, indexes), fresh


def spenders_frame(addresses: Iterable[str], sitting: Mapping[int, str]) -> Frame:
    """All spenders, and the node on each seat."""
    return Frame(spenders=pb.Spenders(addresses=sorted(addresses), sitting=dict(sitting)))


def message_to_proto(message: Message) -> bytes:
    """Returns the body of a letter."""
    match message:
        case Ask():
            spending = pb.Spending(
                ask=pb.Ask(
                    limit=message.limit, key=message.key, borrower=message.borrower, incarnation=message.incarnation,
                    lender=message.lender, serial=message.serial, kept=message.kept, tokens=message.tokens,
                    generation=message.order[0], version=message.order[1],
                )
            )  # fmt: skip
        case Grant():
            spending = pb.Spending(
                grant=pb.Grant(
                    limit=message.limit, key=message.key, borrower=message.borrower, incarnation=message.incarnation,
                    lender=message.lender, serial=message.serial, tokens=message.tokens, spare=message.spare,
                )
            )  # fmt: skip
        case Back():
            spending = pb.Spending(
                back=pb.Back(
                    limit=message.limit, key=message.key, borrower=message.borrower, incarnation=message.incarnation,
                    lender=message.lender, kept=message.kept,
                )
            )  # fmt: skip
        case Consult():
            spending = pb.Spending(
                consult=pb.Consult(
                    limit=message.limit, key=message.key, asker=message.asker, number=message.number,
                    owner=message.owner,
                )
            )  # fmt: skip
        case Consulted():
            spending = pb.Spending(
                consulted=pb.Consulted(
                    limit=message.limit, key=message.key, asker=message.asker, number=message.number,
                    admitted=message.admitted, level=message.level, reset_seconds=message.reset_seconds,
                    wait_seconds=message.wait_seconds,
                )
            )  # fmt: skip
    return spending.SerializeToString()


def message_from_proto(body: bytes) -> Message | None:
    """Returns what a letter says; None for what is no message of ours: tokens that are no number are none either."""
    try:
        spending = pb.Spending.FromString(body)
    except DecodeError:
        return None
    if not (isfinite(spending.ask.tokens) and isfinite(spending.grant.tokens) and isfinite(spending.consulted.level)):
        return None
    match spending.WhichOneof("body"):
        case "ask":
            one = spending.ask
            return Ask(one.limit, one.key, one.borrower, one.incarnation, one.lender, one.serial, one.kept,
                       one.tokens, (one.generation, one.version))  # fmt: skip
        case "grant":
            two = spending.grant
            return Grant(two.limit, two.key, two.borrower, two.incarnation, two.lender, two.serial, two.tokens,
                         two.spare)  # fmt: skip
        case "back":
            back = spending.back
            return Back(back.limit, back.key, back.borrower, back.incarnation, back.lender, back.kept)
        case "consult":
            asked = spending.consult
            return Consult(asked.limit, asked.key, asked.asker, asked.number, asked.owner)
        case "consulted":
            said = spending.consulted
            return Consulted(said.limit, said.key, said.asker, said.number, said.admitted, said.level,
                             said.reset_seconds, said.wait_seconds)  # fmt: skip
    return None


def _value(limit: str, value: Value) -> pb.LimitValue:
    following = None if value.following is None else _rule(value.following)
    return pb.LimitValue(
        limit=limit, generation=value.generation, version=value.version, current=_rule(value.current),
        following=following,
    )  # fmt: skip


def _rule(rule: Rule) -> pb.LimitRule:
    return pb.LimitRule(rate_per_second=rule.rate_per_second, burst=rule.burst)


def _value_of(message: pb.LimitValue) -> Value:
    following = _rule_of(message.following) if message.HasField("following") else None
    return Value(message.generation, message.version, _rule_of(message.current), following)


def _rule_of(message: pb.LimitRule) -> Rule:
    return Rule(message.rate_per_second, message.burst)
