"""Record data from text."""

import dns.rdata
import dns.rdataclass
import dns.rdatatype
import pytest

from meridian_dns.records import TXT, TYPES, rdata_from_text


@pytest.mark.parametrize(
    ("type_", "text"),
    [
        ("A", "192.0.2.1"),
        ("AAAA", "2001:db8::1"),
        ("NS", "ns.example.com."),
        ("CNAME", "www.example.com."),
        ("TXT", '"v=spf1 -all"'),
        ("TXT", '"one" "two" ""'),
        ("TXT", '"a \\"quoted\\" word"'),
    ],
)
def test_agrees_with_dnspython(type_: str, text: str) -> None:
    expected = dns.rdata.from_text(dns.rdataclass.IN, dns.rdatatype.from_text(type_), text).to_wire()
    assert rdata_from_text(TYPES[type_], text) == expected


def test_long_text_is_cut_into_strings() -> None:
    assert rdata_from_text(TXT, "x" * 300) == b"\xff" + b"x" * 255 + b"\x2d" + b"x" * 45
    assert rdata_from_text(TXT, "") == b"\0"


@pytest.mark.parametrize("text", ['"open', '"a" outside', '"' + "x" * 256 + '"'])
def test_refuses_text(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        rdata_from_text(TXT, text)
