"""Zones as standard zone files, for operators: import, export and check. Pure: text in, words and findings out.

Invariant: what is imported and then exported answers as the file did, but for what an import says that it lost: the
document has no words for it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from meridian.admin.explained import UnknownZone
from meridian.core import model
from meridian.nodes.dns_state import build_zones
from meridian_dns.lint import Finding, lint
from meridian_dns.names import name_from_text, name_to_text
from meridian_dns.presentation import rdata_to_text
from meridian_dns.records import NS, SOA, RRset, soa_parts
from meridian_dns.security_text import type_name
from meridian_dns.zone import Zone, ZoneError, ZoneSet
from meridian_dns.zone_building import assemble_zone, soa_contact
from meridian_dns.zonefile import origin_of, read_records, zone_from_file

RECORD_TTL_SECONDS_MAX = 604_800  # of the document's records


class BadZoneFile(Exception):
    """A zone file cannot be read at all: where, what is wrong, and what to do about it."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Imported:
    """A zone in the document's words, and what of the file they cannot say."""

    zone: dict[str, object]
    lost: tuple[str, ...]


def import_zone(text: str, origin: str | None) -> Imported:
    """Turns a zone file into a zone of the document. Raises BadZoneFile."""
    try:
        apex, sets, file = _read(text, origin)
    except ZoneError as error:
        raise BadZoneFile(f"{error.place}: {error.problem}", error.remedy) from None
    soa = file.names[apex][SOA]
    servers = file.names[apex][NS]
    assert isinstance(soa, RRset) and isinstance(servers, RRset)
    lost = list(_lost(soa, servers))
    records = []
    for records_set in sets:
        ttl_seconds = records_set.ttl_seconds
        if ttl_seconds > RECORD_TTL_SECONDS_MAX:
            name = f"{name_to_text(records_set.owner)} {type_name(records_set.type)}"
            lost.append(f"{name} is kept for {RECORD_TTL_SECONDS_MAX} s, not {ttl_seconds}")
        values = [rdata_to_text(records_set.type, rdata) for rdata in records_set.rdatas]
        record: dict[str, object] = {
            "name": _relative(records_set.owner, apex),
            "type": type_name(records_set.type),
            "ttl_seconds": min(ttl_seconds, RECORD_TTL_SECONDS_MAX),
        }
        record |= {"value": values[0]} if len(values) == 1 else {"values": values}
        records.append(record)
    zone: dict[str, object] = {
        "name": name_to_text(apex).rstrip(".") or ".",
        "nameservers": [name_to_text(server) for server in servers.rdatas],
        "contact": soa_contact(soa),
        "serial_offset": int.from_bytes(soa_parts(soa.rdatas[0])[2][:4], "big"),
        "records": records,
    }
    return Imported(zone, tuple(lost))


def _read(text: str, origin: str | None) -> tuple[bytes, Sequence[RRset], Zone]:
    """The origin, the record sets but for SOA and the apex's NS in the order of the file, and the whole zone."""
    apex = _origin(text, origin)
    sets: dict[tuple[bytes, int], RRset] = {}
    places: list[tuple[RRset, str]] = []
    for records, place in read_records(text, apex):
        places.append((records, place))
        if records.owner == apex and records.type in (SOA, NS):
            continue
        key = records.owner, records.type
        before = sets.get(key)
        rdatas = (before.rdatas if before is not None else ()) + records.rdatas
        sets[key] = RRset(records.owner, records.type, records.ttl_seconds, rdatas)
    return apex, tuple(sets.values()), assemble_zone(apex, places)


def _origin(text: str, origin: str | None) -> bytes:
    found = origin or origin_of(text)
    if found is None:
        raise BadZoneFile("the file does not say which zone it is of", "name the zone: --origin example.com")
    try:
        return name_from_text(found)
    except ValueError as error:
        raise BadZoneFile(f"zone {found}: {error}", "correct the name") from None


def _lost(soa: RRset, servers: RRset) -> Iterator[str]:
    """What of the apex the document's words cannot say."""
    ours = (3600, 600, 604800, 60)
    primary, _, numbers = soa_parts(soa.rdatas[0])
    theirs = tuple(int.from_bytes(numbers[at : at + 4], "big") for at in range(4, 20, 4))
    if theirs != ours:
        said = [f"{word} {a}, not {b}" for word, a, b in zip(_TIMERS, ours, theirs, strict=True) if a != b]
        yield f"the SOA says {'; '.join(said)}"
    if primary != servers.rdatas[0]:
        yield f"the SOA's primary is {name_to_text(servers.rdatas[0])}, not {name_to_text(primary)}"
    for records, word in ((soa, "SOA"), (servers, "NS")):
        if records.ttl_seconds != 3600:
            yield f"the apex's {word} is kept for 3600 s, not {records.ttl_seconds}"


_TIMERS = ("refresh", "retry", "expire", "negative TTL")


def _relative(owner: bytes, apex: bytes) -> str:
    if owner == apex:
        return "@"
    text = name_to_text(owner[: len(owner) - len(apex)] + b"\0").rstrip(".")
    # A name that ends like the zone looks like one with the dot forgotten, and is refused as such.
    return text if not f".{text}.".endswith(f".{name_to_text(apex)}") else name_to_text(owner)


def check_file(text: str, origin: str | None) -> tuple[str, list[Finding]]:
    """The zone's name, and all that is to be said of a zone file. Raises BadZoneFile."""
    name = name_to_text(_origin(text, origin))
    wrong: list[ZoneError] = []
    try:
        zone = zone_from_file(text, name, wrong.append)
    except ZoneError as error:
        return name, [*map(_as_finding, wrong), _as_finding(error)]
    return name, [*map(_as_finding, wrong), *lint(zone, ZoneSet([zone]))]


def check_document(document: model.Document, files: Mapping[str, bytes]) -> dict[str, list[Finding]]:
    """All that is to be said of a document's zones, by name and view; who serves is not known here."""
    found: dict[str, list[Finding]] = {}
    built = []
    for described in document.zones:
        try:
            built += list(build_zones([described], 1, files))
        except ZoneError as error:
            found[described.title] = [_as_finding(error)]
    try:
        zones = ZoneSet(built)
    except ZoneError as error:  # two of one origin; each is looked at by itself
        found[error.place] = [_as_finding(error)]
        zones = ZoneSet()
    return found | {_title(zone): lint(zone, zones.of_view(zone.view)) for zone in built}


def zone_seen(zones: ZoneSet, name: str, view: str) -> tuple[Zone, ZoneSet]:
    """The zone of that name as clients of `view` see it (empty: of none), and all that they see. Raises UnknownZone."""
    views = [one.name for one in zones.views]
    if view and view not in views:
        raise UnknownZone(f"there is no view {view} (known: {', '.join(views) or 'none'})")
    try:
        origin = name_from_text(name)
    except ValueError as error:
        raise UnknownZone(f"zone {name!r}: {error}") from None
    seen = zones.of_view(view)
    found = next((zone for zone in seen if zone.origin == origin), None)
    if found is None:
        known = ", ".join(map(_title, zones)) or "none"
        raise UnknownZone(f"there is no zone {name}{f' in view {view}' if view else ''} (known: {known})")
    return found, seen


def _title(zone: Zone) -> str:
    """As dns_words.Zone.title."""
    name = name_to_text(zone.origin)
    return f"{name} (view {zone.view})" if zone.view else name


def _as_finding(error: ZoneError) -> Finding:
    return Finding("error", error.place, error.problem, error.remedy)
