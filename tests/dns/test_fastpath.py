"""The fast path gives the bytes of the full path, or leaves the question to it."""

import random
import struct
from dataclasses import dataclass, replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.dns.mmdb import write_mmdb
from tests.dns.signed_world import Clock, make_signer
from tests.dns.world import make_view, make_zones

from meridian_dns.edns import CookieJar, ServerOptions
from meridian_dns.fastpath import FastPath
from meridian_dns.geo import GeoData
from meridian_dns.message import datagram_bytes_max, encode, parse, subnet_is_valid
from meridian_dns.names import name_from_text
from meridian_dns.records import FORMERR, TXT
from meridian_dns.responder import Holdings, decide
from meridian_dns.signing import REFRESH_SECONDS, Denial, Signer
from meridian_dns.tally import Tallies
from meridian_dns.view import RegionView
from meridian_dns.zone import ZoneSet
from meridian_dns.zone_building import RecordSpec, build_zone

NAMES = [
    *("shop", "one", "pair", "east", "mars", "www", "www2", "round", "out", "dangling", "into", "any.wild", "wild"),
    *("empty", "deep.empty", "note", "big", "fixed", "sub", "host.sub", "ns.sub", "ns1", "ns2", "missing", "x.inner"),
    *("svc", "eastsvc", "marssvc", "flat", "weighted", "failover", "multi", "sticky", "latency", "stickywww", "mail"),
    *("nested", "two", "quick"),
    *("x.wildgeo", "longer.x.wildgeo", "a.wildloop", "x.a.wildloop", "b.wildloop", "mx.wildmail", "x.mx.wildmail"),
    *("y.wildmail", "hostmaster", "x.hostmaster", "x.ns1", "x.y.missing", "x.wildcname", "www.wildcname"),
]
SOURCES = ["192.0.2.250", "203.0.113.200", "198.51.100.1", "81.1.2.3", "2001:db8:e::1", "::ffff:81.1.2.3", "fe80::1%lo"]
SUBNETS = [
    b"\0\1\x18\0\xcb\0\x71",
    b"\0\1\x19\0\xcb\0\x71\x80",
    b"\0\1\x18\0\x51\x01\x02",
    b"\0\1\x08\0\x0a",
    b"\0\2\x30\0\x20\x01\x0d\xb8\0\x0e",
    b"\0\1\0\0",
    b"\0\0\0\0",
    b"\0\2\0\0",
    b"\0\3\0\0",
    b"\0\1\x18\x18\xcb\0\x71",
    b"\0\1\x18\0\xcb\0",
    b"\0\1",
    b"",
]
OPTIONS = st.one_of(
    st.sampled_from(SUBNETS).map(lambda payload: (8, payload)),
    st.sampled_from([b"c" * 8, b"c" * 24, b"c" * 41]).map(lambda payload: (10, payload)),
    st.tuples(st.sampled_from([3, 10, 11, 12, 65001]), st.binary(max_size=10)),
)
OPTIONS_GIVEN = ServerOptions(b"node-1", CookieJar([b"s" * 16], lambda: 1_700_000_000), 10)
PAYLOADS = st.sampled_from([0, 300, 512, 700, 1232, 4096, 65535])


@st.composite
def opts(draw: st.DrawFn) -> bytes:
    options = b"".join(
        struct.pack("!HH", code, len(payload)) + payload for code, payload in draw(st.lists(OPTIONS, max_size=2))
    )
    options += draw(st.sampled_from([b""] * 8 + [b"\0", b"\0\x08\0\x09"]))
    version = draw(st.sampled_from([0] * 8 + [1]))
    root = draw(st.sampled_from([b"\0"] * 8 + [b"\1a\0"]))
    flags = draw(st.sampled_from([0, 0x8000, 0xC000, 0x1234]))
    return root + struct.pack("!HHBBHH", 41, draw(PAYLOADS), 0, version, flags, len(options)) + options


@st.composite
def queries(draw: st.DrawFn) -> bytes:
    """Mostly good queries, some odd ones: any flags, any case, any options, sometimes one byte changed."""
    name = draw(
        st.sampled_from([f"{name}.gw.example.com" for name in NAMES] + ["gw.example.com", "example.org", "com"])
    )
    chance = random.Random(draw(st.integers(0, 100)))
    wire = bytes(byte ^ 0x20 if 97 <= byte <= 122 and chance.random() < 0.5 else byte for byte in name_from_text(name))
    type_ = draw(st.sampled_from([1, 1, 28, 2, 5, 6, 15, 16, 255, 65, 97, 41, 43, 252, 46, 47, 48, 59, 128]))
    class_ = draw(st.sampled_from([1] * 8 + [3]))
    flags = draw(st.sampled_from([0, 0x0100, 0x0110, 0x0120, 0x0010, 0x0040, 0x0400, 0x0200, 0x2000, 0x8000]))
    additional = draw(st.lists(opts(), max_size=2))
    counts = (1, draw(st.sampled_from([0] * 8 + [1])), 0, len(additional))
    data = struct.pack("!6H", draw(st.integers(0, 65535)), flags, *counts)
    data += wire + struct.pack("!HH", type_, class_) + b"".join(additional)
    data += draw(st.sampled_from([b""] * 8 + [b"\0", b"tail"]))
    if draw(st.integers(0, 3)) == 0:
        at = draw(st.integers(0, len(data) - 1))
        data = data[:at] + bytes((draw(st.integers(0, 255)),)) + data[at + 1 :]
    return data


@dataclass(frozen=True)
class World:
    """Holdings, a fast path with room, and one whose tables are so small that each answer is forgotten at once."""

    holdings: Holdings
    roomy: FastPath
    cramped: FastPath

    @classmethod
    def of(cls, view: RegionView, geo: GeoData, signer: Signer | None = None) -> "World":
        holdings = Holdings(make_zones(signer), view, geo)
        cramped = FastPath(holdings, Tallies(), 1232, OPTIONS_GIVEN, entries_max=2, wires_max=2, clients_max=2)
        return cls(holdings, FastPath(holdings, Tallies(), 1232, OPTIONS_GIVEN), cramped)


def test_a_long_answer_is_given_here_where_the_client_takes_it() -> None:
    long = RecordSpec("long", "TXT", 60, "x" * 800, None)
    zone = build_zone("gw.example.com", ["ns1.gw.example.com"], [long], serial=1)
    holdings = Holdings(ZoneSet([zone]), make_view(), None)
    fast = FastPath(holdings, Tallies(), 1232, OPTIONS_GIVEN)
    question = name_from_text("long.gw.example.com") + struct.pack("!HH", TXT, 1)
    for payload_bytes, is_ours in ((512, False), (1232, True), (4096, True)):
        opt = b"\0" + struct.pack("!HHBBHH", 41, payload_bytes, 0, 0, 0, 0)
        data = struct.pack("!6H", 1, 0, 1, 0, 0, 1) + question + opt
        expected = full_path(holdings, data, "192.0.2.1", 0, datagram=True)
        assert expected is not None and (len(expected) > 512) is is_ours
        assert fast.respond(data, "192.0.2.1", 0, datagram=True) == (expected if is_ours else None)


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> list[World]:
    """One where networks decide too, and a region has a share; one of places only, whose geo data know no IPv6: there
    the scope can be 0; then the first once more, signed in both ways."""
    folder = tmp_path_factory.mktemp("geo")
    write_mmdb(folder / "both.mmdb", {"81.0.0.0/8": {"country_code": "DE"}, "10.0.0.0/9": {"country_code": "US"}})
    write_mmdb(folder / "ipv4.mmdb", {"81.0.0.0/8": {"country_code": "CN"}}, ip_version=4)
    view = make_view("us out, eu share=0.5")
    places_only = {
        name: replace(region, near=tuple(entry for entry in region.near if entry.startswith("continent/")))
        for name, region in make_view().regions.items()
    }
    return [
        World.of(view, GeoData.open(folder / "both.mmdb")),
        World.of(RegionView(1, places_only), GeoData.open(folder / "ipv4.mmdb")),
        *(World.of(view, GeoData.open(folder / "both.mmdb"), make_signer(denial=denial)) for denial in Denial),
    ]


def full_path(holdings: Holdings, data: bytes, source: str, draw: int, *, datagram: bool) -> bytes | None:
    query = parse(data)
    if query is None:
        return None
    bytes_max = datagram_bytes_max(query.edns, 1232) if datagram else 65535
    asked = query.edns.asked if query.edns is not None else None
    given = OPTIONS_GIVEN.give(asked, source, datagram=datagram) if asked is not None else b""
    answer = decide(query, holdings, source, draw)
    return encode(query, answer, bytes_max=bytes_max, payload_bytes=1232, given=given)


ZERO_IN_LABEL = struct.pack("!6H", 1, 0, 1, 0, 0, 0) + b"\4sh\0p\2gw\7example\3com\0\0\1\0\1"


@settings(max_examples=1000, deadline=None)
@given(data=queries(), source=st.sampled_from(SOURCES), draw=st.integers(0, 65535), datagram=st.booleans())
@example(data=ZERO_IN_LABEL, source="192.0.2.1", draw=0, datagram=True)
def test_equals_the_full_path(data: bytes, source: str, draw: int, datagram: bool, worlds: list[World]) -> None:
    for world in worlds:
        expected = full_path(world.holdings, data, source, draw, datagram=datagram)
        for fast in (world.roomy, world.cramped):
            got = fast.respond(data, source, draw, datagram=datagram)
            assert got is None or got == expected
            if got is not None:
                query = parse(data)
                assert query is not None
                tallied = fast.clerk.tally_of(query.question, decide(query, world.holdings, source, draw))
                assert fast.tally is tallied, "both paths count alike"


@pytest.mark.parametrize("type_", [1, 28])
@pytest.mark.parametrize("name", ["shop", "www", "fixed", "note", "ns1", "east"])
@pytest.mark.parametrize("subnet", [None, *SUBNETS])
def test_takes_on_the_common_question(name: str, type_: int, subnet: bytes | None, worlds: list[World]) -> None:
    question = name_from_text(f"{name}.gw.example.com").upper().replace(b"\7EX", b"\7eX") + struct.pack("!HH", type_, 1)
    for with_opt in (True, False) if subnet is None else (True,):
        options = b"" if subnet is None else b"\0\x0a\0\x08resolver" + struct.pack("!HH", 8, len(subnet)) + subnet
        opt = b"\0\0\x29\x10\0\0\0\x80\0" + struct.pack("!H", len(options)) + options if with_opt else b""
        data = struct.pack("!6H", 9, 0x0100, 1, 0, 0, len(opt) and 1) + question + opt
        for world in worlds:
            for source in SOURCES:
                for draw in range(2):
                    expected = full_path(world.holdings, data, source, draw, datagram=True)
                    got = world.roomy.respond(data, source, draw, datagram=True)
                    if subnet is not None and not subnet_is_valid(subnet):
                        assert got is None
                        assert expected is not None
                        assert expected[3] & 0xF == FORMERR
                    else:
                        assert got == expected


def ask(name: bytes, type_: int = 1, class_: int = 1) -> bytes:
    return struct.pack("!6H", 9, 0, 1, 0, 0, 0) + name + struct.pack("!HH", type_, class_)


@pytest.mark.parametrize(
    "below", ["gw.example.com", "wild.gw.example.com", "wildgeo.gw.example.com", "example.net", ""]
)
def test_random_names_are_answered_and_only_their_shapes_are_kept(below: str, worlds: list[World]) -> None:
    fast = FastPath(worlds[0].holdings, Tallies(), 1232, OPTIONS_GIVEN)
    chance = random.Random(1)
    for index in range(300):
        label = f"x{chance.randrange(10**9):09d}{'y' * (index % 3)}"
        data = ask(name_from_text(f"{label}.{below}"))
        got = fast.respond(data, "192.0.2.1", 0, datagram=True)
        assert got is not None
        assert got == full_path(worlds[0].holdings, data, "192.0.2.1", 0, datagram=True)
    assert len(fast) <= 3


def test_random_types_and_classes_are_answered_and_not_kept(worlds: list[World]) -> None:
    fast = FastPath(worlds[0].holdings, Tallies(), 1232, OPTIONS_GIVEN)
    for name in ("shop.gw.example.com", "x.wild.gw.example.com", "missing.gw.example.com"):
        for type_ in (*range(1000, 1300), 250, 252):
            for class_ in (1, type_):
                data = ask(name_from_text(name), type_, class_)
                got = fast.respond(data, "192.0.2.1", 0, datagram=True)
                assert got is not None
                assert got == full_path(worlds[0].holdings, data, "192.0.2.1", 0, datagram=True)
    assert len(fast) <= 8


def test_what_is_left_to_the_full_path(worlds: list[World]) -> None:
    fast = FastPath(worlds[0].holdings, Tallies(), 1232, OPTIONS_GIVEN)
    for name in ("host.sub.gw.example.com", "hostmaster.gw.example.com", "a.wildloop.gw.example.com"):
        assert fast.respond(ask(name_from_text(name)), "192.0.2.1", 0, datagram=True) is None
    assert fast.respond(ask(name_from_text("gw.example.com"), 251), "192.0.2.1", 0, datagram=True) is None  # IXFR


def test_clients_of_one_order_keep_their_own_scopes(worlds: list[World]) -> None:
    """The IPv6 client's place is unknown whatever its address, so its scope is 0; the IPv4 client's is not."""
    world = worlds[1]
    fast = FastPath(world.holdings, Tallies(), 1232, OPTIONS_GIVEN)
    for subnet in (SUBNETS[4], SUBNETS[3]):
        options = struct.pack("!HH", 8, len(subnet)) + subnet
        data = struct.pack("!6H", 9, 0, 1, 0, 0, 1) + name_from_text("shop.gw.example.com") + b"\0\1\0\1"
        data += b"\0\0\x29\x10\0\0\0\0\0" + struct.pack("!H", len(options)) + options
        got = fast.respond(data, "192.0.2.1", 0, datagram=True)
        assert got is not None
        assert got == full_path(world.holdings, data, "192.0.2.1", 0, datagram=True)


def test_signed_answers_are_kept_and_renewed() -> None:
    clock = Clock()
    signer = make_signer(clock=clock)
    holdings = Holdings(make_zones(signer), make_view(), None)
    fast = FastPath(holdings, Tallies(), 1232, OPTIONS_GIVEN)
    opt = b"\0\0\x29\x04\xd0\0\0\x80\0\0\0"
    data = struct.pack("!6H", 9, 0, 1, 0, 0, 1) + name_from_text("fixed.gw.example.com") + b"\0\1\0\1" + opt
    seen = set()
    for _ in range(6):
        for _ in range(3):
            got = fast.respond(data, "192.0.2.1", 0, datagram=True)
            assert got == full_path(holdings, data, "192.0.2.1", 0, datagram=True)
            seen.add(got)
        clock.now += REFRESH_SECONDS
    assert len(seen) == 6 and signer.signatures.made == 6
    missing = struct.pack("!6H", 9, 0, 1, 0, 0, 1) + name_from_text("missing.gw.example.com") + b"\0\1\0\1" + opt
    assert fast.respond(missing, "192.0.2.1", 0, datagram=True) is None
