"""Zones' keys as the agent sees them: between the control plane, the channel to DNS workers and the admin API. Pure.

What DNS workers do with them is `zone_signing`: they must import nothing of the store.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from meridian.admin.status import KeyStatus, ZoneKeysStatus
from meridian.control.zone_keys import Keyring, Wish, phases
from meridian.core import dns_words
from meridian.core.keyrolls import Exit, Phase, Role, Times, deadline
from meridian_dns.names import name_from_text, name_to_text
from meridian_dns.presentation import rdata_to_text
from meridian_dns.records import DNSKEY, DS
from meridian_dns.signing import ENTRY_POINT, KEYS_TTL_SECONDS, ZONE_KEY, SigningKey
from meridian_dns.zone_building import NS_TTL_SECONDS
from meridian_proto.v1.channel_pb2 import Frame, SignedZone, ZoneKey, ZoneKeys

SPREAD_SECONDS = 3600.0  # how soon secondaries ask for what is new, by the SOA's refresh


def zone_id(name: str) -> str:
    """A zone's name in the one form that its keys are kept under. Raises ValueError."""
    return name_to_text(name_from_text(name))


def wishes_of(zones: Sequence[dns_words.Zone], ttls: Mapping[str, int]) -> dict[str, Wish | None]:
    """What a document wants of its zones; `ttls`: the longest time to live of each, in seconds."""
    return {zone_id(zone.name): _wish(zone, ttls.get(zone_id(zone.name), 0)) for zone in zones}


def _wish(zone: dns_words.Zone, longest: int) -> Wish | None:
    if zone.dnssec is None:
        return None
    times = Times(
        keys_seconds=float(KEYS_TTL_SECONDS),
        zone_seconds=float(max(longest, NS_TTL_SECONDS)),
        parent_seconds=float(zone.dnssec.parent_ttl_seconds),
        spread_seconds=SPREAD_SECONDS,
    )
    return Wish(zone.dnssec.algorithm, zone.dnssec.split_keys, times)


def zone_keys_frame(keyrings: Sequence[Keyring]) -> Frame:
    """All keys for a DNS worker, private parts too: the channel is a socketpair of this node."""
    zones = [
        SignedZone(
            zone=ring.zone,
            leaving=ring.state.exit is not Exit.NONE,
            keys=[
                ZoneKey(
                    algorithm=ring.algorithm,
                    private_key=ring.private[use.key],
                    entry_point=use.role is not Role.ZSK,
                    signs_keys=use.signs_keys,
                    signs_zone=use.signs_zone,
                    offered=use.offered,
                )
                for use in ring.uses
            ],
        )
        for ring in keyrings
    ]
    return Frame(zone_keys=ZoneKeys(zones=zones))


def keys_status(ring: Keyring) -> ZoneKeysStatus:
    """What an operator is told of a zone's keys, and what to do next. Raises KeyUnfit."""
    origin = name_from_text(ring.zone)
    keys = []
    for use in ring.uses:
        flags = ZONE_KEY if use.role is Role.ZSK else ENTRY_POINT
        key = SigningKey.from_der(ring.algorithm, flags, ring.private[use.key])
        keys.append(
            KeyStatus(
                id=use.key,
                role=use.role.value,
                tag=key.tag,
                signs_keys=use.signs_keys,
                signs_zone=use.signs_zone,
                offered=use.offered,
                dnskey=rdata_to_text(DNSKEY, key.rdata),
                ds=f"{ring.zone} IN DS {rdata_to_text(DS, key.ds_rdata(origin))}",
            )
        )
    until = deadline(ring.state)
    when = datetime.fromtimestamp(until, UTC).isoformat(timespec="seconds") if until is not None else ""
    return ZoneKeysStatus(
        zone=ring.zone,
        algorithm=ring.algorithm,
        state=phases(ring.state),
        until=when,
        next_step=_next_step(ring, when),
        keys=tuple(keys),
    )


def _next_step(ring: Keyring, when: str) -> str:
    if ring.state.exit is Exit.ASKED:
        return f"remove the DS from the parent zone; when it is gone: meridian dns keys gone {ring.zone}"
    if ring.state.exit is Exit.GONE:
        return f"wait until {when}; then the zone is unsigned"
    phase = {track.phase for track in ring.state.tracks if track.role is not Role.ZSK}
    if Phase.HIDDEN in phase:
        return f"wait until {when}, when no unsigned answer is remembered any more; then publish the DS"
    if phase & {Phase.AWAITED, Phase.OFFERED}:
        return f"publish the offered DS in the parent zone, alone; when it is there: meridian dns keys seen {ring.zone}"
    return f"nothing; the rollover goes on by itself at {when}" if when else "nothing"
