"""EDNS and header compliance, as ISC's tests of servers ask for it (ednscomp, DNS-Compliance-Testing): one row a test.

Each row is a query and what must be true of its answer. The queries go to the server's own `respond`, by both
transports; dnspython reads the answers.
"""

from dataclasses import dataclass

import dns.edns
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdatatype
import pytest
from tests.dns.world import ORIGIN, make_view, make_zones

from meridian_dns.edns import CookieJar
from meridian_dns.observing import TCP, UDP, Transport
from meridian_dns.server import DnsServer

ECHOED = dns.flags.RD | dns.flags.CD  # of a query's flags; RFC 1035 section 4.1.1, RFC 4035 section 3.1.6
Z = 0x0040  # reserved in the header
NSID, SUBNET, EXPIRE, COOKIE, UNKNOWN = 3, 8, 9, 10, 100


@dataclass(frozen=True)
class Row:
    """One test by ISC's name: what is sent, and what must come back.

    `version` None: no OPT, in the query and in the answer. `answered`: the SOA is in the answer section. `options`: the
    codes of the answer's options, in any order.
    """

    name: str
    version: int | None = 0
    type: str = "SOA"
    flags: int = 0
    edns_flags: int = 0
    sent: tuple[tuple[int, bytes], ...] = ()
    payload_bytes: int = 4096
    opcode: int = 0
    rcode: str = "NOERROR"
    answered: bool = True
    edns_flags_back: int = 0
    options: frozenset[int] = frozenset()


LIST = ((NSID, b""), (SUBNET, b"\0\1\0\0"), (EXPIRE, b""), (COOKIE, b"\1\2\3\4\5\6\7\x08"))
ROWS = (
    Row("dns", None),
    Row("aaflag", None, flags=dns.flags.AA),
    Row("adflag", None, flags=dns.flags.AD),
    Row("cdflag", None, flags=dns.flags.CD),
    Row("raflag", None, flags=dns.flags.RA),
    Row("rdflag", None, flags=dns.flags.RD),
    Row("tcflag", None, flags=dns.flags.TC),
    Row("zflag", None, flags=Z),
    Row("type666", None, type="TYPE666", answered=False),
    Row("opcode", None, opcode=15, rcode="NOTIMP", answered=False),
    Row("opcodeflg", None, opcode=15, flags=0x07F0, rcode="NOTIMP", answered=False),
    Row("edns"),
    Row("edns@512", payload_bytes=512),
    Row("edns@0", payload_bytes=0),
    Row("ednsopt", sent=((UNKNOWN, b""),)),
    Row("ednsopt with data", sent=((UNKNOWN, b"\0" * 64),)),
    Row("edns1", 1, rcode="BADVERS", answered=False),
    Row("edns1opt", 1, sent=((UNKNOWN, b""),), rcode="BADVERS", answered=False),
    Row("edns1flags", 1, edns_flags=0x0080, rcode="BADVERS", answered=False),
    Row("edns1do", 1, edns_flags=dns.flags.DO, rcode="BADVERS", answered=False, edns_flags_back=dns.flags.DO),
    Row("do", edns_flags=dns.flags.DO, edns_flags_back=dns.flags.DO),
    Row("ednsflags", edns_flags=0x0080),
    Row("all flags", edns_flags=0xFFFF, edns_flags_back=dns.flags.DO),
    Row("docookie", edns_flags=dns.flags.DO, edns_flags_back=dns.flags.DO, sent=LIST[3:], options=frozenset({COOKIE})),
    Row("nsid", sent=((NSID, b""),), options=frozenset({NSID})),
    Row("ednsexp", sent=((EXPIRE, b""),)),
    Row("subnet", sent=((SUBNET, b"\0\1\0\0"),), options=frozenset({SUBNET})),
    Row("optlist", sent=LIST, options=frozenset({NSID, SUBNET, COOKIE})),
)


@pytest.fixture(scope="module")
def server() -> DnsServer:
    jar = CookieJar([b"0123456789abcdef"], lambda: 1_700_000_000)
    return DnsServer(make_zones(), make_view(), None, server_id=b"node-1", cookies=jar)


def wire_of(row: Row) -> bytes:
    query = dns.message.make_query(ORIGIN, row.type, flags=row.flags)
    query.set_opcode(dns.opcode.Opcode(row.opcode))
    if row.version is not None:
        options: list[dns.edns.Option] = [
            dns.edns.GenericOption(dns.edns.OptionType.make(code), data) for code, data in row.sent
        ]
        query.use_edns(row.version, row.edns_flags, row.payload_bytes, options=options)
    return query.to_wire()


@pytest.mark.parametrize("transport", [UDP, TCP], ids=lambda transport: transport.name)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_complies(row: Row, transport: Transport, server: DnsServer) -> None:
    data = wire_of(row)
    wire = server.respond(data, "192.0.2.1", transport)
    assert wire is not None
    assert len(wire) <= max(512, row.payload_bytes)
    reply = dns.message.from_wire(wire)
    assert reply.id == int.from_bytes(data[:2], "big")
    assert reply.opcode() == row.opcode
    assert dns.rcode.to_text(reply.rcode()) == row.rcode
    aa = dns.flags.AA if row.rcode == "NOERROR" else 0
    assert reply.flags & ~0x780F == dns.flags.QR | aa | row.flags & ECHOED, "no other flag is set or given back"
    found = [rrset.rdtype for rrset in reply.answer]
    assert found == ([dns.rdatatype.SOA] if row.answered else [])
    assert reply.edns == (-1 if row.version is None else 0), "OPT if and only if it was sent; our version is 0"
    if row.version is not None:
        assert reply.payload == 1232
        assert reply.ednsflags & 0xFFFF == row.edns_flags_back
    codes = [int(option.otype) for option in reply.options]
    assert sorted(codes) == sorted(row.options), "nothing is given back that is not known, and nothing twice"
    if row.rcode == "NOTIMP":
        assert not reply.question


@pytest.mark.parametrize("payload_bytes", [512, 4096])
def test_edns512tcp(payload_bytes: int, server: DnsServer) -> None:
    """What does not fit 512 bytes is truncated over UDP, with OPT, and whole over TCP."""
    query = dns.message.make_query(f"big.{ORIGIN}", "TXT", payload=payload_bytes)
    by_udp = server.respond(query.to_wire(), "192.0.2.1")
    by_tcp = server.respond(query.to_wire(), "192.0.2.1", TCP)
    assert by_udp is not None and by_tcp is not None
    assert len(by_udp) <= 512
    short, whole = dns.message.from_wire(by_udp), dns.message.from_wire(by_tcp)
    assert short.flags & dns.flags.TC and short.edns == 0
    assert not whole.flags & dns.flags.TC and whole.edns == 0
    assert b"".join(whole.answer[0][0].strings) == b"x" * 2000
