"""Signatures against dnspython's, in both directions, and each way in which one can be wrong."""

import base64
import time

import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import dns.tsig
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.dns.running import running
from tests.dns.world import make_view, make_zones

from meridian_dns.message import find_signature, parse
from meridian_dns.names import name_from_text
from meridian_dns.records import BADKEY, BADSIG, BADTIME, BADTRUNC, NOERROR
from meridian_dns.server import DnsServer
from meridian_dns.transfer import Transfers
from meridian_dns.tsig import ALGORITHMS, Key, MalformedSignature, Signer, check, read_signature
from meridian_dns.zone import ZoneSet
from meridian_dns.zone_building import RecordSpec, build_zone

NOW = 1_800_000_000
SECRET = bytes(range(32))
TEXT = base64.b64encode(SECRET)


def key(algorithm: str = "hmac-sha256", name: str = "meridian-ns2.example.net") -> Key:
    return Key.from_text(name, algorithm, TEXT)


def theirs(algorithm: str = "hmac-sha256", secret: bytes = SECRET) -> dns.tsig.Key:
    return dns.tsig.Key("meridian-ns2.example.net", secret, algorithm)


def signed_query(
    algorithm: str = "hmac-sha256", *, secret: bytes = SECRET, name: str = "fixed.gw.example.com"
) -> bytes:
    query = dns.message.make_query("fixed.gw.example.com", "A", id=77)
    query.use_tsig(theirs(algorithm, secret))
    return query.to_wire()


def test_a_key_is_read_from_base64_and_its_secret_is_shown_nowhere() -> None:
    read = Key.from_text("Key.Example.", "hmac-sha512", b"  " + TEXT[:20] + b"\n" + TEXT[20:] + b"\n")
    assert read.secret == SECRET and read.name == name_from_text("key.example")
    assert "secret" not in repr(read) and "\\x01" not in repr(read)


@pytest.mark.parametrize(
    ("algorithm", "secret", "message"),
    [
        ("hmac-md5", TEXT, "unknown algorithm"),
        ("hmac-sha256", b"topsecret!", "not base64"),
        ("hmac-sha256", base64.b64encode(b"topsecret"), "9 bytes"),
    ],
)
def test_a_bad_key_is_named_without_its_secret(algorithm: str, secret: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        Key.from_text("k", algorithm, secret)
    assert "topsecret" not in str(caught.value) and secret.decode() not in str(caught.value)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_dnspython_believes_an_answer_and_a_whole_conversation(algorithm: str) -> None:
    server = DnsServer(make_zones(), make_view(), None)
    mine = key(algorithm)
    server.swap(transfers=Transfers({}, {mine.name: mine}))
    with running(server) as here:
        for send in (dns.query.udp, dns.query.tcp):
            query = dns.message.make_query("fixed.gw.example.com", "A", use_edns=0)
            query.use_tsig(theirs(algorithm))
            answer = send(query, here.host, port=here.port, timeout=5)
            assert answer.had_tsig and answer.rcode() == dns.rcode.NOERROR and len(answer.answer[0]) == 2


def test_an_answer_that_would_fit_without_its_signature_is_truncated() -> None:
    zone = build_zone("example.com", ["ns.example.net"], [RecordSpec("long", "TXT", 60, "x" * 400, None)], serial=1)
    server = DnsServer(ZoneSet([zone]), make_view(), None)
    server.swap(transfers=Transfers({}, {key().name: key()}))
    for signed in (False, True):
        query = dns.message.make_query("long.example.com", "TXT", use_edns=0, payload=512)
        if signed:
            query.use_tsig(theirs())
        reply = server.respond(query.to_wire(), "192.0.2.1")
        assert reply is not None and len(reply) <= 512
        assert bool(reply[2] & 2) is signed and bool(find_signature(reply)) is signed


def checked_error(data: bytes, *, now: float | None = None) -> int:
    query = parse(data)
    assert query is not None and query.signed_at
    return check(data, query.signed_at, {key().name: key()}, time.time_ns() / 1e9 if now is None else now).error


def test_what_is_wrong_is_named() -> None:
    right = signed_query()
    assert checked_error(right) == NOERROR
    assert checked_error(signed_query(secret=b"x" * 32)) == BADSIG
    assert checked_error(signed_query("hmac-sha512")) == BADKEY
    assert checked_error(right, now=0) == BADTIME
    for at in (2, 15, len(right) - 8):  # flags, the name, the signature's last bytes
        spoiled = bytearray(right)
        spoiled[at] ^= 1
        assert checked_error(bytes(spoiled)) == BADSIG


def test_an_id_that_a_forwarder_changed_is_no_matter() -> None:
    assert checked_error(b"\x12\x34" + signed_query()[2:]) == NOERROR


def test_a_truncated_signature_is_told_so() -> None:
    data = Signer(key()).sign(dns.message.make_query("a.example", "A").to_wire(), NOW)
    at = find_signature(data)
    assert at is not None
    found = read_signature(data, at)
    cut = data.replace((32).to_bytes(2, "big") + found.mac, (16).to_bytes(2, "big") + found.mac[:16])
    head = at + len(key().name) + 8
    length = int.from_bytes(cut[head : head + 2], "big") - 16
    cut = cut[:head] + length.to_bytes(2, "big") + cut[head + 2 :]
    assert checked_error(cut, now=NOW) == BADTRUNC


@pytest.mark.parametrize(("secret", "shift", "error"), [(b"x" * 32, 0, BADSIG), (SECRET, 900, BADTIME)])
def test_clients_are_told_by_notauth(secret: bytes, shift: int, error: int) -> None:
    server = DnsServer(make_zones(), make_view(), None, wall_clock=lambda: time.time_ns() / 1e9 + shift)
    server.swap(transfers=Transfers({}, {key().name: key()}))
    reply = server.respond(signed_query(secret=secret), "192.0.2.1")
    assert reply is not None and reply[3] & 0xF == dns.rcode.NOTAUTH
    at = find_signature(reply)
    assert at is not None
    found = read_signature(reply, at)
    assert found.error == error
    # Only who has the key is told our time, under a signature (RFC 8945 sections 5.2.2 and 5.2.3).
    assert bool(found.mac) is bool(shift) and len(found.other) == (6 if shift else 0)
    assert server.counters.answers[1, dns.rcode.NOTAUTH] == 1


def test_a_signature_that_is_not_last_or_malformed_is_a_format_error() -> None:
    server = DnsServer(make_zones(), make_view(), None)
    query = signed_query()
    first = dns.message.make_query("fixed.gw.example.com", "A").to_wire()
    record = query[len(first) :]
    twice = query[:11] + b"\2" + query[12:] + record
    for data in (twice, query.replace(b"\x0bhmac-sha256", b"\xcbhmac-sha256")):
        reply = server.respond(data, "192.0.2.1")
        assert reply is not None and reply[3] & 0xF == dns.rcode.FORMERR


@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_malformed(rdata: bytes) -> None:
    record = b"\0\0\xfa\0\xff\0\0\0\0" + len(rdata).to_bytes(2, "big") + rdata
    data = b"\0\1\0\0\0\0\0\0\0\0\0\1" + record
    try:
        check(data, 12, {key().name: key()}, NOW)
    except MalformedSignature:
        pass


def test_a_compressed_key_name_is_followed_back_and_never_forward() -> None:
    question = b"\1a\0\0\1\0\1"
    head = b"\0\1\0\0\0\1\0\0\0\0\0\1"
    tail = b"\0\xfa\0\xff\0\0\0\0"
    rdata = name_from_text("hmac-sha256") + bytes(16)
    wire = head + question + b"\xc0\x0c" + tail + len(rdata).to_bytes(2, "big") + rdata
    assert read_signature(wire, 19).key_name == b"\1a\0"
    with pytest.raises(MalformedSignature):
        read_signature(wire.replace(b"\xc0\x0c", b"\xc0\x13"), 19)
