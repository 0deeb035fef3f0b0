"""The limits of one worker: a spender for each, and the consultation of others where a limit is too small to be shared.

Invariant: a decision waits for nobody, but for a key that another worker owns (`consult`), and that for no longer than
CONSULT_SECONDS. Levels belong to the limit's name and outlive snapshots, so that no new document hands out a burst.

The worker spends nothing until the agent tells it what (`allow`), unless it is the only one there is.
"""

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from meridian.core.granting.account import NEVER, ONE
from meridian.core.granting.messages import Ask, Back, Consult, Consulted, Grant, Message
from meridian.core.granting.shares import Cut, Rule, Value
from meridian.core.granting.spender import Allowance, Handover, Spender
from meridian.core.snapshot import Limit
from meridian.telemetry.metrics import Counter, Metrics

CONSULT_SECONDS = 0.02  # the one wait for another node on a request's path (invariant 1's exception)
CONSULTS_MAX = 1_000  # under way; beyond, the owner counts as unreachable: a request must not queue for it
AGAIN_SECONDS = 1.0  # what a client is told when an owner could not be asked

ALONE = Cut(seats=1, slices=1, homes=1, alone_max=0)
_ALL = Allowance("", 0, frozenset({0}))

Asked = Sequence[tuple[Limit, str]]  # limit and key


class Standing(NamedTuple):
    """How one limit stands for one exchange, after it was admitted or refused. `remaining` is in whole tokens;
    `period_seconds` the length of the window or of the present day or month."""

    limit: Limit
    remaining: int
    reset_seconds: float
    period_seconds: float


class Decision(NamedTuple):
    """What the limits of one exchange say. `limit` is the one that refused or, if all admit, the nearest to refusing.

    `remaining` is what this worker could still admit at once, in whole tokens; `reset_seconds` when its bucket is full;
    `retry_after_seconds` when a token is there if nothing changes (0.0 if admitted, inf if never).
    """

    admitted: bool
    limit: str
    remaining: int
    reset_seconds: float
    retry_after_seconds: float


@dataclass(frozen=True, slots=True)
class Told:
    """What the agent says: seats, values by limit, and what it thinks of the store and of this machine's clock."""

    cut: Cut
    allowance: Allowance
    values: Mapping[str, Value]
    store_is_lost: bool = False
    alone: bool = False  # neither lend nor borrow


TRIAL_BURST_MIN = 10
FULL = float("-inf")  # a bucket that has accrued for ever


class Limits:
    """See the module's head. `now` is always seconds of CLOCK_BOOTTIME, read at the call and never cached."""

    def __init__(self, clock: Callable[[], float], metrics: Metrics | None = None, *, alone: bool = True) -> None:
        """`alone`: no other worker spends these limits, and no agent says what this one may spend."""
        self.post: Callable[[Message], None] = lambda message: None  # to other workers; may lose
        self.later: Callable[[float, Callable[[], None]], object] = lambda seconds, act: None
        self._clock = clock
        self._alone = alone
        self._metrics = metrics or Metrics()
        self._started = clock()
        self._address, self._slot = "", 0
        self._told: Told | None = None
        self._lost_at = NEVER
        self._peers: Sequence[str] = ()
        self._sitting: Mapping[int, str] = {}
        self._limits: Mapping[str, Limit] = {}
        self._buckets: dict[str, _Bucket] = {}
        self._given: dict[str, Handover] = {}  # of a predecessor
        self._left: dict[str, float] = {}  # limits that went, and until when what they lent may be out
        self._number = secrets.randbits(63)  # of consultations: no answer to a predecessor may ever fit
        self._consults: dict[int, tuple[_Consultation, Limit]] = {}

    # What a request does

    def decide(self, asked: Asked, now: float) -> Decision:
        """Takes one token under each of the limits asked for, or none at all if one of them refuses.

        `asked` names at least one limit, and none twice. The admission is at the moment of `now`: read the clock
        immediately before.
        """
        if len(asked) == 1:
            limit, key = asked[0]
            return self._take(self._buckets[limit.name], limit, key, now)
        for limit, key in asked:
            if self._wanting(limit, key, now):
                return self._take(self._buckets[limit.name], limit, key, now)  # refuses, and tokens are wanted here
        nearest: Decision | None = None
        for limit, key in asked:
            decision = self._take(self._buckets[limit.name], limit, key, now)
            if not decision.admitted:
                return decision  # there is no room for the key: tokens taken are forgone
            if nearest is None or decision.remaining < nearest.remaining:
                nearest = decision
        assert nearest is not None
        return nearest

    def consults(self, asked: Asked) -> bool:
        """Whether somebody else must be asked: then call `consult`, else `decide`."""
        if self._alone:
            return False
        now = self._clock()
        return any(self._elsewhere(limit, key, now) for limit, key in asked)

    def consult(self, asked: Asked, then: Callable[[Decision], None]) -> None:
        """As `decide`, but asks the owners of keys: calls `then` once, now or within CONSULT_SECONDS."""
        now = self._clock()
        remote = [(limit, key) for limit, key in asked if self._elsewhere(limit, key, now)]
        local = [one for one in asked if one not in remote]
        for limit, key in local:
            if self._wanting(limit, key, now):
                then(self._take(self._buckets[limit.name], limit, key, now))
                return
        consultation = _Consultation(local, len(remote), then)
        numbers = []
        for limit, key in remote:
            owner = self._owner(self._buckets[limit.name], key)
            if owner is not None and len(self._consults) < CONSULTS_MAX:
                self._number += 1
                numbers.append(self._number)
                self._consults[self._number] = (consultation, limit)
                self.post(Consult(limit.name, key, self._address, self._number, owner))
            else:
                self._unanswered(consultation, limit)
        if numbers:
            self.later(CONSULT_SECONDS, lambda: self._give_up(numbers))
        self._conclude(consultation)

    def _take(self, bucket: "_Bucket", limit: Limit, key: str, now: float) -> Decision:
        if now >= self._lost_at and limit.when_store_is_lost != "floor":
            return bucket.unbounded() if limit.when_store_is_lost == "open" else bucket.refused(0.0, AGAIN_SECONDS)
        spender = bucket.spender
        wait = spender.admit(key, now)
        level, reset, _ = spender.look(key, now)
        if wait > 0.0:
            return bucket.refused(reset, wait)
        bucket.admitted.value += 1
        return Decision(True, limit.name, whole(level), reset, 0.0)

    def look(self, limit: Limit, key: str, now: float) -> tuple[float, float, float]:
        """Takes nothing: as `Spender.look`, with what holds while the store is lost."""
        if now >= self._lost_at and limit.when_store_is_lost != "floor":
            return 0.0, 0.0, 0.0 if limit.when_store_is_lost == "open" else AGAIN_SECONDS
        return self._buckets[limit.name].spender.look(key, now)

    def measure(self) -> None:
        """Brings the gauges up to date."""
        for bucket in self._buckets.values():
            bucket.borrowed.value, bucket.lent.value = bucket.spender.loans()

    # What the document says

    def replace(self, limits: Mapping[str, Limit], now: float) -> None:
        """Takes the limits of a new snapshot. Another key function makes it another limit, which starts empty."""
        old, self._limits = self._limits, limits
        for name in [name for name, limit in old.items() if name not in limits or limits[name].key != limit.key]:
            del self._buckets[name]
            self._left[name] = now + self._cut.withheld_seconds
        for name in limits:
            if name not in self._buckets:
                self._buckets[name] = self._begin(name, now)
        if self._alone:
            values = {
                name: Value(0, self._version(name, rule), rule)
                for name, limit in limits.items()
                for rule in (Rule(limit.rate_per_second, limit.burst),)
            }
            self._told = Told(ALONE, _ALL, values)
        self._apply(now)

    # Upgrades

    @property
    def told(self) -> Told | None:
        """What the agent has said last."""
        return self._told

    def hand_over(self, now: float) -> tuple[float, Mapping[str, float], tuple[Handover, ...]]:
        """Gives all tokens and loans to a successor: see `resume`. From now on nothing is admitted here."""
        return self._started, self._left, tuple(bucket.spender.handover(now) for bucket in self._buckets.values())

    def resume(self, told: Told, started: float, left: Mapping[str, float], given: Iterable[Handover]) -> None:
        """Takes what a predecessor handed over. Before any limit is known and anything is told."""
        self._told, self._started, self._left = told, started, dict(left)
        self._given = {one.limit: one for one in given}

    # What the agent says

    def join(self, address: str, slot: int) -> None:
        """This worker's own address (node/slot) among spenders. Before anything is told."""
        self._address, self._slot = address, slot

    def allow(self, told: Told, now: float) -> None:
        """Replaces what this worker may spend."""
        if self._slot >= told.cut.slices:  # more workers than the limits are cut for: this one lives on loans
            told = replace(told, allowance=replace(told.allowance, home=frozenset(), leased=frozenset()))
        before, self._told = self._told, told
        if before is None or told.cut != before.cut:  # nothing known of seats and levels means anything in another cut
            if before is None:
                self._left.clear()
            else:  # but what was lent may be out
                self._left |= dict.fromkeys(self._buckets, now + before.cut.withheld_seconds)
            self._given.clear()
            self._buckets = {name: self._begin(name, now) for name in self._limits}
        self._apply(now)

    def set_spenders(self, addresses: Iterable[str], sitting: Mapping[int, str]) -> None:
        """All spenders, and the node on each seat."""
        self._peers = [address for address in addresses if address != self._address]
        self._sitting = sitting
        self._share_peers()

    @property
    def part(self) -> float:
        """How much of each limit this worker may spend by its own seats, without loans: from 0 to 1."""
        if self._told is None:
            return 0.0
        allowance, cut = self._told.allowance, self._told.cut
        return (len(allowance.home) + len(allowance.leased)) / (cut.seats * cut.slices)

    def ready(self, now: float) -> bool:
        """Whether requests under limits are admitted here: there are seats, and what a predecessor lent has ended."""
        if self._alone:
            return True
        if self._told is None or not (self._told.allowance.home or self._told.allowance.leased):
            return False
        return self._cut.ring == 1 or now >= self._started + self._cut.withheld_seconds

    def confirmed(self, now: float) -> tuple[str, int] | None:
        """The allowance (agent, sequence) that all spenders keep to, with all that they lent; None: not yet."""
        if self._told is None or self._alone:
            return None
        self._left = {name: until for name, until in self._left.items() if until > now}
        if self._left or any(
            name in self._told.values and bucket.spender.confirmed(now) is not self._told.allowance
            for name, bucket in self._buckets.items()
        ):
            return None
        return self._told.allowance.agent, self._told.allowance.sequence

    # What other workers say

    def poll(self, now: float) -> None:
        """Looks after keys that are short or lent; call every 50 ms."""
        if self._told is None or self._told.alone or self._alone:
            return
        for bucket in self._buckets.values():
            if now >= bucket.spender.deadline():
                for message in bucket.spender.poll(now):
                    self.post(message)

    def hear(self, message: Message, now: float) -> None:
        """A letter from another worker, of any limit."""
        if isinstance(message, Consulted):
            self._hear_consulted(message)
            return
        bucket = self._buckets.get(message.limit)
        if bucket is None or self._told is None or self._told.alone or self._alone:
            return
        spender = bucket.spender
        answer: Message | None = None
        match message:
            case Ask():
                answer = spender.asked(message, now)
            case Grant():
                answer = spender.granted(message, now)
            case Back():
                spender.gave_back(message, now)
            case Consult():
                wait = spender.admit(message.key, now)
                level, reset, _ = spender.look(message.key, now)
                answer = Consulted(
                    message.limit, message.key, message.asker, message.number, wait == 0.0, level, reset, wait
                )
        if answer is not None:
            self.post(answer)

    def _hear_consulted(self, answer: Consulted) -> None:
        found = self._consults.pop(answer.number, None)
        if found is None:
            return  # too late: the token is lost
        consultation, limit = found
        bucket = self._buckets.get(limit.name)
        if answer.admitted:
            decision = Decision(True, limit.name, whole(answer.level), answer.reset_seconds, 0.0)
            if bucket is not None:
                bucket.admitted.value += 1
        elif bucket is not None:
            decision = bucket.refused(answer.reset_seconds, answer.wait_seconds)
        else:
            decision = Decision(False, limit.name, 0, answer.reset_seconds, answer.wait_seconds)
        consultation.missing -= 1
        consultation.found.append(decision)
        self._conclude(consultation)

    def _give_up(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            found = self._consults.pop(number, None)
            if found is not None:
                self._unanswered(*found)
                self._conclude(found[0])

    def _unanswered(self, consultation: "_Consultation", limit: Limit) -> None:
        bucket = self._buckets.get(limit.name)
        if bucket is not None:
            bucket.unreachable.value += 1
        admitted = limit.when_unreachable == "allow"
        consultation.missing -= 1
        consultation.found.append(Decision(admitted, limit.name, 0, 0.0, 0.0 if admitted else AGAIN_SECONDS))

    def _conclude(self, consultation: "_Consultation") -> None:
        refusal = next((one for one in consultation.found if not one.admitted), None)
        if consultation.over or (consultation.missing and refusal is None):
            return
        consultation.over = True
        local = [one for one in consultation.local if one[0].name in self._buckets]
        if refusal is None and local:
            # Local tokens are taken last: an owner's refusal must not cost them.
            consultation.found.append(self.decide(local, self._clock()))
        found = consultation.found
        consultation.then(refusal or min(found, key=lambda one: (one.admitted, one.remaining)))

    # The buckets

    @property
    def _cut(self) -> Cut:
        return self._told.cut if self._told is not None else ALONE

    def _begin(self, name: str, now: float) -> "_Bucket":
        """Of a limit that is new here. What the process before this one lent, or this one under the same name, may
        still be out; else there is nothing to wait for."""
        given = self._given.pop(name, None)
        if given is not None:
            spender = Spender.resumed(self._cut, given, now)
        else:
            since = now if name in self._left else self._started
            spender = Spender(self._cut, name, self._address, self._slot, secrets.randbits(63), since)
        spender.peers = self._peers
        return _Bucket(name, spender, self._metrics)

    def _apply(self, now: float) -> None:
        """Tells every spender what it may spend."""
        told = self._told
        if told is None:
            return
        self._lost_at = told.allowance.until if told.allowance.leased else NEVER
        if told.store_is_lost:
            self._lost_at = -NEVER
        for name, bucket in self._buckets.items():
            value = told.values.get(name) or self._expected(name)
            if value is not None:
                bucket.spender.allow(told.allowance, value, now)
                bucket.shared = told.cut.ring == 1 or max(rule.burst for rule in value.rules) > told.cut.alone_max

    def _expected(self, name: str) -> Value | None:
        """What the leader will write for a limit that the store has never held: all nodes read it in the same document.
        Without it a new limit would refuse everybody until that has gone round."""
        limit = self._limits.get(name)
        return None if limit is None else Value(-1, 0, Rule(limit.rate_per_second, limit.burst))

    def _share_peers(self) -> None:
        for bucket in self._buckets.values():
            bucket.spender.peers = self._peers

    def _elsewhere(self, limit: Limit, key: str, now: float) -> bool:
        """Whether this key is another worker's altogether, and that worker is to be asked."""
        bucket = self._buckets[limit.name]
        if bucket.shared or (now >= self._lost_at and limit.when_store_is_lost != "floor"):
            return False
        return bucket.spender.look(key, now)[2] == NEVER

    def _wanting(self, limit: Limit, key: str, now: float) -> bool:
        """Whether this worker would refuse by itself."""
        if now >= self._lost_at and limit.when_store_is_lost != "floor":
            return limit.when_store_is_lost == "deny"
        return self._buckets[limit.name].spender.look(key, now)[2] > 0.0

    def _owner(self, bucket: "_Bucket", key: str) -> str | None:
        """The address of the spender that owns a key, as far as known."""
        place = bucket.spender.owner(key)
        node = self._sitting.get(place[0]) if place is not None else None
        return f"{node}/{place[1]}" if node is not None and place is not None else None

    def _version(self, name: str, rule: Rule) -> int:
        """Of a value that nobody else numbers: it rises with every change."""
        before = self._buckets[name].spender.value
        return 0 if before is None else before.version if before.current == rule else before.version + 1


def whole(level: float) -> int:
    """The whole tokens of a level, from which floating-point time may have taken a grain."""
    return int(level + 1.0 - ONE)


@dataclass(slots=True)
class _Consultation:
    """One exchange that waits for owners."""

    local: Asked
    missing: int
    then: Callable[[Decision], None]
    found: list[Decision] = field(default_factory=list)
    over: bool = False


class _Bucket:
    """One limit of this worker, and what came of it."""

    __slots__ = ("admitted", "borrowed", "lent", "name", "open", "refusals", "shared", "spender", "unreachable")

    def __init__(self, name: str, spender: Spender, metrics: Metrics) -> None:
        self.name = name
        self.spender = spender
        self.shared = True
        labels = "Tokens of all keys that this worker may spend of others', or others of this one's."
        self.borrowed = metrics.gauge("meridian_limit_borrowed_tokens", labels, limit=name)
        self.lent = metrics.gauge("meridian_limit_lent_tokens", labels, limit=name)
        self.admitted, self.refusals, self.open, self.unreachable = (
            counter(metrics, name, outcome) for outcome in ("admitted", "refused", "unbounded", "unreachable")
        )

    def refused(self, reset_seconds: float, wait_seconds: float) -> Decision:
        """A request goes away."""
        self.refusals.value += 1
        return Decision(False, self.name, 0, reset_seconds, wait_seconds)

    def unbounded(self) -> Decision:
        """The store is lost, and the operator wants all admitted then."""
        self.open.value += 1
        return Decision(True, self.name, 0, 0.0, 0.0)


def counter(metrics: Metrics, limit: str, outcome: str) -> Counter:
    """How often a limit decided so."""
    help = "Decisions under a limit; unbounded: the store was lost; unreachable: an owner did not answer."
    return metrics.counter("meridian_limit_decisions_total", help, limit=limit, outcome=outcome)
