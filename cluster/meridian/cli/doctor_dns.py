"""Whether a zone is delegated to this cluster, as the rest of the world sees it: the parent's NS and glue, and whether
each name server that it names answers with authority for the zone."""

from collections.abc import Iterator
from ipaddress import ip_address

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.resolver

from meridian.cli.doctor import Finding
from meridian.cli.errors import Mistake

TIMEOUT_SECONDS = 3.0
SERVERS_MAX = 13  # what fits into one answer since ever; more is somebody's mistake


def delegation(zone: str, resolver: str) -> Iterator[Finding]:
    """Asks `resolver` (IP or IP:PORT; empty: this machine's) for the delegation, then every server that it names."""
    host, port = _resolver(resolver)
    about = f"delegation of {zone}"
    remedy = "let the parent zone have NS records for it, and glue: deploy/terraform/modules/aws/dns/README.md"
    try:
        told = _ask(host, port, zone, "NS")
    except (OSError, dns.exception.DNSException) as error:
        yield Finding("error", about, f"{host} does not answer: {error}", "name another with --resolver")
        return
    names = _names(told)
    if not names:
        yield Finding("error", about, f"{host} knows no name servers of it ({dns.rcode.to_text(told.rcode())})", remedy)
        return
    if len(names) < 2:
        yield Finding("warning", about, "there is one name server only", "name at least two, in different regions")
    own: dict[str, frozenset[str]] = {}
    for name in sorted(names)[:SERVERS_MAX]:
        addresses = _addresses(told, name) or _looked_up(host, port, name)
        if not addresses:
            yield Finding("error", f"name server {name}", "has no address", f"{remedy}: its A record is missing")
        for address in sorted(addresses):
            yield _asked(zone, name, address, port if resolver else 53, own)
    for theirs in own.values():
        if theirs != names:
            missing, more = sorted(theirs - names), sorted(names - theirs)
            difference = f"the zone itself says also {missing}" if missing else f"the zone itself does not say {more}"
            yield Finding("warning", about, difference, "let nameservers of the document and the parent's NS agree")
            return
    if own:
        yield Finding("ok", about, f"{', '.join(sorted(names))}; parent and zone agree")


def _asked(zone: str, name: str, address: str, port: int, own: dict[str, frozenset[str]]) -> Finding:
    about = f"name server {name} ({address})"
    try:
        answer = _ask(address, port, zone, "NS", recursive=False)
    except (OSError, dns.exception.DNSException) as error:
        return Finding("error", about, f"does not answer: {error}",
                       "let 53/udp and 53/tcp through to it, and see that a node stands there")  # fmt: skip
    if not answer.flags & dns.flags.AA or answer.rcode() != dns.rcode.NOERROR:
        return Finding("error", about, f"has no authority for it ({dns.rcode.to_text(answer.rcode())})",
                       "put the zone into the document, or correct the glue's address")  # fmt: skip
    own[name] = _names(answer)
    return Finding("ok", about, "answers with authority")


def _ask(host: str, port: int, name: str, kind: str, *, recursive: bool = True) -> dns.message.Message:
    """Raises OSError and DNSException. A truncated answer is asked for again over TCP."""
    query = dns.message.make_query(name, kind, use_edns=0, payload=1232)
    if not recursive:
        query.flags &= ~dns.flags.RD
    return dns.query.udp_with_fallback(query, host, port=port, timeout=TIMEOUT_SECONDS)[0]


def _names(message: dns.message.Message) -> frozenset[str]:
    """The NS records of an answer, or of a referral."""
    sets = [one for one in (*message.answer, *message.authority) if one.rdtype == dns.rdatatype.NS]
    return frozenset(str(record.target).lower().rstrip(".") for one in sets for record in one)


def _addresses(message: dns.message.Message, name: str) -> set[str]:
    """The glue of a name."""
    wanted, kinds = dns.name.from_text(name), (dns.rdatatype.A, dns.rdatatype.AAAA)
    sets = [one for one in message.additional if one.name == wanted and one.rdtype in kinds]
    return {record.to_text() for one in sets for record in one}


def _looked_up(host: str, port: int, name: str) -> set[str]:
    try:
        answer = _ask(host, port, name, "A").answer
    except (OSError, dns.exception.DNSException):
        return set()
    return {record.to_text() for one in answer if one.rdtype == dns.rdatatype.A for record in one}


def _resolver(text: str) -> tuple[str, int]:
    try:
        if not text:
            return str(dns.resolver.get_default_resolver().nameservers[0]), 53
        host, _, port = text.rpartition(":") if text.count(":") == 1 else (text, "", "53")
        return str(ip_address(host)), int(port)
    except (ValueError, IndexError, dns.exception.DNSException):
        raise Mistake(f"--resolver {text}: no address of a resolver", "write IP or IP:PORT") from None
