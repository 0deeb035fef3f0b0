"""The keys of a signed zone in the course of time: first use, rollover, and the way back to an unsigned zone.

A zone has one key for everything (CSK), or one that signs the keys (KSK) and one that signs the rest (ZSK). Each has
a track of its own:

    HIDDEN    --all unsigned answers forgotten--> AWAITED --Seen--> STEADY
    STEADY    --Roll--> PUBLISHED --known everywhere--> OFFERED --Seen--> TRUSTED --old DS forgotten--> RETIRING
    RETIRING  --all signatures of the old key forgotten--> STEADY

A ZSK needs no parent: HIDDEN goes to STEADY, PUBLISHED to RETIRING. This is the double-DNSKEY way for keys that the
parent knows, the pre-publish way for those that it does not (RFC 7583 section 3, RFC 6781 section 4.1).

Invariant: whatever a resolver may still hold of DS, DNSKEY and signatures fits together: some trusted key signed the
key set, and some key of the set signed the answer. What keeps it: no phase that a cache can contradict ends before the
longest time that the cache may hold it, and what the parent says is never guessed: a person confirms it (Seen, Gone).

To be unsigned again the parent must let go first: the zone is signed until then, whatever the document says, and asks
the parent by CDS (RFC 8078). Times are seconds since 1970: they outlast processes and machines.
"""

from collections.abc import Iterator
from dataclasses import astuple, dataclass, replace
from enum import Enum

from meridian.core.machine import Step

REMEMBERED_SECONDS_MAX = 604_800.0  # resolvers hold nothing longer, whatever its TTL (RFC 8767 section 4)


class Role(Enum):
    """What a key signs: everything, the keys, or the rest."""

    CSK = "csk"
    KSK = "ksk"
    ZSK = "zsk"


class Phase(Enum):
    """Where a track is."""

    HIDDEN = "hidden"
    AWAITED = "awaited"
    STEADY = "steady"
    PUBLISHED = "published"
    OFFERED = "offered"
    TRUSTED = "trusted"
    RETIRING = "retiring"


class Exit(Enum):
    """Whether the zone is on its way to be unsigned: the parent was asked, or is known to have let go."""

    NONE = "none"
    ASKED = "asked"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Times:
    """How long others may remember, in seconds: the key set, the longest answer of the zone, the parent's DS; and how
    long a change takes to reach every server of the zone, secondaries too."""

    keys_seconds: float = 3600.0
    zone_seconds: float = 86_400.0
    parent_seconds: float = 172_800.0
    spread_seconds: float = 3600.0


@dataclass(frozen=True, slots=True)
class Track:
    """One role's keys by their ids. `other`: the next key, or while RETIRING the one before (while AWAITED too, if the
    zone was on its way out meanwhile). `until`: when the phase ends by itself; None: it waits for an event."""

    role: Role
    current: str
    phase: Phase
    other: str | None = None
    until: float | None = None


@dataclass(frozen=True, slots=True)
class ZoneKeys:
    """All of a zone. No tracks: it is unsigned, and may be forgotten.

    `shorter`: times that the document says now, and that count from `shorter_from` on. Until then answers with the
    longer TTLs of before may be remembered, under signatures of the keys of then.
    """

    tracks: tuple[Track, ...]
    times: Times
    exit: Exit = Exit.NONE
    until: float | None = None
    shorter: Times | None = None
    shorter_from: float = 0.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the document in force says: whether the zone is to be signed, and how long others remember."""

    on: bool
    times: Times


@dataclass(frozen=True, slots=True)
class Roll:
    """An operator wants a role's key replaced by a new one, which exists under this id."""

    role: Role
    key: str


@dataclass(frozen=True, slots=True)
class Seen:
    """All servers of the parent give the DS that was asked for."""


@dataclass(frozen=True, slots=True)
class Gone:
    """No server of the parent gives a DS."""


@dataclass(frozen=True, slots=True)
class Woken:
    """A deadline has passed."""


Event = Wanted | Roll | Seen | Gone | Woken


@dataclass(frozen=True, slots=True)
class Forget:
    """Command: the private key is not needed any more."""

    key: str


@dataclass(frozen=True, slots=True)
class Use:
    """What a key does now. A key that signs nothing is published only."""

    key: str
    role: Role
    signs_keys: bool
    signs_zone: bool
    offered: bool


def begin(keys: dict[Role, str], times: Times, now: float) -> ZoneKeys:
    """A zone that is signed from now on: with a CSK, or with a KSK and a ZSK."""
    assert set(keys) in ({Role.CSK}, {Role.KSK, Role.ZSK})
    until = now + times.zone_seconds + times.spread_seconds
    return ZoneKeys(tuple(Track(role, key, Phase.HIDDEN, None, until) for role, key in keys.items()), times)


def step(zone: ZoneKeys, event: Event, now: float) -> Step[ZoneKeys, Forget]:
    """Returns the state after an event; one that does not fit is ignored."""
    match event:
        case Wanted(on, times):
            return _want(_timed(zone, times, now), on)
        case Gone() if zone.exit is Exit.ASKED:
            until = now + zone.times.parent_seconds + zone.times.spread_seconds
            return Step(replace(zone, exit=Exit.GONE, until=until))
        case Woken() if zone.exit is Exit.GONE and zone.until is not None and now >= zone.until:
            return Step(replace(zone, tracks=(), until=None), tuple(map(Forget, _ids(zone))))
    if zone.exit is not Exit.NONE:
        return Step(zone)
    stepped = [_step(track, event, zone.times, now) for track in zone.tracks]
    tracks = tuple(one.state for one in stepped)
    return Step(replace(zone, tracks=tracks), tuple(command for one in stepped for command in one.commands))


def deadline(zone: ZoneKeys) -> float | None:
    """Returns when the next phase ends by itself."""
    if zone.exit is not Exit.NONE:
        return zone.until
    return min((track.until for track in zone.tracks if track.until is not None), default=None)


def uses(zone: ZoneKeys) -> Iterator[Use]:
    """Yields every published key and what it does; all that a signer needs to know."""
    for track in zone.tracks:
        knows_parent = track.role is not Role.ZSK
        asks_for_next = track.phase in (Phase.OFFERED, Phase.TRUSTED)
        offers = knows_parent and zone.exit is Exit.NONE and track.phase is not Phase.HIDDEN
        signs_zone = track.role is not Role.KSK
        yield Use(track.current, track.role, knows_parent, signs_zone, offers and not asks_for_next)
        if track.other is not None:
            yield Use(track.other, track.role, knows_parent, False, offers and asks_for_next)


def refusal(zone: ZoneKeys, event: Event) -> str | None:
    """Returns why an operator's event does not fit now, None if it does."""
    match event:
        case Gone() if zone.exit is not Exit.ASKED:
            return "the zone is not on its way to be unsigned: remove its `dnssec` from the document first"
        case Seen() | Roll() if zone.exit is not Exit.NONE:
            return "the zone is on its way to be unsigned"
        case Seen() if not any(track.phase in (Phase.AWAITED, Phase.OFFERED) for track in zone.tracks):
            return "nothing was asked of the parent that is not known to be there"
        case Roll(role):
            track = next((track for track in zone.tracks if track.role is role), None)
            if track is None:
                has = ", ".join(track.role.value for track in zone.tracks)
                return f"the zone has no {role.value} (it has {has})"
            if track.phase is not Phase.STEADY:
                return f"its {role.value} is {track.phase.value}; one rollover at a time"
    return None


def _timed(zone: ZoneKeys, wanted: Times, now: float) -> ZoneKeys:
    """Longer times count at once, shorter ones when all that was given out before has been forgotten."""
    pairs = tuple(zip(astuple(zone.times), astuple(wanted), strict=True))
    shrinking = [before for before, after in pairs if after < before]
    if not shrinking or (zone.shorter == wanted and now >= zone.shorter_from):
        return replace(zone, times=wanted, shorter=None, shorter_from=0.0)
    times = Times(*map(max, pairs))
    if zone.shorter == wanted and zone.times == times:
        return zone
    until = now + min(max(shrinking), REMEMBERED_SECONDS_MAX) + times.spread_seconds
    return replace(zone, times=times, shorter=wanted, shorter_from=until)


def _want(zone: ZoneKeys, on: bool) -> Step[ZoneKeys, Forget]:
    if on and zone.exit is Exit.ASKED:
        return Step(replace(zone, exit=Exit.NONE, until=None))
    if on and zone.exit is Exit.GONE:
        return Step(replace(zone, tracks=tuple(map(_asking_anew, zone.tracks)), exit=Exit.NONE, until=None))
    if not on and zone.exit is Exit.NONE:
        if all(track.phase is Phase.HIDDEN for track in zone.tracks):  # the parent was never asked
            return Step(replace(zone, tracks=()), tuple(map(Forget, _ids(zone))))
        return Step(replace(zone, exit=Exit.ASKED))
    return Step(zone)


def _asking_anew(track: Track) -> Track:
    """The parent trusts no key any more, but a DS of any of them may be remembered: all of them stay.

    The zone was signed all the time, so no unsigned answer is about."""
    if track.role is Role.ZSK:
        return track
    match track.phase:
        case Phase.STEADY | Phase.RETIRING:
            return replace(track, phase=Phase.AWAITED, until=None)
        case Phase.TRUSTED:
            return replace(track, phase=Phase.OFFERED, until=None)
    return track


def _step(track: Track, event: Event, times: Times, now: float) -> Step[Track, Forget]:
    is_due = isinstance(event, Woken) and track.until is not None and now >= track.until
    retired_at = now + max(times.zone_seconds, times.keys_seconds) + times.spread_seconds
    match track.phase, event:
        case (Phase.HIDDEN, Woken()) if is_due:
            phase = Phase.STEADY if track.role is Role.ZSK else Phase.AWAITED
            return Step(replace(track, phase=phase, until=None))
        case (Phase.AWAITED, Seen()) if track.other is None:
            return Step(replace(track, phase=Phase.STEADY))
        case (Phase.AWAITED, Seen()):
            return Step(replace(track, phase=Phase.RETIRING, until=retired_at))
        case (Phase.STEADY, Roll(role, key)) if role is track.role:
            until = now + times.keys_seconds + times.spread_seconds
            return Step(replace(track, phase=Phase.PUBLISHED, other=key, until=until))
        case (Phase.PUBLISHED, Woken()) if is_due and track.role is not Role.ZSK:
            return Step(replace(track, phase=Phase.OFFERED, until=None))
        case (Phase.OFFERED, Seen()):
            until = now + times.parent_seconds + times.spread_seconds
            return Step(replace(track, phase=Phase.TRUSTED, until=until))
        case (Phase.PUBLISHED | Phase.TRUSTED, Woken()) if is_due:
            assert track.other is not None
            return Step(Track(track.role, track.other, Phase.RETIRING, track.current, retired_at))
        case (Phase.RETIRING, Woken()) if is_due:
            assert track.other is not None
            return Step(replace(track, phase=Phase.STEADY, other=None, until=None), (Forget(track.other),))
    return Step(track)


def _ids(zone: ZoneKeys) -> Iterator[str]:
    for track in zone.tracks:
        yield track.current
        if track.other is not None:
            yield track.other
