"""How much of its load a region keeps when the others cannot carry all of it: rule 10 of the verdicts. Pure.

A region's **share** is the part (0 to 1) of the clients who come to it that it serves; the others go on to their next
region. It is in the verdict, so that DNS and gateways everywhere move the same clients by the same number.

Invariant: what is moved is never more than what those who stay have room for, by what all nodes told last.
- A region that **leaves**, but still serves (drained, or gray), goes at once if the others can carry all of it, else in
  steps, down to the share that they cannot carry. What is silent serves nobody: it has no share, and is no business of
  this rule.
- A region that stays, and gets more than it can carry, gives away what it cannot, if the others have room.
- Others are filled up to FILL, and what they were given is taken back only above FULL. Between the two nothing moves:
  hence no swinging. A share moves once in STEP_SECONDS, by a quarter at most.
- Every region that stays must have declared what it carries. Else nobody knows, and there is no such rule.

What was moved shows late in what is measured: resolvers keep answers. So no decision rests on where the load is now:
the load of all together is the same whether it has moved or not, and what would come to a region if it gave nothing
away (its **demand**) is remembered from before it moved, until the share has stood for SETTLE_SECONDS.

What this cannot see is whose neighbour gets what was moved: it may be too much for one of those who stay, while all
together have room. That one then gives away in its turn.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, exp, floor

from meridian.core.standings import PUBLISHED, STALE_SECONDS, Evidence, RegionVerdict, Standing, Verdict

PARTS = 20  # shares are multiples of a twentieth: fewer versions of the verdict, and fewer kinds of DNS answers
STEP_PARTS = 5
PART_MIN = 1 / PARTS  # of who stays: he is never left out
STEP_SECONDS = 5.0  # what DNS answers is kept for as long while a region is in doubt
SETTLE_SECONDS = 60.0  # by then resolvers have let go of the answers before, most of them three times over
FILL = 0.8
FULL = 0.95
SMOOTH_SECONDS = 5.0  # a burst of a second moves nobody, nor that workers tell their counts once in a second

_ROUNDING = 1e-9
_KEEPS = "the others cannot carry all of it, so it keeps {:.0%} of its clients"
_GIVES = "it cannot carry all that comes, so it keeps {:.0%} of its clients"


@dataclass(frozen=True, slots=True)
class Share:
    """`part` of 1 is kept. `demand` in requests per second; `moved` is when it last changed, by the judge's clock."""

    part: float
    demand: float
    moved: float


@dataclass(frozen=True, slots=True)
class Room:
    """A region that serves: its load and capacity in requests per second, of the nodes that serve; `before` is how it
    stood. `returning`: it is on its way back from leaving, and not trusted yet, so its share stays.
    """

    name: str
    load: float
    capacity: float | None
    leaving: bool
    before: Share
    returning: bool = False


def room(name: str, previous: Verdict, evidence: Evidence, nodes: Mapping[str, Standing], *, leaving: bool) -> Room:
    """Returns the room of a region by what its serving `nodes`, which stand so now, have told of themselves."""
    reports = [evidence.heard[node].report for node in nodes]
    before = previous.regions.get(name, RegionVerdict(name, Standing.SERVING))
    doubted = before.share is not None and set(nodes.values()) == {Standing.SUSPECT}
    return Room(
        name,
        sum(report.load for report in reports),
        capacity_of(evidence.capacities.get(name), [report.capacity for report in reports]),
        leaving=leaving or doubted,
        before=Share(before.part, before.demand, before.moved),
        returning=doubted,
    )


def shared(region: RegionVerdict, share: Share, *, leaves: bool) -> RegionVerdict:
    """Returns the region's verdict with its share; where the standing says the same, it alone is said."""
    leaves = leaves or region.standing not in PUBLISHED
    if share.part == (0.0 if leaves else 1.0):
        return replace(region, demand=share.demand, moved=share.moved)
    said = (_KEEPS if leaves else _GIVES).format(share.part)
    reason = f"{region.reason}; {said}" if region.reason else said
    return replace(region, reason=reason, share=share.part, demand=share.demand, moved=share.moved)


def capacity_of(declared: float | None, nodes: Collection[float]) -> float | None:
    """Returns what a region carries: the sum of what its serving nodes declare (0: nothing), at most its own figure.

    None if neither is known.
    """
    together = sum(nodes) if nodes and all(nodes) else None
    known = [figure for figure in (declared, together) if figure is not None]
    return min(known, default=None)


def smoothed(before: float, sample: float, seconds: float) -> float:
    """Returns the load after a sample that covers `seconds`: an exponential mean over some SMOOTH_SECONDS."""
    return sample + (before - sample) * exp(-seconds / SMOOTH_SECONDS)


@dataclass(frozen=True, slots=True)
class Load:
    """What a region serves and what it carries, in requests per second."""

    load: float
    capacity: float | None


def loads(verdict: Verdict, evidence: Evidence, now: float) -> dict[str, Load]:
    """Returns the load of every region of the verdict, as its nodes told it last."""
    fresh = {name: heard.report for name, heard in evidence.heard.items() if now - heard.made <= STALE_SECONDS}
    found = {}
    for region in verdict.regions:
        nodes = [n for n in verdict.nodes.values() if n.region == region and n.name in fresh]
        carrying = [fresh[node.name].capacity for node in nodes if node.answered]
        carries = capacity_of(evidence.capacities.get(region), carrying)
        found[region] = Load(sum(fresh[node.name].load for node in nodes), carries)
    return found


def share_out(rooms: Sequence[Room], now: float) -> dict[str, Share]:
    """Returns how much each region keeps from now on; none if the rule does not hold, since nobody knows the room."""
    staying = [room for room in rooms if not room.leaving]
    if not staying or any(room.capacity is None for room in staying):
        return {}
    demands = {room.name: _demand(room, now) for room in rooms}
    kept = {room.name: room.before.part for room in rooms}  # what was just taken back is nobody's room yet
    found = {}
    for room in sorted(rooms, key=lambda room: (not room.leaving, room.name)):
        pool = sum(other.capacity or 0.0 for other in staying if other is not room)
        elsewhere = sum(kept[r.name] * demands[r.name] for r in rooms if r.leaving and r is not room)
        rest = sum(r.load for r in rooms) - elsewhere  # carried by this one and the pool together
        part = _part(room, demands[room.name], rest, pool, now)
        kept[room.name] = min(part, room.before.part)
        moved = room.before.moved if part == room.before.part else now
        found[room.name] = Share(part, demands[room.name], moved)
    return found


def _demand(room: Room, now: float) -> float:
    """What comes to it and would stay if it gave nothing away."""
    before = room.before
    if before.part >= 1.0:
        return room.load
    settled = now - before.moved >= SETTLE_SECONDS
    if settled and before.part:
        return room.load / before.part
    return max(before.demand, room.load)  # it may have grown since


def _part(room: Room, demand: float, rest: float, pool: float, now: float) -> float:
    """The part that it keeps. `rest` is carried by it and by the `pool` of the others who stay."""
    part = room.before.part if room.leaving else max(PART_MIN, room.before.part)
    if room.returning or now - room.before.moved < STEP_SECONDS:
        return part
    fits, needs = (_least(rest - level * pool, demand) if pool else 1.0 for level in (FILL, FULL))
    if room.leaving:
        if needs > part:
            return _rise(part, fits)
        return 0.0 if fits == 0.0 else _fall(part, fits)
    assert room.capacity is not None
    able = max(PART_MIN, _most(FILL * room.capacity, demand))
    wanted = max(fits, able)
    if needs > part or able > part:
        return _rise(room.before.part, wanted)
    return _fall(part, wanted) if room.load > FULL * room.capacity else part


def _least(load: float, demand: float) -> float:
    """The part of `demand` that holds at least `load`, in whole steps. Without a demand it is all or nothing."""
    if load <= _ROUNDING:
        return 0.0
    return min(1.0, ceil(load / demand * PARTS - _ROUNDING) / PARTS) if demand else 1.0


def _most(load: float, demand: float) -> float:
    """The part of `demand` that holds at most `load`."""
    return min(1.0, floor(load / demand * PARTS + _ROUNDING) / PARTS) if demand else 1.0


def _rise(part: float, goal: float) -> float:
    return _whole(min(max(part, goal), part + STEP_PARTS / PARTS))


def _fall(part: float, goal: float) -> float:
    return _whole(max(min(part, goal), part - STEP_PARTS / PARTS))


def _whole(part: float) -> float:
    return round(part * PARTS) / PARTS
