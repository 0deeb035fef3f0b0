"""Zones' keys as a DNS worker sees them: the agent's words made into signers. Pure; imports nothing of the store."""

from collections.abc import Mapping, Sequence

from meridian.core import dns_words
from meridian_dns.names import name_from_text
from meridian_dns.signing import ENTRY_POINT, ZONE_KEY, Denial, KeySet, KeyUse, Signatures, Signer, SigningKey
from meridian_dns.zone import ZoneSet, in_order, with_signer
from meridian_proto.v1.channel_pb2 import SignedZone, ZoneKeys


def key_sets_from(message: ZoneKeys) -> dict[bytes, KeySet]:
    """The key sets by origin. Raises meridian_dns.signing.KeyUnfit."""
    return {name_from_text(zone.zone): _key_set(zone) for zone in message.zones}


def _key_set(zone: SignedZone) -> KeySet:
    keys = [
        SigningKey.from_der(entry.algorithm, ENTRY_POINT if entry.entry_point else ZONE_KEY, entry.private_key)
        for entry in zone.keys
    ]
    uses = tuple(KeyUse(key, entry.signs_keys, entry.signs_zone) for key, entry in zip(keys, zone.keys, strict=True))
    offered = tuple(key for key, entry in zip(keys, zone.keys, strict=True) if entry.offered)
    return KeySet(uses, offered, zone.leaving)


def sign_zones(
    zones: ZoneSet, described: Sequence[dns_words.Zone], keys: Mapping[bytes, KeySet], signatures: Signatures
) -> ZoneSet:
    """The zones, signed where there are keys. A zone is signed as long as it has keys, whatever the document says: the
    parent has to let go first (core/keyrolls)."""
    wanted = {name_from_text(zone.name): zone.dnssec for zone in described if zone.dnssec is not None}
    signed = []
    for zone in zones:
        found = keys.get(zone.origin)
        dnssec = wanted.get(zone.origin)
        denial = Denial(dnssec.denial) if dnssec is not None else Denial.COMPACT
        signer = Signer(zone.origin, found, denial, signatures=signatures) if found is not None else None
        if zone.signer != signer:
            zone = with_signer(zone, signer)
        elif dnssec is not None and not zone.order:
            zone = in_order(zone)  # its keys will come when the loop must not wait
        signed.append(zone)
    return ZoneSet(signed, zones.views)
