"""Record sets, the numbers of the protocol, and record data from text.

Record data is kept in wire form without compression; names inside it are canonical (see `names`). `message` compresses
where RFC 3597 section 4 lets it.
"""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from meridian_dns.names import name_from_text

CLASS_IN = 1

A, NS, CNAME, SOA, TXT, AAAA, OPT, DS = 1, 2, 5, 6, 16, 28, 41, 43
IXFR, AXFR, ANY = 251, 252, 255
TYPES = {"A": A, "NS": NS, "CNAME": CNAME, "SOA": SOA, "TXT": TXT, "AAAA": AAAA}
"""The types a zone can hold, by their names."""

NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, BADVERS = 0, 1, 2, 3, 4, 5, 16

TTL_SECONDS_MAX = 2**31 - 1  # RFC 2181 section 8
TXT_BYTES_MAX = 4096  # far above any use; a larger record would need several TCP segments for one answer

_QUOTED = re.compile(r'\s*"((?:[^"\\]|\\.)*)"\s*')


@dataclass(frozen=True, slots=True)
class RRset:
    """The records of one owner and type: `rdatas` are wire bytes, in the order in which they are answered."""

    owner: bytes
    type: int
    ttl_seconds: int
    rdatas: tuple[bytes, ...]


def rdata_from_text(type_: int, text: str) -> bytes:
    """Reads the value of an A, AAAA, NS, CNAME (absolute name) or TXT record. Raises ValueError that says why not."""
    if type_ == A:
        return IPv4Address(text).packed
    if type_ == AAAA:
        return IPv6Address(text).packed
    if type_ in (NS, CNAME):
        return name_from_text(text)
    assert type_ == TXT
    return _txt_from_text(text)


def soa_rdata(primary: bytes, contact: bytes, serial: int, negative_ttl_seconds: int) -> bytes:
    """Start of authority, RFC 1035 section 3.3.13. Refresh, retry and expire are RFC 1912's usual ones.

    They matter only to secondaries: an hour between looks, ten minutes after a failure, a week without the primary.
    """
    numbers = (serial, 3600, 600, 604800, negative_ttl_seconds)
    return primary + contact + b"".join(number.to_bytes(4, "big") for number in numbers)


def _txt_from_text(text: str) -> bytes:
    """One string, cut every 255 bytes; or, if it starts with a quote, the quoted strings of a zone file's line."""
    if text.startswith('"'):
        quoted = [re.sub(r"\\(.)", r"\1", match.group(1)) for match in _QUOTED.finditer(text)]
        if _QUOTED.sub("", text):
            raise ValueError("a quote is not closed, or text stands outside the quotes")
        strings = [string.encode() for string in quoted]
        if any(len(string) > 255 for string in strings):
            raise ValueError("a quoted string is longer than 255 bytes: split it, or leave the quotes away")
    else:
        whole = text.encode()
        strings = [whole[at : at + 255] for at in range(0, len(whole), 255)] or [b""]
    rdata = b"".join(bytes((len(string),)) + string for string in strings)
    if len(rdata) > TXT_BYTES_MAX:
        raise ValueError(f"more than {TXT_BYTES_MAX} bytes of text")
    return rdata
