"""Zone files against dnspython's reader, round trips, and one clear refusal for each that is wrong."""

import dns.zone
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.dns.world import make_zone

from meridian_dns.names import name_from_text, name_to_text
from meridian_dns.presentation import rdata_to_text
from meridian_dns.records import NS, SOA, A, RRset
from meridian_dns.zone import SteeredSet, Zone, ZoneError
from meridian_dns.zone_building import RecordSpec, build_zone
from meridian_dns.zonefile import origin_of, read_records, zone_from_file, zone_to_file

FILE = r"""
$TTL 1h
@   IN SOA ns1 hostmaster\.team (
        2026112401 ; serial
        2h 15m 2w  ; refresh, retry, expire
        5m )       ; of what is missing
    NS  ns1        ; the owner before
    NS  ns2.example.net.
    MX  10 mail
    300 IN MX 20 mail2 ; a TTL of its own: refused, see below
ns1 A 192.0.2.1
    IN 60 AAAA 2001:db8::1
www 60 IN CNAME @
mail A 192.0.2.2
mail A 192.0.2.3
note TXT "a; no comment" ( one
     two ) ; three strings
semi\;colon TXT \"quoted\" "tab\009"
*.wild A 192.0.2.9
_sip._tcp SRV 10 60 5060 sip.example.net.
@ CAA 0 issue "ca.example.net; policy=ev"
_443._tcp.www TLSA 3 1 1 ( 0123456789abcdef0123456789abcdef
                           0123456789abcdef0123456789abcdef )
svc HTTPS 1 . alpn="h3,h2" ipv4hint=192.0.2.1,192.0.2.2
$ORIGIN sub
@ NS ns
ns A 192.0.2.53
$ORIGIN example.com.
1 PTR host.example.net.
last 0 TXT last
"""


def flat(zone: Zone) -> set[tuple[str, int, int, str]]:
    return {
        (name_to_text(records.owner), records.type, records.ttl_seconds, rdata_to_text(records.type, rdata))
        for here in zone.names.values()
        for records in here.values()
        if isinstance(records, RRset)
        for rdata in records.rdatas
    }


def read_by_dnspython(text: str) -> set[tuple[str, int, int, bytes]]:
    zone = dns.zone.from_text(text, "example.com.", relativize=False)
    return {
        (name.to_text(), int(rdata.rdtype), ttl, rdata.to_wire() or b"") for name, ttl, rdata in zone.iterate_rdatas()
    }


def wires(zone: Zone) -> set[tuple[str, int, int, bytes]]:
    return {
        (name_to_text(records.owner), records.type, records.ttl_seconds, rdata)
        for here in zone.names.values()
        for records in here.values()
        if isinstance(records, RRset)
        for rdata in records.rdatas
    }


def lower(found: set[tuple[str, int, int, bytes]]) -> set[tuple[bytes, int, int, bytes]]:
    return {(name_from_text(name), *rest) for name, *rest in found}  # type: ignore[misc]  # the rest of a tuple


TEXT = "\n".join(line for line in FILE.splitlines() if "a TTL of its own" not in line)


def test_reads_what_dnspython_reads() -> None:
    zone = zone_from_file(TEXT, "example.com")
    assert lower(wires(zone)) == lower(read_by_dnspython(TEXT))
    assert zone.cuts == {name_from_text("sub.example.com")}
    assert zone.negative_soa.ttl_seconds == 300


def test_comes_back_from_its_own_file_and_dnspython_reads_it() -> None:
    zone = zone_from_file(TEXT, "example.com")
    written = zone_to_file(zone)
    assert zone_from_file(written, "example.com.") == zone
    assert lower(read_by_dnspython(written)) == lower(wires(zone))
    assert written.splitlines()[1].split()[3] == "SOA"


def test_steered_sets_are_comments() -> None:
    zone = make_zone()
    written = zone_to_file(zone)
    assert "; shop.gw.example.com. 30 IN A is steered: geo eu us asia\n" in written
    read = zone_from_file(written, "gw.example.com")
    assert flat(read) == flat(zone)
    assert isinstance(read.names[name_from_text("ns1.gw.example.com")][A], SteeredSet), "glue is made as for any zone"


def test_ttls_by_rfc_1035_where_there_is_no_default() -> None:
    text = "@ SOA ns. h. 1 2 3 4 77\n@ NS ns.\na A 192.0.2.1\nb 5 A 192.0.2.2\nc A 192.0.2.3\n"
    ttls = [records.ttl_seconds for records, _ in read_records(text, name_from_text("example.com"))]
    assert ttls == [77, 77, 77, 5, 5]


def test_alias_of_the_apex_is_flattened() -> None:
    text = "$TTL 60\n@ SOA ns. h. 1 2 3 4 77\n NS ns.\n ALIAS www\nwww CNAME host\nhost 30 A 192.0.2.1\n"
    zone = zone_from_file(text, "example.com")
    assert zone.names[zone.origin][A] == RRset(zone.origin, A, 30, (bytes((192, 0, 2, 1)),))
    assert set(zone.names[zone.origin]) == {SOA, 2, A}


APEX = "$TTL 60\n@ SOA ns. h. 1 2 3 4 5\n@ NS ns.\n"
BAD = {
    "line 4, column 3: A: ends before its IPv4 address": APEX + "a A",
    "line 4, column 3: unknown type 'HINFO'": APEX + "a HINFO pdp vms",
    "line 4, column 6: a record without a type": APEX + "a 60 IN",
    "line 4, column 3: class CH": APEX + "a CH A 192.0.2.1",
    "line 4, column 7: a quote is not closed": APEX + 'a TXT "open\n"',
    "line 4, column 7: a parenthesis is not closed": APEX + "a TXT ( one\n\n",
    "line 4, column 11: a parenthesis is closed": APEX + "a TXT one )",
    "line 4, column 1: $INCLUDE is not known": APEX + "$INCLUDE other",
    "line 4, column 1: $ORIGIN takes one word": APEX + "$ORIGIN",
    "line 4, column 1: $TTL 'soon' is no time": APEX + "$TTL soon",
    "line 5: a.example.org. is outside the zone": APEX + "\na.example.org. A 192.0.2.1",
    "line 5: records of one name and type have different TTLs": APEX + "a A 192.0.2.1\na 1 A 192.0.2.2",
    "line 4: a zone has one SOA": APEX + "@ SOA ns. h. 2 2 3 4 5",
    "line 4, column 1: 'a..b' has an empty label": APEX + "a..b A 192.0.2.1",
    "longer than 255 bytes": APEX + ".".join(["a" * 60] * 4) + " A 192.0.2.1",
    "no SOA at the apex": "$TTL 60\n@ NS ns.\n",
    "no NS at the apex": "$TTL 60\n@ SOA ns. h. 1 2 3 4 5\n",
    "line 1, column 3: no TTL here": "@ NS ns.\n",
    "line 1, column 2: the first record names no owner": " NS ns.\n",
    "line 4, column 8: unexpected '\\\\'": APEX + "a TXT b\\",
}


def test_a_word_at_fault_is_found_behind_a_parenthesis() -> None:
    text = APEX + "a TLSA ( 3 1\n  wrong 00 )"
    with pytest.raises(ZoneError, match="line 5, column 3: TLSA: matching type 'wrong'"):
        zone_from_file(text, "example.com")


def test_all_that_is_wrong_is_told_where_asked() -> None:
    found: list[ZoneError] = []
    text = APEX + "a A wrong\nb A 192.0.2.1\nb CNAME a\nc A 192.0.2.3"
    zone = zone_from_file(text, "example.com", found.append)
    assert [error.place for error in found] == ["zone example.com., line 4, column 5", "zone example.com., line 6"]
    assert {name_from_text(f"{label}.example.com") in zone.names for label in "bc"} == {True}


def test_the_origin_is_the_files_own() -> None:
    assert origin_of("$TTL 60\n$ORIGIN example.com.\n@ SOA ns. h. 1 2 3 4 5\n") == "example.com."
    assert origin_of("example.com. 60 IN SOA ns. h. 1 2 3 4 5\n") == "example.com."
    assert origin_of("@ SOA ns. h. 1 2 3 4 5\n") is None
    assert origin_of(")") is None


def test_a_files_apex_holds_but_for_what_the_document_says() -> None:
    text = "$TTL 60\n@ 90 SOA ns. h. 1 2 3 4 5\n@ 70 NS ns.\nwww A 192.0.2.1\n"
    records = list(read_records(text, name_from_text("example.com")))

    def apex(**said: str) -> tuple[str, str, int]:
        servers = [said["nameserver"]] if "nameserver" in said else []
        zone = build_zone("example.com", servers, [], contact=said.get("contact"), serial=7, file=records)
        soa, ns = zone.names[zone.origin][SOA], zone.names[zone.origin][NS]
        assert isinstance(soa, RRset) and isinstance(ns, RRset) and soa.ttl_seconds == 90
        return rdata_to_text(SOA, soa.rdatas[0]), rdata_to_text(NS, ns.rdatas[0]), ns.ttl_seconds

    assert apex() == ("ns. h. 7 2 3 4 5", "ns.", 70)
    assert apex(nameserver="other.", contact="me@example.org") == ("other. me.example.org. 7 2 3 4 5", "other.", 70)
    with pytest.raises(ZoneError, match="one SOA"):
        build_zone("example.com", [], [], serial=7, file=records + records[:1])


@pytest.mark.parametrize("problem", BAD)
def test_says_which_line_and_what_is_wrong(problem: str) -> None:
    with pytest.raises(ZoneError) as refusal:
        zone_from_file(BAD[problem], "example.com")
    assert problem in str(refusal.value)


LABEL = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="@$*"), min_size=1, max_size=9)
VALUES = {
    "A": st.ip_addresses(v=4).map(str),
    "AAAA": st.ip_addresses(v=6).map(str),
    "TXT": st.text(st.characters(exclude_categories=["Cs"]), max_size=60).filter(lambda text: not text.startswith('"')),
    "MX": st.tuples(st.integers(0, 65535), st.just("mail.example.net.")).map(lambda pair: f"{pair[0]} {pair[1]}"),
    "CAA": st.sampled_from(['0 issue ";"', "128 iodef mailto:a@example.com"]),
}


@st.composite
def records(draw: st.DrawFn) -> RecordSpec:
    type_ = draw(st.sampled_from(sorted(VALUES)))
    labels = ["".join(f"\\{ord(byte):03d}" for byte in label) for label in draw(st.lists(LABEL, max_size=3))]
    return RecordSpec(".".join(labels) or "@", type_, 60, draw(VALUES[type_]), None)


@settings(max_examples=100, deadline=None)
@given(st.lists(records(), max_size=8, unique_by=lambda record: (name_from_text(record.name), record.type)))
def test_any_zone_comes_back(specs: list[RecordSpec]) -> None:
    zone = build_zone("example.com", ["ns.example.net"], specs, serial=2**32 - 1)
    written = zone_to_file(zone)
    assert zone_from_file(written, "example.com") == zone
    assert lower(read_by_dnspython(written)) == lower(wires(zone))


PIECES = [*'\n\t (){};"\\$@.=a0', "A ", "IN ", "TXT ", "$TTL 1\n", "\\000"]


@given(st.lists(st.sampled_from(PIECES), max_size=60).map("".join))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        zone_from_file(APEX + text, "example.com")
    except ZoneError as error:
        assert error.remedy
