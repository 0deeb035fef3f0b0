"""Record data from text and back, against dnspython."""

import dns.rdata
import dns.rdataclass
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meridian_dns.presentation import rdata_from_text, rdata_to_text, seconds_from_text
from meridian_dns.records import SECURITY_TYPES, TXT, TYPES

NUMBERS = TYPES | SECURITY_TYPES

GOOD = [
    ("A", "192.0.2.1"),
    ("AAAA", "2001:db8::1"),
    ("NS", "ns.example.com."),
    ("CNAME", "www.example.com."),
    ("PTR", "host.example.com."),
    ("TXT", '"v=spf1 -all"'),
    ("TXT", '"one" "two" ""'),
    ("TXT", '"a \\"quoted\\" word; no comment"'),
    ("TXT", '"\\000\\255"'),
    ("MX", "10 mail.example.com."),
    ("MX", "0 ."),
    ("SRV", "10 60 5060 sip.example.com."),
    ("CAA", '0 issue "ca.example.net; account=230123"'),
    ("CAA", "128 iodef mailto:security@example.com"),
    ("TLSA", "3 1 1 " + "ab" * 32),
    ("TLSA", "3 1 2 ( " + "AB" * 32 + "\n " + "cd" * 32 + " )"),
    ("SOA", "ns.example.com. hostmaster.example.com. 7 3600 600 604800 60"),
    ("DS", "60485 5 1 2BB183AF5F22588179A53B0A 98631FAD1A292118"),
    ("CDS", "0 0 0 00"),
    ("DNSKEY", "257 3 13 mdsswUyr3DPW132mOi8V9xESWE8jTo0dxCjjnopKl+GqJxpVXckHAeF+KkxLbxILfDLUT0rAK9iUzy1L53eKGQ=="),
    ("CDNSKEY", "0 3 0 AA=="),
    ("NSEC", "host.example.com. A MX RRSIG NSEC TYPE1234"),
    ("NSEC", "\\000.host.example.com. RRSIG NSEC NXNAME"),
    ("RRSIG", "A 13 3 86400 2000000000 1900000000 2642 example.com. mdsswUyr3DPW132mOi8V9xESWE8jTo0dxCjjnopKl+Gq"),
    ("SVCB", "0 svc.example.net."),
    ("SVCB", "1 ."),
    ("HTTPS", "16 svc.example.org. alpn=h2,h3-19 mandatory=ipv4hint,alpn ipv4hint=192.0.2.1"),
    ("HTTPS", '1 . alpn="h3,h2" port=8443 ipv6hint="2001:db8::1,2001:db8::53:1" no-default-alpn'),
    ("HTTPS", "1 . ech=AAT+DQAA alpn=h2"),
    ("SVCB", '1 foo.example.com. key667="hello\\210qoo"'),
    ("SVCB", '16 foo.example.org. alpn="f\\\\\\\\oo\\\\,bar,h2"'),
    ("SVCB", "16 foo.example.org. alpn=f\\\\\\092oo\\092,bar,h2"),
]


@pytest.mark.parametrize(("type_", "text"), GOOD)
def test_agrees_with_dnspython_both_ways(type_: str, text: str) -> None:
    number = NUMBERS[type_]
    text_of_theirs = text.replace("NXNAME", "TYPE128")
    theirs = dns.rdata.from_text(dns.rdataclass.IN, dns.rdatatype.from_text(type_), text_of_theirs)
    ours = rdata_from_text(number, text)
    assert ours == theirs.to_wire()
    written = rdata_to_text(number, ours)
    assert rdata_from_text(number, written) == ours
    written = written.replace("NXNAME", "TYPE128")
    assert dns.rdata.from_text(dns.rdataclass.IN, dns.rdatatype.from_text(type_), written) == theirs


BAD = {
    "ends before its mail server: needs preference, mail server": ("MX", "10"),
    "preference '70000' is no number from 0 to 65535": ("MX", "70000 mail"),
    "preference '²' is no number": ("MX", "² mail"),
    "one word too many": ("SRV", "1 2 3 host. more"),
    "ends before its port": ("SRV", "1 2"),
    "tag 'is-sue'": ("CAA", "0 is-sue ca"),
    "flags '256'": ("CAA", "256 issue ca"),
    "is not hexadecimal": ("TLSA", "3 1 1 xy"),
    "32 bytes, not 2": ("TLSA", "3 1 1 abcd"),
    "a digest of type 2 has 32 bytes, not 2": ("DS", "1 13 2 abcd"),
    "'x*' is no base64": ("DNSKEY", "257 3 13 x*"),
    "unknown type 'TYPE70000'": ("NSEC", "a. TYPE70000"),
    "unknown type 'WHAT'": ("RRSIG", "WHAT 13 1 1 1 1 1 a. AA=="),
    "'quic' is no key": ("HTTPS", "1 . quic=1"),
    "'key3' is no key": ("HTTPS", "1 . key3=1"),
    "port is given twice": ("HTTPS", "1 . port=1 port=2"),
    "port: '65536' is no port": ("HTTPS", "1 . port=65536"),
    "alpn needs a value": ("HTTPS", "1 . alpn"),
    "alpn: an empty item": ("HTTPS", "1 . alpn=h2,,h3"),
    "alpn: a quote is not closed": ("HTTPS", '1 . alpn="h2'),
    "no-default-alpn needs alpn": ("HTTPS", "1 . no-default-alpn"),
    "no-default-alpn has no value": ("HTTPS", "1 . alpn=h2 no-default-alpn=1"),
    "port is mandatory, but not there": ("HTTPS", "1 . mandatory=port"),
    "mandatory: a key is named twice": ("HTTPS", "1 . port=1 mandatory=port,port"),
    "ipv4hint:": ("HTTPS", "1 . ipv4hint=2001:db8::1"),
    "ech: no base64": ("HTTPS", "1 . ech=*"),
    "priority 0 makes an alias": ("HTTPS", "0 svc. alpn=h2"),
    "a quote is not closed": ("TXT", '"open'),
    "text stands outside the quotes": ("TXT", '"a" outside'),
    "longer than 255 bytes": ("TXT", '"' + "x" * 256 + '"'),
    "is no byte": ("TXT", '"\\256"'),
    "more than one line": ("MX", "10 a.\n20 b."),
}


@pytest.mark.parametrize("problem", BAD)
def test_says_what_is_wrong(problem: str) -> None:
    type_, text = BAD[problem]
    with pytest.raises(ValueError) as refusal:
        rdata_from_text(NUMBERS[type_], text)
    assert problem in str(refusal.value)


def test_long_text_is_cut_into_strings() -> None:
    assert rdata_from_text(TXT, "x" * 300) == b"\xff" + b"x" * 255 + b"\x2d" + b"x" * 45
    assert rdata_from_text(TXT, "") == b"\0"


@given(st.lists(st.binary(max_size=255), min_size=1, max_size=4))
def test_any_bytes_of_text_come_back(strings: list[bytes]) -> None:
    rdata = b"".join(bytes((len(string),)) + string for string in strings)
    assert rdata_from_text(TXT, rdata_to_text(TXT, rdata)) == rdata


@given(st.lists(st.binary(min_size=1, max_size=30), min_size=1, max_size=4), st.integers(8, 65534), st.binary())
def test_any_service_parameters_come_back(protocols: list[bytes], key: int, value: bytes) -> None:
    alpn = b"".join(bytes((len(name),)) + name for name in protocols)
    rdata = b"\0\1\0" + b"\0\1" + len(alpn).to_bytes(2, "big") + alpn
    rdata += key.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value
    assert rdata_from_text(TYPES["SVCB"], rdata_to_text(TYPES["SVCB"], rdata)) == rdata


def test_times() -> None:
    assert [seconds_from_text(text) for text in ("300", "1h30m", "1W2d", "", "h", "1x", "٣")] == [
        300,
        5400,
        777_600,
        None,
        None,
        None,
        None,
    ]
