"""One key if and only if all parts are equal, and never longer than it may be."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meridian.core.limit_keys import KEY_CHARACTERS_MAX, host_of, key_of, network_of

_values = st.binary(max_size=60)


def key(*parts: str, tenant: bytes = b"", second: bytes = b"", client: str = "192.0.2.1", consumer: str = "") -> str:
    headers = [(b"x-tenant", tenant), (b"x-second", second)]
    return key_of(parts, client=client, consumer=consumer, route="r", authority=b"shop.example.com:80", headers=headers)


@given(_values, _values, _values, _values)
def test_mixes_are_equal_only_if_all_parts_are(a: bytes, b: bytes, c: bytes, d: bytes) -> None:
    parts = ("header:x-tenant", "header:x-second")
    assert (key(*parts, tenant=a, second=b) == key(*parts, tenant=c, second=d)) == ((a, b) == (c, d))


@given(st.binary(max_size=3000), st.binary(max_size=3000))
def test_single_parts_are_equal_only_if_they_are_and_stay_short(a: bytes, b: bytes) -> None:
    first, second = key("header:x-tenant", tenant=a), key("header:x-tenant", tenant=b)
    assert (first == second) == (a == b)
    assert len(first) <= KEY_CHARACTERS_MAX + 1


def test_what_stands_for_a_long_value_is_no_short_value_of_anybody() -> None:
    digest = key("header:x-tenant", tenant=b"x" * 5000)
    assert key("header:x-tenant", tenant=digest.encode()) != digest


@given(st.ip_addresses(v=6), st.integers(0, 2**64 - 1))
def test_one_v6_customer_has_one_key_whatever_address_it_takes(address: ipaddress.IPv6Address, host: int) -> None:
    other = ipaddress.IPv6Address(int(address) >> 64 << 64 | host)
    if address.ipv4_mapped is None and other.ipv4_mapped is None:
        assert network_of(str(address)) == network_of(str(other))
        neighbour = ipaddress.IPv6Address((int(address) ^ 1 << 64) >> 64 << 64 | 1)
        assert network_of(str(neighbour)) != network_of(str(address))


def test_parts() -> None:
    assert key("client_ip") == "192.0.2.1" == key("client_ip", client="::ffff:192.0.2.1")
    assert key("client_ip", client="2001:db8:1:2:3::4") == "2001:db8:1:2::/64"
    assert (key("route"), key("host"), key("consumer", consumer="acme")) == ("r", "shop.example.com", "acme")
    assert key("consumer", "route") != key("route", "consumer")
    twice = [(b"x-tenant", b"a"), (b"x-tenant", b"b")]
    assert key_of(("header:x-tenant",), client="", consumer="", route="", authority=b"", headers=twice) == "a, b"


@pytest.mark.parametrize(
    ("authority", "host"),
    [
        (b"a.example", b"a.example"),
        (b"a.example.:80", b"a.example"),
        (b"[2001:db8::1]:80", b"[2001:db8::1]"),
        (b"", b""),
    ],
)
def test_host_of(authority: bytes, host: bytes) -> None:
    assert host_of(authority) == host
