"""A view that could be built is valid."""

from ipaddress import ip_network

import pytest

from meridian_dns.view import Member, Region, parse_near


def test_near_entries() -> None:
    assert parse_near("continent/EU") == ("continent", "EU")
    assert parse_near("country/TR") == ("country", "TR")
    assert parse_near("203.0.113.0/24") == ip_network("203.0.113.0/24")
    assert parse_near("2001:db8::/32") == ip_network("2001:db8::/32")


@pytest.mark.parametrize("entry", ["EU", "continent/XX", "country/tr", "country/TUR", "203.0.113.1/24", "planet/earth"])
def test_malformed_near_entries_cannot_enter_a_view(entry: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Region("eu", (), True, near=(entry,))


def test_malformed_addresses_cannot_enter_a_view() -> None:
    with pytest.raises(ValueError, match=r"192\.0\.2"):
        Member("eu1", ("192.0.2",), True)
