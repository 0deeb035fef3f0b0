"""The full path: any query to its response, with all rules in reading order.

Invariant: the response depends on the query, the holdings, the sender's address and the draw, and on nothing else (for
signatures, on the time that their signer reads). The fast path must give the same bytes for the questions that it takes
on.
"""

from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

from meridian_dns.geo import GeoData
from meridian_dns.message import Query
from meridian_dns.policy import INVALID_TYPE, NOT_AUTHORITATIVE, NOT_SUPPORTED, Answer, Client, answer
from meridian_dns.records import ANY, CDNSKEY, CDS, CLASS_IN, DNSKEY, FORMERR, NOERROR, NOTIMP, NXNAME, REFUSED, TYPES
from meridian_dns.securing import EXPLICIT_TYPES, secure, stripped
from meridian_dns.view import Network, RegionView
from meridian_dns.zone import ZoneSet

COUNTED_TYPES = frozenset((*TYPES.values(), DNSKEY, CDS, CDNSKEY, ANY))
"""Types that are counted by themselves; the 65,000 others share the number 0, so that no client can fill the table.

All types that a zone can hold are among them: the fast path takes the others for missing."""

META_TYPES = range(249, 255)  # TKEY, TSIG, IXFR, AXFR, MAILB, MAILA: requests for a service that we do not give


@dataclass(frozen=True, slots=True)
class Holdings:
    """All that a server answers from; replaced whole by one assignment."""

    zones: ZoneSet
    view: RegionView
    geo: GeoData | None


def decide(query: Query, holdings: Holdings, source: str, draw: int) -> Answer:
    """The answer to a parsed query from `source` (a textual address)."""
    if query.rcode != NOERROR or query.question is None:
        return Answer(query.rcode, extended_error=NOT_SUPPORTED if query.rcode == NOTIMP else None)
    question = query.question
    if question.class_ != CLASS_IN or question.type in META_TYPES:
        return Answer(REFUSED, extended_error=NOT_SUPPORTED)
    zone = holdings.zones.find_for(question.name, question.type)
    if zone is None:
        return Answer(REFUSED, extended_error=NOT_AUTHORITATIVE)
    if zone.signer is not None and question.type == NXNAME:
        return Answer(FORMERR, extended_error=INVALID_TYPE)  # RFC 9824 section 3.5
    subnet = query.edns.subnet.network if query.edns is not None and query.edns.subnet is not None else None
    plain = answer(zone, holdings.view, question, locate(holdings.geo, source, subnet), draw)
    if zone.signer is None:
        return plain
    if query.edns is not None and query.edns.dnssec_ok:
        return secure(zone, question, plain, compact_ok=query.edns.compact_ok)
    if question.type in EXPLICIT_TYPES and question.name in zone.names:
        return stripped(secure(zone, question, plain, compact_ok=False), question.type)
    return plain


def locate(geo: GeoData | None, source: str, subnet: Network | None) -> Client:
    """Who asks: the sender, or the subnet it passed on, and where the geo data puts the one that counts."""
    address = ip_address(source)
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped  # a dual-stack socket saw an IPv4 client
    shown = str(address).partition("%")[0]
    place = geo.find(shown if subnet is None else str(subnet[0])) if geo is not None else None
    if place is None:
        return Client(shown, subnet, None, None)
    return Client(shown, subnet, place.country, place.continent, place.prefix_length)


def counted_type(type_: int) -> int:
    """Under which type an answer is counted: its own, or 0."""
    return type_ if type_ in COUNTED_TYPES else 0
