"""The agent's machine: which seats this node sits on, and what its workers may therefore spend.

Invariant: no slice is ever with two spenders. What keeps it:

- A seat is this node's only after the store said so to the very transaction that stamped a fresh nonce on it: on a free
  seat, or on one that bears this node's name (taken by an earlier agent, or by a transaction whose answer was lost).
  Nothing is adopted from a listing, and an unknown answer counts as no.
- A leased seat counts from the moment when the lease was asked for, by this node's clock, for less than the store keeps
  it by the fastest. The workers stop by themselves.
- A seat is given back in this order: the workers are told without it, all confirm (so that what they lent of it has
  ended), the store deletes it if it still bears the nonce. Once that was sent the nonce is dead, whatever the answer.
- Home seats have no lease and are the node's while the store is away. In a store that was restored, nobody knows who
  sits there: until an operator says that every node is back (`frozen` ends) they only go to who had them on disk.
- In a new generation no leased seat is taken before those of the old one have certainly ended.
- A value is on disk before it is told, told before it is confirmed, confirmed by all workers before it is acknowledged.
  Taking a seat reads the values in the same transaction.

The driver carries out commands in order, and answers each request to the store with one event.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from meridian.core.granting.seats import (
    Acknowledge,
    AskLease,
    Command,
    Confirmed,
    Event,
    Free,
    Freed,
    KeepLease,
    Leased,
    LeaseFailed,
    Leave,
    Listed,
    NotTaken,
    Save,
    Seat,
    Take,
    Taken,
    Tell,
    Woke,
    WorkerStarted,
)
from meridian.core.granting.shares import Cut, Value
from meridian.core.granting.spender import Allowance
from meridian.core.machine import Step

RENEWALS = 4  # per lease: three may be lost
AGAIN_SECONDS = 0.5  # after a request to the store that failed
CHANGES_MAX = 8  # seats taken or given back at a time: etcd's writes stay few, and nodes that start share alike
NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class Lease:
    """This agent's lease: certainly alive until `until` by this node's clock. `asked` is that of the last answer."""

    id: int
    asked: float


@dataclass(frozen=True, slots=True)
class Held:
    """A seat of this node under this nonce. `leaving_at`: the sequence of the first allowance without it.

    `listed`: a listing has shown it. One that shows nobody there before that is from before it was taken.
    """

    nonce: str
    home: bool
    leaving_at: int | None = None
    listed: bool = False


@dataclass(frozen=True, slots=True)
class Allocation:
    """The state. Start with `started`."""

    cut: Cut
    node: str
    incarnation: str  # of this agent, never used twice: its nonces begin with it
    generation: int = -1
    frozen: bool = False
    homes: frozenset[int] = frozenset()  # on disk, or confirmed since
    fresh: frozenset[int] = frozenset()  # of these, those that were nobody's before this agent's
    held: Mapping[int, Held] = field(default_factory=dict)
    taking: Mapping[int, tuple[str, bool]] = field(default_factory=dict)
    freeing: frozenset[int] = frozenset()
    values: Mapping[str, Value] = field(default_factory=dict)
    acknowledged: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    confirmed: Mapping[int, int] = field(default_factory=dict)  # by slot
    told: Allowance = field(default_factory=lambda: Allowance("", -1, frozenset()))
    told_values: Mapping[str, Value] = field(default_factory=dict)
    lease: Lease | None = None
    lease_asked: bool = False
    renew_at: float = -NEVER
    free_not_before: float = -NEVER
    take_not_before: float = -NEVER
    stamps: int = 0
    leaving: bool = False
    view: Listed | None = None


def started(cut: Cut, node: str, incarnation: str, homes: frozenset[int], values: Mapping[str, Value]) -> Allocation:
    """The state of an agent that starts, with what is on disk. Home seats go on at once, with the store or without."""
    return Allocation(cut, node, incarnation, homes=homes, values=dict(values))


def deadline(state: Allocation) -> float | None:
    """When time alone makes a difference."""
    if state.view is None or (state.leaving and not state.held):
        return None
    times = [state.take_not_before, state.free_not_before, _until(state)]
    times.append(NEVER if state.lease_asked else state.renew_at)
    return min((time for time in times if time > -NEVER), default=NEVER)


def step(state: Allocation, event: Event, now: float) -> Step[Allocation, Command]:
    """Returns the next state and what to do, in order."""
    commands: list[Command] = []
    match event:
        case Listed():
            state = _listed(state, event, now)
        case Leased(lease, asked):
            if state.lease is None or (state.lease.id == lease and asked >= state.lease.asked):
                state = replace(state, lease=Lease(lease, asked))
            state = replace(state, lease_asked=False, renew_at=asked + state.cut.lease_seconds / RENEWALS)
        case LeaseFailed(lease, gone):
            state = replace(state, lease_asked=False, renew_at=now + AGAIN_SECONDS)
            if gone and state.lease is not None and state.lease.id == lease:
                state = _without_leased(replace(state, lease=None))
        case Taken(seat, nonce, values, fresh):
            state = _taken(_newer_values(state, values), seat, nonce, fresh=fresh)
        case NotTaken(seat, nonce):
            if state.taking.get(seat, ("",))[0] == nonce:
                state = replace(state, taking=_less(state.taking, seat), take_not_before=now + AGAIN_SECONDS)
        case Freed(seat):
            state = replace(state, freeing=state.freeing - {seat}, view=_view_without(state.view, seat))
        case Confirmed(slot, agent, sequence):
            if agent == state.incarnation:
                state = replace(state, confirmed={**state.confirmed, slot: sequence})
        case WorkerStarted(slot):
            state = replace(state, confirmed={**state.confirmed, slot: -1})
            commands.append(Tell(state.told, state.told_values, slot))
        case Leave():
            state = replace(state, leaving=True)
        case Woke():
            pass
    state = _lease(state, now, commands)
    state = _seats(state, now, commands)
    state = _tell(state, now, commands)
    state = _free(state, commands)
    state = _free_strays(state, commands)
    state = _acknowledge(state, commands)
    return Step(state, tuple(commands))


def _listed(state: Allocation, event: Listed, now: float) -> Allocation:
    if event.generation < state.generation:
        return state
    if event.generation > state.generation:
        # An agent that starts cannot know how old a generation is, but the first one had none before it.
        wait = now + _old_generation_seconds(state.cut) if event.generation > 0 else -NEVER
        left = {seat for seat, one in state.held.items() if one.leaving_at is not None}
        state = replace(
            state,
            generation=event.generation,
            free_not_before=wait,
            held={},  # no nonce of the old store is worth anything; homes go on, and are claimed anew
            homes=state.homes - left,
            taking={},
            lease=None,
        )
    state = _newer_values(replace(state, view=event, frozen=event.frozen), event.values)
    state = replace(state, held={seat: _seen(one, event.seats.get(seat)) for seat, one in state.held.items()})
    unlisted = {seat for seat, one in state.held.items() if not one.listed and seat not in event.seats}
    if not state.frozen:  # an operator said that this machine is off, or the seat is another's: it is not ours
        lost = (
            {seat for seat in state.homes if (found := event.seats.get(seat)) is None or found.node != state.node}
            - state.taking.keys()
            - unlisted
        )
        held = {seat: one for seat, one in state.held.items() if seat not in lost or not one.home}
        state = replace(state, homes=state.homes - lost, held=held)
    return state


def _seen(held: Held, found: Seat | None) -> Held:
    return replace(held, listed=True) if found is not None and found.nonce == held.nonce else held


def _old_generation_seconds(cut: Cut) -> float:
    return cut.lease_seconds * cut.spread


def _taken(state: Allocation, seat: int, nonce: str, *, fresh: bool) -> Allocation:
    """A seat is ours, if this is the answer that we wait for."""
    waiting = state.taking.get(seat)
    if waiting is None or waiting[0] != nonce:
        return state
    home = waiting[1]
    return replace(
        state,
        taking=_less(state.taking, seat),
        held={**state.held, seat: Held(nonce, home)},
        homes=state.homes | {seat} if home else state.homes,
        fresh=state.fresh | {seat} if home and fresh else state.fresh,
    )


def _newer_values(state: Allocation, values: Mapping[str, Value]) -> Allocation:
    newer = {
        limit: value
        for limit, value in values.items()
        if limit not in state.values or value.order > state.values[limit].order
    }
    return replace(state, values={**state.values, **newer}) if newer else state


def _without_leased(state: Allocation) -> Allocation:
    """The lease is not ours any more, nor are its seats, nor will be those that were to be taken under it."""
    held = {seat: one for seat, one in state.held.items() if one.home}
    return replace(state, held=held, taking={seat: take for seat, take in state.taking.items() if take[1]})


def _view_without(view: Listed | None, seat: int) -> Listed | None:
    """A view that is not asked again and again to free what it still shows."""
    return replace(view, seats={s: one for s, one in view.seats.items() if s != seat}) if view is not None else None


def _less(mapping: Mapping[int, tuple[str, bool]], seat: int) -> Mapping[int, tuple[str, bool]]:
    return {key: value for key, value in mapping.items() if key != seat}


def _until(state: Allocation) -> float:
    """Until when leased seats may be spent, by this node's clock."""
    return state.lease.asked + state.cut.certain_seconds if state.lease is not None else -NEVER


def _lease(state: Allocation, now: float, commands: list[Command]) -> Allocation:
    if state.lease is not None and now >= _until(state):  # the workers have stopped; the store may yet keep it
        state = _without_leased(replace(state, lease=None))
    if state.lease_asked or now < state.renew_at or state.view is None or (state.leaving and not state.held):
        return state
    commands.append(KeepLease(state.lease.id) if state.lease is not None else AskLease())
    return replace(state, lease_asked=True)


def target(members: tuple[str, ...], node: str, seats: int) -> int:
    """How many seats a node should have. All members' targets sum to all seats."""
    if node not in members:
        return 0
    rank = sorted(members).index(node)
    return seats // len(members) + (1 if rank < seats % len(members) else 0)


def _seats(state: Allocation, now: float, commands: list[Command]) -> Allocation:
    """Takes what is missing, and marks for leaving what is too much."""
    view = state.view
    if view is None:
        return state
    for seat, one in state.held.items():
        if state.leaving and one.leaving_at is None:
            state = _mark(state, seat)
    if state.leaving or now < state.take_not_before:
        return state
    state = replace(state, take_not_before=-NEVER)
    if now >= state.free_not_before:
        state = replace(state, free_not_before=-NEVER)
    want = target(view.members, state.node, state.cut.seats)
    have = sum(one.leaving_at is None for one in state.held.values()) + len(state.taking)
    for seat, home in _takeable(state, now):
        if len(state.taking) >= CHANGES_MAX or (have >= want and not home):
            break
        found = view.seats.get(seat)
        nonce = f"{state.incarnation}-{state.stamps}"
        lease = 0 if home or state.lease is None else state.lease.id
        commands.append(Take(seat, nonce, home, lease, found.nonce if found else None, state.generation))
        state = replace(state, taking={**state.taking, seat: (nonce, home)}, stamps=state.stamps + 1)
        have += 1
    kept = _homes_kept(state) and not state.frozen
    spare = [s for s, one in state.held.items() if not one.home and one.leaving_at is None]
    spare.sort(key=lambda seat: (not (seat < state.cut.homes and kept), -seat))
    excess = have - want if not state.taking else 0
    for seat in spare[:CHANGES_MAX]:
        if excess <= 0 and not (seat < state.cut.homes and kept):
            break
        state = _mark(state, seat)
        excess -= 1
    return state


def _homes_kept(state: Allocation) -> bool:
    """Whether seats that may be homes must not be leased: a node has none yet, or nobody knows who has which."""
    assert state.view is not None
    settled = {one.node for one in state.view.seats.values() if one.home}
    full = len(settled) >= state.cut.homes
    return state.frozen or not (full or settled.issuperset(state.view.members))


def _takeable(state: Allocation, now: float) -> list[tuple[int, bool]]:
    """Seats that this node may try to take, best first, and whether as a home."""
    assert state.view is not None
    busy = state.held.keys() | state.taking.keys() | state.freeing
    if state.frozen:
        claims = state.homes  # whoever the restored store names; nobody else can have it on disk
    else:
        claims = frozenset(s for s, one in state.view.seats.items() if one.home and one.node == state.node)
    found = [(seat, True) for seat in sorted(claims - busy)]
    free = [seat for seat in range(state.cut.seats) if seat not in state.view.seats and seat not in busy]
    has_home = bool(claims or state.homes or any(home for _, home in state.taking.values()))
    if not has_home and not state.frozen:
        found += [(seat, True) for seat in free if seat < state.cut.homes][:1]
    if state.lease is None:
        return found
    claimed = {seat for seat, _ in found}
    own = [s for s, one in state.view.seats.items() if one.node == state.node and not one.home and s not in busy]
    # Free seats that may be homes come last: they may be wanted as such soon. Nodes begin at different ones.
    free.sort(key=lambda seat: (seat < state.cut.homes, hash_order(state.node, seat)))
    free = [seat for seat in free if seat >= state.cut.homes or not _homes_kept(state)]
    leasable = own + (free if now >= state.free_not_before else [])
    return found + [(seat, False) for seat in leasable if seat not in claimed]


def hash_order(node: str, seat: int) -> int:
    """An order of seats of each node's own, so that nodes that start together seldom try the same one."""
    return (sum(node.encode()) * 7919 + seat * 104729) % 1009


def _mark(state: Allocation, seat: int) -> Allocation:
    """From the next allowance on without this seat."""
    return replace(state, held={**state.held, seat: replace(state.held[seat], leaving_at=state.told.sequence + 1)})


def _tell(state: Allocation, now: float, commands: list[Command]) -> Allocation:
    """Tells the workers, if anything changed."""
    staying = {seat: one for seat, one in state.held.items() if one.leaving_at is None}
    leaving_homes = {seat for seat, one in state.held.items() if one.home and one.leaving_at is not None}
    home = state.homes - leaving_homes - state.freeing
    leased = frozenset(seat for seat, one in staying.items() if not one.home)
    until = _until(state) if leased else -NEVER
    told = state.told
    unsaid = any(one.leaving_at == told.sequence + 1 for one in state.held.values())
    if not unsaid and (home, leased, until, state.values) == (told.home, told.leased, told.until, state.told_values):
        return state
    allowance = Allowance(state.incarnation, told.sequence + 1, home, leased, until, state.fresh & home)
    if home != told.home or state.values != state.told_values:
        commands.append(Save(home, state.values))
    commands.append(Tell(allowance, state.values))
    return replace(state, told=allowance, told_values=state.values)


def _everyone(state: Allocation, sequence: int) -> bool:
    """Whether all workers of this node confirmed an allowance; one that is not there has not."""
    return all(state.confirmed.get(slot, -1) >= sequence for slot in range(state.cut.slices))


def _free(state: Allocation, commands: list[Command]) -> Allocation:
    for seat, one in state.held.items():
        if one.leaving_at is not None and _everyone(state, one.leaving_at):
            commands.append(Free(seat, one.nonce))
            held = {key: value for key, value in state.held.items() if key != seat}
            state = replace(state, held=held, freeing=state.freeing | {seat}, homes=state.homes - {seat})
    return state


def _free_strays(state: Allocation, commands: list[Command]) -> Allocation:
    """Gives back leased seats that bear this node's name and are not wanted: from lost answers and earlier agents."""
    view = state.view
    if view is None or state.told.sequence < 0 or not _everyone(state, state.told.sequence):
        return state  # a worker may yet spend what an earlier agent told it
    busy = state.held.keys() | state.taking.keys() | state.freeing
    if not state.leaving and len(state.held) < target(view.members, state.node, state.cut.seats):
        return state
    for seat, one in view.seats.items():
        if one.node == state.node and not one.home and seat not in busy and len(state.freeing) < CHANGES_MAX:
            commands.append(Free(seat, one.nonce))
            state = replace(state, freeing=state.freeing | {seat})
    return state


def _acknowledge(state: Allocation, commands: list[Command]) -> Allocation:
    if not _everyone(state, state.told.sequence) or state.told.sequence < 0:
        return state
    for limit, value in state.told_values.items():
        if state.acknowledged.get(limit) != value.order:
            commands.append(Acknowledge(limit, value.order))
            state = replace(state, acknowledged={**state.acknowledged, limit: value.order})
    return state
