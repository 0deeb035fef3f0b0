"""Record sets and the numbers of the protocol.

Record data is kept in wire form without compression; names inside it are canonical (see `names`). `presentation` reads
and writes it as text; `message` compresses where RFC 3597 section 4 lets it.
"""

from dataclasses import dataclass

CLASS_IN = 1

A, NS, CNAME, SOA, PTR, MX, TXT, AAAA, SRV, OPT, DS = 1, 2, 5, 6, 12, 15, 16, 28, 33, 41, 43
RRSIG, NSEC, DNSKEY, TLSA, CDS, CDNSKEY, SVCB, HTTPS, CAA = 46, 47, 48, 52, 59, 60, 64, 65, 257
NXNAME = 128
"""Only ever in the list of types of an NSEC record: the name does not exist (RFC 9824 section 7.1)."""
TSIG, IXFR, AXFR, ANY = 250, 251, 252, 255
ALIAS = 65401
"""Addresses of another name, taken over when the zone is built. Of the private range: never on the wire."""

TYPES = {
    "A": A,
    "AAAA": AAAA,
    "ALIAS": ALIAS,
    "CAA": CAA,
    "CNAME": CNAME,
    "DS": DS,
    "HTTPS": HTTPS,
    "MX": MX,
    "NS": NS,
    "PTR": PTR,
    "SOA": SOA,
    "SRV": SRV,
    "SVCB": SVCB,
    "TLSA": TLSA,
    "TXT": TXT,
}
"""The types that an operator can put into a zone, by their names."""

SECURITY_TYPES = {"RRSIG": RRSIG, "NSEC": NSEC, "DNSKEY": DNSKEY, "CDS": CDS, "CDNSKEY": CDNSKEY, "NXNAME": NXNAME}
"""The types that the server makes itself, where a zone is signed."""

TYPE_NAMES = {number: name for name, number in (TYPES | SECURITY_TYPES).items()}

NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, NOTAUTH, BADVERS = 0, 1, 2, 3, 4, 5, 9, 16
BADSIG, BADKEY, BADTIME, BADTRUNC = 16, 17, 18, 22  # of a signature, never of a header (RFC 8945 section 3)

RCODE_NAMES = {
    NOERROR: "NOERROR",
    FORMERR: "FORMERR",
    SERVFAIL: "SERVFAIL",
    NXDOMAIN: "NXDOMAIN",
    NOTIMP: "NOTIMP",
    REFUSED: "REFUSED",
    NOTAUTH: "NOTAUTH",
    BADVERS: "BADVERS",
}

TTL_SECONDS_MAX = 2**31 - 1  # RFC 2181 section 8


@dataclass(frozen=True, slots=True)
class RRset:
    """The records of one owner and type: `rdatas` are wire bytes, in the order in which they are answered."""

    owner: bytes
    type: int
    ttl_seconds: int
    rdatas: tuple[bytes, ...]


def soa_rdata(primary: bytes, contact: bytes, serial: int, negative_ttl_seconds: int) -> bytes:
    """Start of authority, RFC 1035 section 3.3.13. Refresh, retry and expire are RFC 1912's usual ones.

    They matter only to secondaries: an hour between looks, ten minutes after a failure, a week without the primary.
    """
    numbers = (serial, 3600, 600, 604800, negative_ttl_seconds)
    return primary + contact + b"".join(number.to_bytes(4, "big") for number in numbers)


def soa_parts(rdata: bytes) -> tuple[bytes, bytes, bytes]:
    """Primary, contact, and the five numbers (serial, refresh, retry, expire, negative TTL), four bytes each."""
    at = 0
    while rdata[at]:
        at += rdata[at] + 1
    return rdata[: at + 1], rdata[at + 1 : -20], rdata[-20:]
