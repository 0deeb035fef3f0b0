"""What a good registrar would say of a zone: it works, and yet. PURE: zones and view go in, findings come out.

A zone that could be built breaks no rule of its data; that is `zone`'s part, and an error there. Here is what harms
clients all the same: names that lead nowhere, servers that nobody can reach, times that make a change slow or a mistake
last. Levels: an *error* fails for clients now, a *warning* will one day, a *note* is worth a look.

Sources: RFC 1912 (common errors), RFC 2181 (names that must not be aliases), RFC 2182 (secondaries), RFC 2308 (negative
answers), RFC 7208 (SPF), RFC 8624 (DNSSEC algorithms), RFC 8659 (CAA).
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from meridian_dns.choosing import leaves
from meridian_dns.names import is_within, name_to_text, order_key
from meridian_dns.policy import CHAIN_LENGTH_MAX, Question, Visit, closest_encloser, make_plan
from meridian_dns.presentation import rdata_to_text
from meridian_dns.records import AAAA, CAA, CNAME, DS, HTTPS, MX, NS, SECURITY_TYPES, SOA, SRV, TXT, A, RRset, soa_parts
from meridian_dns.security_text import type_name
from meridian_dns.view import RegionView
from meridian_dns.zone import SteeredSet, Zone, ZoneSet
from meridian_dns.zone_building import GLUE_TTL_SECONDS

TTL_SECONDS_LOW = 30  # below it resolvers ask so often that many keep records for longer than they should
TTL_SECONDS_HIGH = 86_400  # a mistake lasts for a day already
STEERED_TTL_SECONDS_HIGH = 300  # so long clients go on to an address that has died
REFRESH_SECONDS = (1200, 43_200)  # RFC 1912 section 2.2
EXPIRE_SECONDS_LOW = 604_800  # a week: secondaries must outlive a long weekend
NEGATIVE_SECONDS_HIGH = 10_800  # RFC 2308 section 5: three hours
DATAGRAM_BYTES = 1232  # what fits into a datagram on any path; more makes clients ask again by TCP
OLD_ALGORITHMS = frozenset((1, 3, 5, 6, 7, 12))  # RFC 8624 section 3.1: must not or should not sign
OLD_DIGESTS = frozenset((1, 3))  # RFC 8624 section 3.3
FINDINGS_MAX = 200  # nobody reads more at once

Level = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to say of `name` (as text; a place in a file where there is one), and what to do about it."""

    level: Level
    name: str
    problem: str
    remedy: str


def lint(zone: Zone, zones: ZoneSet, view: RegionView | None = None) -> list[Finding]:
    """All findings about `zone`, the grave ones first. `zones` are all that these servers answer for, `zone` among
    them; `view`: who serves now, None where that is not known (a file).
    """
    found: list[Finding] = []
    for check in _CHECKS:
        found += check(zone, zones)
    if view is not None:
        found += _steering(zone, view)
    rank = {"error": 0, "warning": 1, "note": 2}
    return sorted(found, key=lambda finding: rank[finding.level])[:FINDINGS_MAX]


def _sets(zone: Zone) -> Iterator[RRset]:
    """The fixed record sets that we answer with authority, but for what the server makes itself."""
    for name, here in zone.names.items():
        if zone.cut_above(name) is None:
            for records in here.values():
                if isinstance(records, RRset) and records.type not in SECURITY_TYPES.values():
                    yield records


def _steered(zone: Zone) -> Iterator[SteeredSet]:
    return (records for here in zone.names.values() for records in here.values() if isinstance(records, SteeredSet))


def _end_of(zone: Zone, target: bytes, type_: int) -> str:
    """Where a name of this zone leads for one type: fine, alias, missing, loop, or away (elsewhere)."""
    if not is_within(target, zone.origin):
        return "away"
    walk: list[Visit] = []
    make_plan(zone, Question(target, type_), walk.append)
    last = walk[-1].found
    if last in ("cut", "leaves"):
        return "away"
    if last in ("nothing", "loop"):
        return "missing" if last == "nothing" else "loop"
    return "alias" if any(visit.found == "alias" for visit in walk) else "fine"


def _has_addresses(zone: Zone, name: bytes) -> bool:
    """Whether the zone says an address of this very name, glue included."""
    here = zone.names.get(name)
    if here is None and zone.cut_above(name) is None:
        here = zone.names.get(b"\1*" + closest_encloser(zone, name))
    return here is not None and bool(here.keys() & {A, AAAA})


def _nameservers(zone: Zone, zones: ZoneSet) -> Iterator[Finding]:
    """RFC 1912 section 2.8, RFC 2182: reachable, and more than one."""
    for owner in (zone.origin, *sorted(zone.cuts)):
        servers = zone.names[owner][NS]
        assert isinstance(servers, RRset)
        place = name_to_text(owner)
        if len(servers.rdatas) < 2:
            yield Finding("warning", place, "has only one nameserver", "name a second one, best in another region")
        for server in servers.rdatas:
            yield from _nameserver(zone, zones, owner, server)
        yield from _same_addresses(zone, servers)


def _nameserver(zone: Zone, zones: ZoneSet, owner: bytes, server: bytes) -> Iterator[Finding]:
    place, name = name_to_text(owner), name_to_text(server)
    if is_within(server, zone.origin):
        cut = zone.cut_above(server)
        if CNAME in zone.names.get(server, {}):
            yield Finding("error", place, f"its nameserver {name} is a CNAME (RFC 2181)", "give it addresses")
        elif _has_addresses(zone, server):
            return
        elif cut is not None and cut != owner:
            where = name_to_text(cut)
            yield Finding("note", place, f"the addresses of its nameserver {name} are known below {where} only", "")
        else:
            problem = f"its nameserver {name} has no address here, so that nobody can reach it (lame)"
            yield Finding("error", place, problem, "add its A or AAAA record as glue")
        return
    other = zones.find(server)
    if other is not None and other.cut_above(server) is None and not _has_addresses(other, server):
        problem = f"its nameserver {name} has no address in zone {name_to_text(other.origin)} (lame)"
        yield Finding("error", place, problem, "add its A or AAAA record there")


def _same_addresses(zone: Zone, servers: RRset) -> Iterator[Finding]:
    held: dict[bytes, bytes] = {}
    for server in servers.rdatas:
        for type_ in (A, AAAA):
            records = zone.names.get(server, {}).get(type_)
            for rdata in records.rdatas if isinstance(records, RRset) else ():
                if rdata in held:
                    both = f"{name_to_text(held[rdata])} and {name_to_text(server)}"
                    problem = f"its nameservers {both} have one address: they fail together (RFC 2182)"
                    yield Finding("warning", name_to_text(servers.owner), problem, "run them on different machines")
                held[rdata] = server


def _targets(zone: Zone, zones: ZoneSet) -> Iterator[Finding]:
    """Names that records point to, where they lie in this zone."""
    for records in _sets(zone):
        place, word = name_to_text(records.owner), type_name(records.type)
        for rdata in records.rdatas:
            target = _target(records.type, rdata)
            if target is None or target == b"\0":
                continue
            end = _end_of(zone, target, A)
            name = name_to_text(target)
            if end == "missing":
                remedy = f"add {name}, or correct the {word}"
                yield Finding("error", place, f"its {word} points to {name}, which does not exist (dangling)", remedy)
            elif end == "loop":
                yield Finding("error", place, f"its {word} leads in a circle", "let it end at a name with records")
            elif end == "alias" and records.type != CNAME:
                yield Finding("error", place, f"its {word} points to {name}, a CNAME (RFC 2181)", "name its target")
            elif end == "fine" and records.type in (MX, SRV) and not _has_addresses(zone, target):
                problem = f"its {word} points to {name}, which has no address"
                yield Finding("error", place, problem, f"give {name} an A or AAAA record")
        if records.type == CNAME:
            yield from _long_chain(zone, records)


def _target(type_: int, rdata: bytes) -> bytes | None:
    skipped = {CNAME: 0, MX: 2, SRV: 6}
    return rdata[skipped[type_] :] if type_ in skipped else None


def _long_chain(zone: Zone, records: RRset) -> Iterator[Finding]:
    walk: list[Visit] = []
    make_plan(zone, Question(records.owner, A), walk.append)
    if walk[-1].found == "long":
        problem = f"a chain of more than {CHAIN_LENGTH_MAX} CNAMEs begins here"
        yield Finding("warning", name_to_text(records.owner), problem, "point it at the last name")


def _times(zone: Zone, zones: ZoneSet) -> Iterator[Finding]:
    for records in _sets(zone):
        place, ttl = f"{name_to_text(records.owner)} {type_name(records.type)}", records.ttl_seconds
        if ttl > TTL_SECONDS_HIGH:
            yield Finding(
                "warning", place, f"is kept for {ttl} s: a mistake lasts as long", "lower it to a day or less"
            )
        elif ttl < TTL_SECONDS_LOW and records.type != SOA:
            problem = f"is kept for {ttl} s: resolvers ask all the time, and some keep it longer"
            yield Finding("note", place, problem, "raise it, unless it is about to change")
    for steered in _steered(zone):
        if steered.ttl_seconds > STEERED_TTL_SECONDS_HIGH:
            place = f"{name_to_text(steered.owner)} {type_name(steered.type)}"
            problem = f"is steered, but kept for {steered.ttl_seconds} s: so long clients go on to a dead address"
            yield Finding("warning", place, problem, f"lower it to {GLUE_TTL_SECONDS} s or less")


def _soa(zone: Zone, zones: ZoneSet) -> Iterator[Finding]:
    """RFC 1912 section 2.2, RFC 2308 section 5."""
    records = zone.names[zone.origin][SOA]
    servers = zone.names[zone.origin][NS]
    assert isinstance(records, RRset) and isinstance(servers, RRset)
    primary, contact, numbers = soa_parts(records.rdatas[0])
    serial, refresh, retry, expire, negative = (int.from_bytes(numbers[at : at + 4], "big") for at in range(0, 20, 4))
    place = f"{name_to_text(zone.origin)} SOA"
    if serial == 0:
        yield Finding("warning", place, "its serial is 0, which some secondaries take for none", "begin with 1")
    if not REFRESH_SECONDS[0] <= refresh <= REFRESH_SECONDS[1]:
        yield Finding("warning", place, f"secondaries look every {refresh} s", "use 1200 to 43200 (RFC 1912)")
    if retry >= refresh:
        problem = f"retry ({retry} s) is not below refresh ({refresh} s)"
        yield Finding("warning", place, problem, "lower retry: it is for a primary that did not answer")
    if expire < EXPIRE_SECONDS_LOW or expire <= refresh + retry:
        problem = f"secondaries stop answering {expire} s after the primary did"
        yield Finding("warning", place, problem, f"use {EXPIRE_SECONDS_LOW} (a week) or more")
    if negative > NEGATIVE_SECONDS_HIGH:
        problem = f"that a name does not exist is remembered for {negative} s: a new name is missing as long"
        yield Finding("warning", place, problem, "use an hour or less (RFC 2308)")
    if b"@" in contact[: contact[0] + 1]:
        yield Finding(
            "error", place, "its contact has an @", "write hostmaster.example.com. for hostmaster@example.com"
        )
    if primary not in servers.rdatas:
        problem = f"its primary {name_to_text(primary)} is none of the nameservers"
        yield Finding("note", place, problem, "right for a hidden primary, else name one of them")


def _families(zone: Zone, zones: ZoneSet) -> Iterator[Finding]:
    """Names with addresses of one family, in a zone that has both."""
    families = {A: set[bytes](), AAAA: set[bytes]()}
    servers = zone.names[zone.origin][NS]
    for name, here in zone.names.items():
        is_made = isinstance(servers, RRset) and name in servers.rdatas and isinstance(here.get(A), SteeredSet)
        if zone.cut_above(name) is None and not is_made:
            for type_ in here.keys() & families.keys():
                families[type_].add(name)
    only_ipv6 = families[AAAA] - families[A]
    only_ipv4 = families[A] - families[AAAA] if families[AAAA] else set[bytes]()
    if only_ipv6:
        problem = "has AAAA but no A: clients of IPv4 alone do not reach it"
        yield Finding("warning", _joined(map(name_to_text, sorted(only_ipv6, key=order_key))), problem, "add A")
    if only_ipv4:
        problem = "has A but no AAAA, unlike other names of this zone"
        yield Finding("note", _joined(map(name_to_text, sorted(only_ipv4, key=order_key))), problem, "add AAAA")


def _joined(names: Iterable[str]) -> str:
    """The first of many names, so that one habit is one finding."""
    first, *more = names
    return ", ".join([first, *more[:2]]) + (f" and {len(more) - 2} more" if len(more) > 2 else "")


def _texts(zone: Zone, zones: ZoneSet) -> Iterator[Finding]:
    """SPF given twice is no SPF (RFC 7208 section 3.2); and what makes every client come by TCP."""
    for records in _sets(zone):
        place = f"{name_to_text(records.owner)} {type_name(records.type)}"
        if records.type == TXT:
            spf = [rdata for rdata in records.rdatas if rdata[1:].lower().startswith(b"v=spf1")]
            if len(spf) > 1:
                yield Finding("error", place, "has two SPF policies, so that none holds (RFC 7208)", "join the two")
        size = sum(12 + len(rdata) for rdata in records.rdatas)
        if size > DATAGRAM_BYTES:
            yield Finding("note", place, f"has {size} bytes: clients ask again by TCP", "make it shorter")


def _hosts(zone: Zone, zones: ZoneSet) -> Iterator[Finding]:
    """RFC 1123 section 2.1: what a name with an address is made of."""
    for name, here in zone.names.items():
        label = name[1 : name[0] + 1] if name[0] else b""
        if here.keys() & {A, AAAA, HTTPS, MX} and label != b"*" and not label.replace(b"-", b"").isalnum() and label:
            problem = "is no host name (letters, digits and hyphens): browsers and certificates refuse it"
            yield Finding("warning", name_to_text(name), problem, "choose another name")


def _security(zone: Zone, zones: ZoneSet) -> Iterator[Finding]:
    if CAA not in zone.names[zone.origin]:
        remedy = 'add a CAA record, such as 0 issue "ca.example.net"'
        yield Finding("note", name_to_text(zone.origin), "any authority may issue certificates for it", remedy)
    for cut in sorted(zone.cuts):
        records = zone.names[cut].get(DS)
        for rdata in records.rdatas if isinstance(records, RRset) else ():
            if rdata[2] in OLD_ALGORITHMS or rdata[3] in OLD_DIGESTS:
                problem = f"its DS {rdata_to_text(DS, rdata)[:24]}... uses what validators no longer trust (RFC 8624)"
                yield Finding("warning", name_to_text(cut), problem, "use algorithm 13 or 15 and digest 2")


def _steering(zone: Zone, view: RegionView) -> Iterator[Finding]:
    """Sets that are about to answer nobody who serves."""
    by_steer = defaultdict(list)
    for records in _steered(zone):
        by_steer[records.steer].append(f"{name_to_text(records.owner)} {type_name(records.type)}")
    for steer, places in by_steer.items():
        place = _joined(places)
        names = leaves(steer, view.regions)
        unknown = [name for name in names if name not in view.regions or not view.regions[name].members]
        serving = [
            name
            for name in names
            if name not in unknown
            and view.regions[name].serving
            and any(member.serving for member in view.regions[name].members)
        ]
        if unknown:
            problem = f"is steered over {', '.join(unknown)}, where no node stands and no address is given"
            yield Finding("warning", place, problem, "start a node there, or leave the region out")
        if not serving:
            yield Finding(
                "error", place, "has no region that serves: all are answered (fail open)", "see meridian status"
            )
        elif len(serving) == 1 and len(names) > 1:
            problem = f"has only {serving[0]} left that serves"
            yield Finding("warning", place, problem, "see meridian status; the next failure takes it away")
        elif len(names) == 1:
            yield Finding("note", place, f"is steered over {names[0]} alone: nobody takes over", "add another region")


Check = Callable[[Zone, ZoneSet], Iterator[Finding]]

_CHECKS: tuple[Check, ...] = (_nameservers, _targets, _soa, _times, _families, _texts, _hosts, _security)
"""In the order in which findings of one level are shown."""
