"""Zones as files: import and export are each other's inverse, a check finds all, and a document may name a file."""

import pytest
from tests.dns.test_zonefile import FILE, flat

from meridian.core import dns_words, document
from meridian.core.document import DocumentError, load
from meridian.nodes.checks import check_zones
from meridian.nodes.dns_state import build_zones, zone_ttls
from meridian.nodes.zone_files import BadZoneFile, check_document, check_file, import_zone
from meridian_dns.records import NS, SOA
from meridian_dns.zone import ZoneError
from meridian_dns.zonefile import zone_from_file, zone_to_file

GOOD = FILE.replace("    300 IN MX 20 mail2 ; a TTL of its own: refused, see below\n", "")
APEX = "$ORIGIN example.com.\n$TTL 60\n@ SOA ns.example.net. h 7 3600 600 604800 60\n@ NS ns.example.net.\n"


def test_an_import_answers_as_the_file_did_but_for_what_it_says() -> None:
    imported = import_zone(GOOD, "example.com")
    (zone,) = build_zones([dns_words.Zone.model_validate(imported.zone)], 0, {})
    differ = flat(zone) ^ flat(zone_from_file(GOOD, "example.com"))
    assert {type_ for _, type_, _, _ in differ} == {SOA}
    assert imported.lost == ("the SOA says refresh 3600, not 7200; retry 600, not 900; expire 604800, not 1209600; "
                             "negative TTL 60, not 300",)  # fmt: skip
    soa = next(text for name, type_, _, text in flat(zone) if type_ == SOA)
    assert soa.startswith(r"ns1.example.com. hostmaster\046team.example.com. 2026112401 "), "contact and serial go on"


def test_import_export_import_is_one_import() -> None:
    first = import_zone(GOOD, "example.com").zone
    (zone,) = build_zones([dns_words.Zone.model_validate(first)], 0, {})
    again = import_zone(zone_to_file(zone), None).zone

    def key(record):  # type: ignore[no-untyped-def]
        return record["name"], record["type"]

    assert sorted(again.pop("records"), key=key) == sorted(first.pop("records"), key=key)  # type: ignore[call-overload]
    assert again == first


def test_the_words_of_an_import_are_a_document() -> None:
    text = document.to_yaml({"zones": [import_zone(GOOD, "example.com").zone]})
    whole = 'listeners: [{name: web, bind: "127.0.0.1:80", protocols: [h1]}]\n' + text
    assert next(iter(load(whole).zones)).name == "example.com"


def test_names_that_end_like_the_zone_are_written_absolute() -> None:
    zone = import_zone(APEX + "example.com A 192.0.2.1\n", None).zone
    (built,) = build_zones([dns_words.Zone.model_validate(zone)], 0, {})
    assert {name for name, type_, _, _ in flat(built) if type_ == 1} == {"example.com.example.com."}


@pytest.mark.parametrize(
    ("text", "origin", "problem"),
    [
        ("@ NS ns.\n", None, "does not say which zone it is of"),
        (APEX, "a..b", "zone a..b: "),
        (APEX + "a A wrong\n", None, "line 5, column 5: A: "),
        (APEX + "a A 192.0.2.1\na CNAME b\n", None, "a CNAME cannot stand beside other records"),
        ("$ORIGIN example.com.\na 60 A 192.0.2.1\n", None, "no SOA at the apex"),
    ],
)
def test_what_is_no_zone_is_refused_with_its_place(text: str, origin: str | None, problem: str) -> None:
    with pytest.raises(BadZoneFile) as refused:
        import_zone(text, origin)
    assert problem in str(refused.value) and refused.value.remedy


def test_a_check_of_a_file_finds_all_that_is_wrong_with_it() -> None:
    name, findings = check_file(APEX + "a A wrong\nb CNAME gone\nc A 192.0.2.1\nc CNAME b\n", None)
    told = [(finding.level, finding.name) for finding in findings]
    assert name == "example.com."
    assert told[:3] == [
        ("error", "zone example.com., line 5, column 5"),
        ("error", "zone example.com., line 8"),
        ("error", "b.example.com."),
    ]
    assert [finding.level for finding in check_file("$ORIGIN example.com.\na 60 A 192.0.2.1\n", None)[1]] == ["error"]


DOCUMENT = """\
listeners: [{name: web, bind: "127.0.0.1:80", protocols: [h1]}]
regions: [{name: eu}]
zones:
  - name: example.com
    file: example.zone
    records:
      - {name: shop, type: A, steer: {regions: [eu]}, ttl_seconds: 30}
"""


def test_a_zone_of_a_document_stands_in_a_file() -> None:
    found = load(DOCUMENT)
    assert list(found.files()) == [("zones[0].file", "example.zone")]
    zones = build_zones(found.zones, 9, {"example.zone": (APEX + "long 7200 A 192.0.2.1\n").encode()})
    (zone,) = zones
    texts = {(name, type_): text for name, type_, _, text in flat(zone)}
    assert texts["example.com.", SOA] == "ns.example.net. h.example.com. 9 3600 600 604800 60"
    assert texts["example.com.", NS] == "ns.example.net."
    assert b"\4shop\7example\3com\0" in zone.names
    assert zone_ttls(zones) == {"example.com.": 7200}
    assert [finding.level for finding in check_document(found, {"example.zone": APEX.encode()})["example.com."]]


def test_each_view_of_a_zone_is_checked_by_itself() -> None:
    ours = (APEX + "www A 192.0.2.1\n").encode()
    alias = "{name: a, type: CNAME, value: b}"
    document = load(
        DOCUMENT
        + f"  - {{name: example.com, view: office, nameservers: [ns.example.net], records: [{alias}]}}\n"
        + "dns: {views: [{name: office, networks: [10.0.0.0/8]}]}\n"
    )
    found = check_document(document, {"example.zone": ours})
    wrong = {name: [one.name for one in findings if one.level == "error"] for name, findings in found.items()}
    assert wrong == {"example.com.": [], "example.com. (view office)": ["a.example.com."]}


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({}, "the contents of example.zone did not come with the document"),
        ({"example.zone": b"\xff"}, "example.zone: byte 0 is not UTF-8"),
        ({"example.zone": (APEX + "a A wrong\n").encode()}, "example.zone, line 5, column 5: A: "),
        ({"example.zone": (APEX + "a.example.org. A 192.0.2.1\n").encode()}, "example.zone, line 5: a.example.org. is"),
        ({"example.zone": (APEX + "shop A 192.0.2.1\n").encode()}, "stands beside another record"),
    ],
)
def test_a_file_that_is_wrong_is_refused_at_apply_with_its_place(files: dict[str, bytes], problem: str) -> None:
    ((place, message),) = check_zones(load(DOCUMENT), files)
    assert place == ("zones", 0) and problem in message
    with pytest.raises(ZoneError):
        build_zones(load(DOCUMENT).zones, 1, files)


def test_without_a_file_a_zone_needs_nameservers() -> None:
    with pytest.raises(DocumentError, match="a zone needs nameservers"):
        load(DOCUMENT.replace("    file: example.zone\n", ""))
