"""Who leads: FOLLOWER, CANDIDATE, LEADER. The leader is the node whose key exists in the store, bound to its lease.

Invariant (3 of the architecture): at most one leader acts at a time. What keeps it: the key is created only if absent;
a leader counts its lease from the moment of asking and stops by its own clock before the lease could have ended, even
if its clock is as slow and the store's as fast as we allow; and what slips through (a write on the wire) carries the
fence, the create revision of the key, and is refused by the store.

    FOLLOWER --no key--> CANDIDATE --Won--> LEADER --own clock, lease lost, a greater fence, resigned--> FOLLOWER
        ^------Failed--------'
"""

from dataclasses import dataclass, replace

from meridian.core.machine import Step

# Clocks' rates differ by at most 1 % (invariant 2's assumption): so much of a lease is certainly still there.
CERTAIN = 0.99 / 1.01
RENEWALS = 3  # per lease: two may be lost
RENEW_AGAIN_SECONDS = 0.1  # after one that failed; the store's own attempt takes longer when it is gone
CAMPAIGN_AGAIN_SECONDS = 0.3
# After resigning: long enough for another node to win; short enough that a lone node leads again soon.
REST_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Follower:
    """Does not lead. `holder` is the node id in the leader key, "" if none; no campaign before `not_before`."""

    holder: str = ""
    seen: bool = False  # the key's state is known: nobody campaigns on ignorance
    not_before: float = 0.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """Has asked the store for the key and awaits the outcome."""

    holder: str = ""
    resigned: bool = False


@dataclass(frozen=True, slots=True)
class Leader:
    """Leads under `fence` until `until` by its own clock; renews the lease at `renew_at`."""

    holder: str
    fence: int
    lease: int
    until: float
    renew_at: float
    renewing: bool = False


State = Follower | Candidate | Leader


@dataclass(frozen=True, slots=True)
class KeySeen:
    """The mirror of the leader key: who holds it ("" if nobody) and its create revision (0)."""

    holder: str
    fence: int


@dataclass(frozen=True, slots=True)
class Won:
    """The key is ours. `asked` is the time before the lease was asked for, `ttl_seconds` what was granted."""

    holder: str
    fence: int
    lease: int
    asked: float
    ttl_seconds: float


@dataclass(frozen=True, slots=True)
class Failed:
    """A campaign that did not win (another was quicker, or the store is away), or a renewal that got no answer."""


@dataclass(frozen=True, slots=True)
class Renewed:
    """The store prolonged the lease, as asked for at `asked`."""

    asked: float
    ttl_seconds: float


@dataclass(frozen=True, slots=True)
class LeaseEnded:
    """The store says that the lease is gone."""


@dataclass(frozen=True, slots=True)
class Woken:
    """The deadline has passed."""


@dataclass(frozen=True, slots=True)
class Resign:
    """A planned stop or a wish to move the leadership. `for_good`: never campaign again."""

    for_good: bool = False


Event = KeySeen | Won | Failed | Renewed | LeaseEnded | Woken | Resign


@dataclass(frozen=True, slots=True)
class Campaign:
    """Command: ask for a lease, create the key if absent; feed Won or Failed."""


@dataclass(frozen=True, slots=True)
class Renew:
    """Command: prolong the lease; feed Renewed, Failed or LeaseEnded."""

    lease: int


@dataclass(frozen=True, slots=True)
class Release:
    """Command: revoke the lease, so that the key goes at once and others need not wait for its end."""

    lease: int


Command = Campaign | Renew | Release
NEVER = float("inf")


def step(state: State, event: Event, now: float) -> Step[State, Command]:
    """Returns the state after an event. A leader whose time is up stops before anything else is looked at."""
    if isinstance(state, Leader) and now >= state.until:
        state = Follower(state.holder, True, now + CAMPAIGN_AGAIN_SECONDS)
        if isinstance(event, Woken):
            return Step(state)
    match state:
        case Follower():
            return _follow(state, event, now)
        case Candidate():
            return _stand(state, event, now)
        case Leader():
            return _lead(state, event, now)


def deadline(state: State) -> float | None:
    """Returns when to feed Woken."""
    match state:
        case Follower():
            return state.not_before if state.seen and not state.holder and state.not_before < NEVER else None
        case Candidate():
            return None
        case Leader():
            return state.until if state.renewing else min(state.until, state.renew_at)


def leads(state: State, now: float) -> int | None:
    """Returns the fence if this node may act as leader at `now`, else None. Ask again right before every write."""
    return state.fence if isinstance(state, Leader) and now < state.until else None


def _follow(state: Follower, event: Event, now: float) -> Step[State, Command]:
    match event:
        case KeySeen(holder):
            state = replace(state, holder=holder, seen=True)
        case Won(_, _, lease):
            return Step(state, (Release(lease),))  # a campaign that this node has given up meanwhile
        case Resign(for_good):
            return Step(replace(state, not_before=NEVER if for_good else now + REST_SECONDS))
        case _:
            pass
    if state.seen and not state.holder and now >= state.not_before:
        return Step(Candidate(), (Campaign(),))
    return Step(state)


def _stand(state: Candidate, event: Event, now: float) -> Step[State, Command]:
    match event:
        case Won(holder, fence, lease, asked, ttl):
            until = asked + ttl * CERTAIN
            if state.resigned or now >= until:
                return Step(_rested(state.holder, state.resigned, now), (Release(lease),))
            return Step(Leader(holder, fence, lease, until, asked + ttl / RENEWALS))
        case KeySeen(holder):
            return Step(replace(state, holder=holder))
        case Failed():
            return Step(_rested(state.holder, state.resigned, now))
        case Resign(for_good):
            return Step(replace(state, resigned=state.resigned or for_good))
        case _:
            return Step(state)


def _rested(holder: str, resigned: bool, now: float) -> Follower:
    return Follower(holder, True, NEVER if resigned else now + CAMPAIGN_AGAIN_SECONDS)


def _lead(state: Leader, event: Event, now: float) -> Step[State, Command]:
    match event:
        case Woken() if not state.renewing and now >= state.renew_at:
            return Step(replace(state, renewing=True), (Renew(state.lease),))
        case Renewed(asked, ttl):
            until = max(state.until, asked + ttl * CERTAIN)
            return Step(replace(state, until=until, renew_at=asked + ttl / RENEWALS, renewing=False))
        case Failed():
            return Step(replace(state, renew_at=now + RENEW_AGAIN_SECONDS, renewing=False))
        case LeaseEnded():
            return Step(Follower(state.holder, True, now + CAMPAIGN_AGAIN_SECONDS))
        case KeySeen(holder, fence) if holder and fence > state.fence:
            return Step(Follower(holder, True))
        case KeySeen(holder, fence) if not holder or fence == state.fence:
            # An absent key may be news from before our win: the lease decides, its keep-alive will say so. But it is
            # remembered, so that a leader that then stops by its own clock knows that it may campaign.
            return Step(replace(state, holder=holder))
        case Resign(for_good):
            rest = NEVER if for_good else now + REST_SECONDS
            return Step(Follower("", True, rest), (Release(state.lease),))
        case _:
            return Step(state)
