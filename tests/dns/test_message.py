"""Messages against dnspython, and the ways in which a query can be wrong."""

import struct

import dns.edns
import dns.flags
import dns.message
import dns.name
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meridian_dns.message import datagram_bytes_max, encode, parse, subnet_is_valid
from meridian_dns.names import name_from_text
from meridian_dns.policy import Answer
from meridian_dns.records import BADVERS, CNAME, FORMERR, NOERROR, NOTIMP, NS, TXT, A, RRset

NAME = name_from_text("shop.gw.example.com")
OPT = b"\0\0\x29\x04\xd0\0\0\0\0\0\0"


def query(body: bytes = b"", *, flags: int = 0x0100, counts: tuple[int, int, int, int] = (1, 0, 0, 0)) -> bytes:
    return struct.pack("!6H", 77, flags, *counts) + (NAME + b"\0\1\0\1") + body


def with_options(options: bytes, *, version: int = 0) -> bytes:
    opt = struct.pack("!BHHBBHH", 0, 41, 1232, 0, version, 0, len(options)) + options
    return query(opt, counts=(1, 0, 0, 1))


def test_reads_what_dnspython_writes() -> None:
    subnet = dns.edns.ECSOption("203.0.113.0", 24)
    made = dns.message.make_query("Shop.GW.example.com", "AAAA", payload=4096, want_dnssec=True, options=[subnet])
    parsed = parse(made.to_wire())
    assert parsed is not None
    assert parsed.rcode == NOERROR
    assert parsed.question is not None
    assert (parsed.question.name, parsed.question.type, parsed.question.class_) == (NAME, 28, 1)
    assert parsed.asked[: len(NAME)] == b"\4Shop\2GW\7example\3com\0"
    assert parsed.edns is not None
    assert parsed.edns.subnet is not None
    assert (parsed.edns.payload_bytes, parsed.edns.dnssec_ok) == (4096, True)
    assert str(parsed.edns.subnet.network) == "203.0.113.0/24"


@pytest.mark.parametrize("data", [b"", b"\0" * 11, query(flags=0x8100)])
def test_stays_silent(data: bytes) -> None:
    assert parse(data) is None


WRONG = {
    "no question": (query(counts=(0, 0, 0, 0)), FORMERR),
    "two questions": (query(NAME + b"\0\1\0\1", counts=(2, 0, 0, 0)), FORMERR),
    "cut": (query()[:-1], FORMERR),
    "bytes behind": (query(b"\0"), FORMERR),
    "pointer in the question": (struct.pack("!6H", 7, 0, 1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1", FORMERR),
    "long label": (struct.pack("!6H", 7, 0, 1, 0, 0, 0) + b"\x64" + b"a" * 100 + b"\0\0\1\0\1", FORMERR),
    "long name": (struct.pack("!6H", 7, 0, 1, 0, 0, 0) + b"\1a" * 127 + b"\1a\0\0\1\0\1", FORMERR),
    "two OPT": (query(OPT + OPT, counts=(1, 0, 0, 2)), FORMERR),
    "OPT below the root": (query(b"\1a" + OPT, counts=(1, 0, 0, 1)), FORMERR),
    "many records": (query(b"\0\0\1\0\1\0\0\0\0\0\0" * 9, counts=(1, 0, 9, 0)), FORMERR),
    "a cut record": (query(b"\0\0\1\0\1\0\0\0\0\0\x04abc", counts=(1, 0, 0, 1)), FORMERR),
    "a cut option": (with_options(b"\0\x0a\0\x08abc"), FORMERR),
    "an empty subnet, last": (with_options(b"\0\x08\0\0"), FORMERR),
    "two subnets": (with_options(b"\0\x08\0\x04\0\1\0\0" * 2), FORMERR),
    "asks for OPT": (struct.pack("!6H", 7, 0, 1, 0, 0, 0) + NAME + b"\0\x29\0\1", FORMERR),
    "EDNS version 1": (with_options(b"whatever it means then", version=1), BADVERS),
    "notify": (query(flags=0x2000), NOTIMP),
    "update": (query(flags=0x2800), NOTIMP),
}


@pytest.mark.parametrize("what", WRONG)
def test_names_what_is_wrong(what: str) -> None:
    data, rcode = WRONG[what]
    parsed = parse(data)
    assert parsed is not None
    assert parsed.rcode == rcode
    reply = dns.message.from_wire(encode(parsed, Answer(rcode), bytes_max=512, payload_bytes=1232))
    assert reply.rcode() == rcode
    assert reply.id == struct.unpack_from("!H", data)[0]


def test_records_that_are_none_of_ours_are_passed_over() -> None:
    for body, counts in (
        (b"\xc0\x0c\0\6\0\1\0\0\0\0\0\x04serl", (1, 0, 1, 0)),  # IXFR's SOA
        (OPT + b"\0\0\xfa\0\xff\0\0\0\0\0\2xx", (1, 0, 0, 2)),  # TSIG behind OPT
        (b"\0\0\1\0\1\0\0\0\0\0\0" + OPT, (1, 0, 0, 2)),  # an empty record before OPT
    ):
        parsed = parse(query(body, counts=counts))
        assert parsed is not None
        assert parsed.rcode == NOERROR


@given(st.binary(max_size=80))
def test_no_bytes_make_parse_raise(tail: bytes) -> None:
    for data in (tail, query()[:12] + tail, query(tail, counts=(1, 0, 0, 1)), with_options(tail)):
        parse(data)


@pytest.mark.parametrize(
    ("payload", "valid"),
    [
        (b"\0\1\x18\0\xcb\0\x71", True),
        (b"\0\1\x19\0\xcb\0\x71\x80", True),
        (b"\0\1\0\0", True),
        (b"\0\0\0\0", True),
        (b"\0\2\x38\0" + b"\x20" * 7, True),
        (b"\0\1\x18\x18\xcb\0\x71", False),  # a scope in a query
        (b"\0\1\x19\0\xcb\0\x71\x81", False),  # a bit behind the prefix
        (b"\0\1\x18\0\xcb\0", False),
        (b"\0\1\x18\0\xcb\0\x71\0", False),
        (b"\0\1\x21\0\xcb\0\x71\0\0", False),
        (b"\0\3\0\0", False),
        (b"\0\1", False),
    ],
)
def test_client_subnets_of_rfc_7871(payload: bytes, valid: bool) -> None:
    assert subnet_is_valid(payload) is valid


def test_large_messages_read_back_whole() -> None:
    """Beyond offset 16383 no compression pointer can point: names there are written out."""
    targets = [name_from_text(f"n{i}.{'x' * 40}{i}.example.org") for i in range(400)]
    records = tuple(RRset(target, CNAME, 60, (target,)) for target in targets)
    parsed = parse(query())
    assert parsed is not None
    wire = encode(parsed, Answer(0, True, answer=records), bytes_max=65535, payload_bytes=1232)
    assert len(wire) > 20000
    read = dns.message.from_wire(wire)
    assert [name_from_text(rrset.name.to_text()) for rrset in read.answer] == targets
    assert all(rrset.name == rrset[0].target for rrset in read.answer)


def test_what_does_not_fit_goes_in_order() -> None:
    answers = (RRset(NAME, NS, 60, (b"\2ns" + NAME,)),)
    glue = (RRset(b"\2ns" + NAME, A, 60, tuple(bytes((192, 0, 2, i)) for i in range(50))),)
    text = (RRset(NAME, TXT, 60, (b"\xff" + b"x" * 255,) * 3),)
    parsed = parse(query())
    assert parsed is not None

    def sent(answer: Answer) -> dns.message.Message:
        wire = encode(parsed, answer, bytes_max=512, payload_bytes=1232)
        assert len(wire) <= 512
        return dns.message.from_wire(wire)

    optional = sent(Answer(0, True, answer=answers, additional=glue))
    assert not optional.flags & dns.flags.TC
    assert (len(optional.answer), len(optional.additional)) == (1, 0)
    referral = sent(Answer(0, False, authority=answers, additional=glue))
    assert referral.flags & dns.flags.TC, "a delegation's glue is not optional (RFC 9471)"
    too_long = sent(Answer(0, True, answer=text))
    assert too_long.flags & dns.flags.TC
    assert not too_long.answer
    assert too_long.question


@pytest.mark.parametrize(("asked", "allowed"), [(0, 512), (100, 512), (600, 600), (1232, 1232), (65535, 1232)])
def test_datagram_size(asked: int, allowed: int) -> None:
    parsed = parse(with_options(b"").replace(b"\x29\x04\xd0", b"\x29" + struct.pack("!H", asked)))
    assert parsed is not None
    assert datagram_bytes_max(parsed.edns, 1232) == allowed
    assert datagram_bytes_max(None, 1232) == 512
