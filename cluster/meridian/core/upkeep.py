"""What the store's files need: history forgotten, room made, alarms taken back; and when that is safe. Pure.

Invariant: history is never forgotten that a watch of the last `WINDOW_SECONDS` may still resume from; and at most one
member at a time is made to answer nothing, never one that the majority needs.
What keeps it: a revision is compacted only when it was the store's newest that long ago; a member is defragmented only
while all members are reachable and agree that there is a leader, those that follow before the one that leads.
"""

from collections.abc import Sequence
from dataclasses import dataclass

# A watch that was cut off resumes after this long at the latest, or lists again; mirrors list each minute anyway.
WINDOW_SECONDS = 600.0
# More samples say no more: a compaction each minute at most.
SAMPLE_SECONDS = 60.0
WARN_SHARE = 0.7
# Below it a file is not worth a member's silence, however empty it is.
FRAGMENTED_BYTES_MIN = 64 * 1024 * 1024
FRAGMENTED_SHARE = 0.5
# One member of three may be silent and the others are still a majority; of one or two it may not.
MEMBERS_MIN_FOR_AUTOMATIC = 3


@dataclass(frozen=True, slots=True)
class MemberHealth:
    """One member of the store. `db_bytes` is its file, `used_bytes` what of it holds something, `quota_bytes` where it
    stops taking writes (0: it does not say). `alarms` are such as NOSPACE; each stands until it is disarmed.
    """

    endpoint: str
    reachable: bool
    detail: str
    knows_leader: bool = False
    leads: bool = False
    db_bytes: int = 0
    used_bytes: int = 0
    quota_bytes: int = 0
    alarms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Window:
    """Revisions that were the newest at a time, the oldest first; `compacted` is the last that was asked for."""

    samples: tuple[tuple[float, int], ...] = ()
    compacted: int = 0


def sampled(window: Window, revision: int, now: float, window_seconds: float = WINDOW_SECONDS) -> Window:
    """Returns the window with the store's newest revision at `now`; what is older than needed is dropped."""
    if window.samples and revision < window.samples[-1][1]:
        return Window(((now, revision),))  # another store was put in this one's place
    samples = (*window.samples, (now, revision))
    old = [sample for sample in samples if sample[0] <= now - window_seconds]
    return Window(samples[max(0, len(old) - 1) :], window.compacted)


def to_compact(window: Window, now: float, window_seconds: float = WINDOW_SECONDS) -> int | None:
    """Returns the revision below which history may be forgotten at `now`; None if there is none yet, or no news."""
    if not window.samples:
        return None
    at, revision = window.samples[0]
    return revision if at <= now - window_seconds and revision > window.compacted else None


def warnings(members: Sequence[MemberHealth], quota_bytes: int) -> tuple[str, ...]:
    """Returns what an operator should know of the members, each with the remedy. `quota_bytes` is of those that do not
    say theirs."""
    found = []
    for member in members:
        quota = member.quota_bytes or quota_bytes
        if not member.reachable:
            found.append(f"{member.endpoint}: {member.detail}; start this member again, or replace it")
        elif "NOSPACE" in member.alarms:
            found.append(f"{member.endpoint}: out of space (NOSPACE), writes are refused; run: meridian store defrag")
        elif "CORRUPT" in member.alarms:
            found.append(f"{member.endpoint}: its data differ from the others' (CORRUPT); remove it and add it anew")
        elif quota and member.db_bytes >= WARN_SHARE * quota:
            share, used = 100 * member.db_bytes // quota, 100 * member.used_bytes // quota
            remedy = "run: meridian store defrag" if used < share else "raise its --quota-backend-bytes"
            found.append(f"{member.endpoint}: {share} % of its quota is taken, {used} % is in use; {remedy}")
    return tuple(found)


def why_not_defragment(members: Sequence[MemberHealth]) -> str | None:
    """Returns why no member may be defragmented now, None if one may."""
    for member in members:
        if not member.reachable or not member.knows_leader:
            return f"{member.endpoint}: {member.detail}; all members must be well first"
    return None if members else "no member is known"


def in_turn(members: Sequence[MemberHealth]) -> tuple[str, ...]:
    """Returns the endpoints in the order in which they may be defragmented: who leads comes last."""
    return tuple(member.endpoint for member in sorted(members, key=lambda member: member.leads))


def needs_room(members: Sequence[MemberHealth], quota_bytes: int) -> bool:
    """Returns whether defragmenting, by itself and safely, would help against a quota that is near."""
    if len(members) < MEMBERS_MIN_FOR_AUTOMATIC or why_not_defragment(members) is not None:
        return False
    return any(
        member.db_bytes >= max(FRAGMENTED_BYTES_MIN, WARN_SHARE * (member.quota_bytes or quota_bytes))
        and member.used_bytes <= FRAGMENTED_SHARE * member.db_bytes
        for member in members
    )


def may_disarm(members: Sequence[MemberHealth], quota_bytes: int) -> bool:
    """Returns whether the alarm NOSPACE is raised and there is room again on every member."""
    raised = any("NOSPACE" in member.alarms for member in members)
    room = all(m.reachable and m.db_bytes < WARN_SHARE * (m.quota_bytes or quota_bytes) for m in members)
    return raised and room
