"""From the document and the verdict to what the DNS library answers from. Pure.

Invariant 5 at this seam: what the verdict does not speak about is answered as the document says it (fail open); the
library then never answers an empty set for a name that has endpoints.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_network

from meridian.core import addresses, dns_words, model
from meridian.core.rates import parse_rate
from meridian.core.verdicts import NodeVerdict, RegionVerdict, Standing, Verdict
from meridian_dns.names import name_from_text, name_to_text
from meridian_dns.records import RRset
from meridian_dns.steering import Steer
from meridian_dns.throttle import Throttle
from meridian_dns.transfer import History, Offer, Secondary, Transfers, copy_of
from meridian_dns.tsig import Key
from meridian_dns.view import Distance, Distances, Member, Region, RegionView
from meridian_dns.zone import ClientView, Zone, ZoneError, ZoneSet
from meridian_dns.zone_building import RecordSpec, build_zone
from meridian_dns.zonefile import read_records

NO_STEERING = dns_words.Steering()
SERIAL_MODULUS = 2**32  # of the SOA's serial, RFC 1035 section 3.3.13


def build_zones(
    zones: Sequence[dns_words.Zone], version: int, files: Mapping[str, bytes], views: Sequence[dns_words.View] = ()
) -> ZoneSet:
    """The zones at one version of the document, which is their serial; `files` hold the zone files by name. `views` say
    which clients see zones of their own.

    Raises meridian_dns.zone.ZoneError.
    """
    seen = [ClientView(view.name, tuple(ip_network(network) for network in view.networks)) for view in views]
    return ZoneSet([_zone(zone, version, files) for zone in zones], seen)


def zone_ttls(zones: ZoneSet) -> dict[str, int]:
    """The longest time to live of each zone's record sets, by the zone's name."""
    found: dict[str, int] = {}
    for zone in zones:
        longest = max(records.ttl_seconds for here in zone.names.values() for records in here.values())
        name = name_to_text(zone.origin)
        found[name] = max(longest, found.get(name, 0))
    return found


def build_transfers(
    document: model.Document, files: Mapping[str, bytes], zones: ZoneSet, before: Transfers
) -> Transfers:
    """What secondaries get of `zones`, which were built from `document`; `files` hold the secrets by name.

    `before` is what they got so far, and gives the history. Raises meridian_dns.zone.ZoneError. A large zone takes
    tens of milliseconds: not for a loop.
    """
    keys = {key.name: key for key in (build_key(key, files) for key in document.tsig_keys)}
    addresses = {region.name: region.addresses for region in document.regions}
    offers = {}
    for described in document.zones:
        if not described.secondaries:
            continue
        origin = name_from_text(described.name)
        zone = zones.find(origin)
        assert zone is not None and zone.origin == origin
        copy = copy_of(zone, addresses)
        earlier = before.offers.get(origin)
        history = History(copy) if earlier is None else earlier.history.advanced(copy)
        secondaries = tuple(_secondary(secondary, described.name) for secondary in described.secondaries)
        offers[origin] = Offer(history, secondaries)
    return Transfers(offers, keys)


def build_throttle(limit: dns_words.AnswerLimit | None) -> Throttle | None:
    """The limit of answers over UDP as the document says it."""
    return None if limit is None else Throttle(parse_rate(limit.rate), limit.burst, slip=limit.slip)


def build_key(key: dns_words.TsigKey, files: Mapping[str, bytes]) -> Key:
    """A key with its secret. Raises meridian_dns.zone.ZoneError, without the secret."""
    place = f"tsig_keys, {key.name}"
    if key.secret_file not in files:
        raise ZoneError(place, f"the contents of {key.secret_file} did not come with the document", "apply it again")
    try:
        return Key.from_text(key.name, key.algorithm, files[key.secret_file])
    except ValueError as error:
        raise ZoneError(place, str(error), f"correct it or {key.secret_file}") from None


def _secondary(secondary: dns_words.Secondary, zone: str) -> Secondary:
    notify = addresses.split_dns_address(secondary.address) if secondary.address is not None else None
    networks = secondary.networks or ((notify[0],) if notify is not None else ())
    try:
        key = name_from_text(secondary.tsig_key) if secondary.tsig_key is not None else None
    except ValueError as error:
        raise ZoneError(f"zone {zone}, tsig_key {secondary.tsig_key}", str(error), "correct the name") from None
    return Secondary(tuple(ip_network(network) for network in networks), key, notify)


def build_view(
    regions: Sequence[model.Region],
    verdict: Verdict,
    own: NodeVerdict,
    now: float = 0.0,
    steering: dns_words.Steering = NO_STEERING,
) -> RegionView:
    """All regions of the document, then those that only the verdict knows; who is in doubt at `now` (node's clock).

    `own` is this node as it would describe itself. Before the first verdict (version 0) it is the only member known,
    and every region that has addresses in the document serves.
    """
    nodes = list(verdict.nodes.values()) if verdict.version else [own]
    described = {region.name: region for region in regions}
    names = list(described) + sorted({node.region for node in nodes} - described.keys())
    return RegionView(
        verdict.version,
        {
            name: _region(
                described.get(name) or model.Region(name=name),
                verdict,
                [n for n in nodes if n.region == name],
                now - steering.doubt_lasts_seconds,
            )
            for name in names
        },
        verdict.fallback,
        steering.doubt_ttl_seconds,
        _distances(verdict, now),
    )


def _distances(verdict: Verdict, now: float) -> Distances:
    found = defaultdict[str, dict[str, Distance]](dict)
    for (one, other), held in verdict.distances.items():
        milliseconds = round(held.seconds * 1000, 1)
        found[one][other] = found[other][one] = Distance(milliseconds, max(0.0, now - held.taken))
    return found


def doubt_ends(verdict: Verdict, now: float, steering: dns_words.Steering) -> float | None:
    """When the next region leaves its doubt by time alone; None if none will."""
    ends = (_last_change(region) + steering.doubt_lasts_seconds for region in verdict.regions.values())
    return min((end for end in ends if end > now), default=None)


def _last_change(region: RegionVerdict) -> float:
    return max(region.changed, region.moved)


def _zone(zone: dns_words.Zone, version: int, files: Mapping[str, bytes]) -> Zone:
    records = [spec for record in zone.records for spec in _specs(record)]
    return build_zone(
        zone.name,
        zone.nameservers,
        records,
        contact=zone.contact,
        serial=(zone.serial_offset + version) % SERIAL_MODULUS,
        file=_file_records(zone, files),
        view=zone.view or "",
    )


def _file_records(zone: dns_words.Zone, files: Mapping[str, bytes]) -> Iterator[tuple[RRset, str]]:
    """The records of the zone's file, each with its place in it. Raises meridian_dns.zone.ZoneError."""
    if zone.file is None:
        return
    try:
        text, origin = files[zone.file].decode(), name_from_text(zone.name)
    except KeyError:
        problem = f"the contents of {zone.file} did not come with the document"
        raise ZoneError(f"zone {zone.name}", problem, "apply it again") from None
    except UnicodeDecodeError as error:
        raise ZoneError(zone.file, f"byte {error.start} is not UTF-8", "write the zone file as text") from None
    except ValueError as error:
        raise ZoneError(f"zone {zone.name}", str(error), "correct the name") from None
    for records, place in read_records(text, origin, zone.file):
        yield records, f"{zone.file}, {place}"


def _specs(record: dns_words.Record) -> Iterator[RecordSpec]:
    if record.steer is not None:
        yield RecordSpec(record.name, record.type, record.ttl_seconds, None, _steer(record.steer), record.alpn)
    for value in record.values if record.value is None else (record.value,):
        yield RecordSpec(record.name, record.type, record.ttl_seconds, value, None)


def _steer(steer: dns_words.Group) -> Steer:
    return Steer(
        steer.policy,
        steer.regions,
        steer.answers_max if isinstance(steer, dns_words.Steer) else None,
        tuple(steer.weights.items()),
        tuple((client, tuple(row.items())) for client, row in steer.latency_milliseconds.items()),
        tuple((name, _steer(group)) for name, group in steer.groups.items()),
        steer.spread,
    )


def _region(region: model.Region, verdict: Verdict, nodes: Sequence[NodeVerdict], since: float) -> Region:
    judged = verdict.regions.get(region.name)
    standing = judged.standing if judged is not None else Standing.SERVING
    share = judged.share if judged is not None else None
    members = tuple(Member(node.name, node.addresses, node.answered) for node in nodes)
    if region.addresses:
        # One address in front of several nodes (anycast, a load balancer): it serves while any of them does.
        serving = any(member.serving for member in members) or verdict.version == 0
        members = (Member(region.name, region.addresses, serving),)
    return Region(
        name=region.name,
        members=members,
        serving=judged is None or judged.part > 0.0,
        suspect=standing is Standing.SUSPECT and share is None,  # else it is its share that is answered, and no more
        in_doubt=judged is not None and (standing is Standing.SUSPECT or _last_change(judged) > since),
        near=region.near,
        fallback=region.fallback,
        share=share if share is not None else 1.0,
    )
