"""Whom a forward proxy reaches: never what the document does not say, in whatever way an address is written."""

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from meridian.core import forward_words
from meridian.core.document import DocumentError, load
from meridian.core.forward_proxy import ForwardProxy, is_public, make_forward_proxy, split_authority


def proxy(*allow: dict[str, Any], **more: Any) -> ForwardProxy:
    words = {"allow": allow, "clients": ["10.0.0.0/8"], **more}
    return make_forward_proxy("out", forward_words.ForwardProxy.model_validate(words))


@pytest.mark.parametrize("address", [
    "127.0.0.1", "127.9.9.9", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
    "192.0.2.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
    "::", "::1", "fe80::1", "fc00::1", "ff02::1", "2001:db8::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
    "2002:7f00:1::", "2002:a9fe:a9fe::1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2001:0:1::1",
])  # fmt: skip
def test_what_is_not_in_the_internet_is_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["93.184.216.34", "8.8.8.8", "2606:4700::1", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_what_is_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@given(st.ip_addresses(v=4))
def test_an_address_within_an_address_is_judged_as_itself(address: ipaddress.IPv4Address) -> None:
    number = int(address)
    for outer in (0xFFFF << 32 | number, 0x2002 << 112 | number << 80, 0x64FF9B << 96 | number):
        assert is_public(ipaddress.IPv6Address(outer)) == is_public(address)


def test_all_that_a_destination_says_must_hold() -> None:
    out = proxy(
        {"hosts": ["example.com", "*.example.org"]},
        {"hosts": ["inside.example"], "networks": ["10.1.0.0/16"], "ports": [8080]},
        {"networks": ["fd00::/8"], "ports": [5000]},
    )
    assert out.may_be("example.com", 443) and out.may_be("a.b.example.org", 80) and out.may_be("any", 5000)
    for host, port in (
        ("example.com", 22), ("sub.example.com", 443), ("example.org", 443), ("badexample.org", 443), ("any", 443)
    ):  # fmt: skip
        assert not out.may_be(host, port)
    assert list(out.admitted("example.com", 443, ["8.8.8.8", "127.0.0.1", "8.8.8.8", "::1"])) == ["8.8.8.8"]
    assert list(out.admitted("inside.example", 8080, ["10.1.2.3", "10.2.0.1", "8.8.8.8"])) == ["10.1.2.3"]
    assert list(out.admitted("inside.example", 443, ["10.1.2.3"])) == []
    assert list(out.admitted("x", 5000, ["fd00::1", "fe80::1"])) == ["fd00::1"]


def test_whose_proxy_it_is() -> None:
    assert proxy({}).takes("10.9.9.9") and not proxy({}).takes("192.0.2.1") and not proxy({}).takes("::1")
    with pytest.raises(ValidationError, match="anybody could use it"):
        proxy({}, clients=[])
    with pytest.raises(ValidationError, match="is no host in lower case"):
        proxy({"hosts": ["example.com:443"]})


@pytest.mark.parametrize(("authority", "where"), [
    (b"a.example:443", ("a.example", 443)), (b"a.example", ("a.example", 80)), (b"a.example.:1", ("a.example", 1)),
    (b"[::1]:443", ("::1", 443)), (b"[::1]", ("::1", 80)), (b"a:0", None), (b"a:", None), (b"a:70000", None),
    (b":80", None), (b"", None),
])  # fmt: skip
def test_authorities(authority: bytes, where: tuple[str, int] | None) -> None:
    assert split_authority(authority, 80) == where
    if b":" not in authority.rpartition(b"]")[2]:
        assert split_authority(authority, None) is None


DOCUMENT = """
listeners:
  - name: out
    bind: "127.0.0.1:3128"
    protocols: [h1]
    forward_proxy: {allow: [{hosts: [example.com]}], authenticate: people}
authenticators:
  - {name: people, basic: true, consumers: [{name: ann, secrets: ["sha256:SECRET"]}]}
limits:
  - {name: few, key: consumer, rate: 1/s, burst: 1}
""".replace("SECRET", "0" * 64)


@pytest.mark.parametrize(("old", "new", "message"), [
    ("authenticate: people", "authenticate: others", "no authenticator 'others'"),
    ("basic: true", "header: x-key", "by basic: true"),
    ("authenticate: people", "clients: [10.0.0.0/8], limits: [few]", "say authenticate, too"),
    ("authenticate: people", "limits: [many], authenticate: people", "no limit 'many'"),
    ("protocols: [h1]", "protocols: [h1]\n    https_redirect: true", "a listener of its own"),
    ("protocols: [h1]", "protocols: [tcp]", "h1, h2 and h3 alone"),
])  # fmt: skip
def test_mistakes_are_told(old: str, new: str, message: str) -> None:
    load(DOCUMENT)
    certificates = "certificates: [{hosts: [out.example], cert_file: out.pem, key_file: out.key}]\n"
    load(DOCUMENT.replace("[h1]", "[h1, h2, h3]") + certificates)
    with pytest.raises(DocumentError) as caught:
        load(DOCUMENT.replace(old, new))
    assert message in str(caught.value)
