"""Who asks, and what is refused before any zone is asked."""

from ipaddress import ip_network

from tests.dns.world import make_view, make_zone, make_zones

from meridian_dns.geo import GeoData, Place
from meridian_dns.message import Query
from meridian_dns.names import ROOT
from meridian_dns.policy import NOT_AUTHORITATIVE, NOT_SUPPORTED, Answer, Client, Question
from meridian_dns.records import NOERROR, NOTIMP, REFUSED, TYPES
from meridian_dns.responder import META_TYPES, Holdings, counted_type, decide, locate


class _Asked(GeoData):
    """Remembers nothing, answers with what it was asked."""

    def find(self, address: str) -> Place | None:
        return Place(address, "EU", 24)


GEO = _Asked(None)  # type: ignore[arg-type]  # its reader is never read


def test_the_subnet_counts_before_the_sender() -> None:
    assert locate(GEO, "192.0.2.1", None) == Client("192.0.2.1", None, "192.0.2.1", "EU", 24)
    subnet = ip_network("203.0.113.0/24")
    assert locate(GEO, "192.0.2.1", subnet) == Client("192.0.2.1", subnet, "203.0.113.0", "EU", 24)
    assert locate(None, "192.0.2.1", subnet) == Client("192.0.2.1", subnet, None, None)


def test_addresses_as_sockets_give_them() -> None:
    assert locate(GEO, "::ffff:192.0.2.1", None).address == "192.0.2.1"
    assert locate(GEO, "fe80::1%eth0", None).country == "fe80::1"


def test_services_that_we_do_not_give_are_refused() -> None:
    holdings = Holdings(make_zones(), make_view(), None)
    for question, error in (
        *((Question(make_zone().origin, type_), NOT_SUPPORTED) for type_ in META_TYPES),
        (Question(make_zone().origin, 1, 3), NOT_SUPPORTED),
        (Question(ROOT, 2), NOT_AUTHORITATIVE),
    ):
        got = decide(Query(1, 0, NOERROR, question), holdings, "192.0.2.1", 0)
        assert got == Answer(REFUSED, extended_error=error)
    other = decide(Query(1, 0x2800, NOTIMP), holdings, "192.0.2.1", 0)
    assert other == Answer(NOTIMP, extended_error=NOT_SUPPORTED)


def test_types_are_counted_in_a_bounded_table() -> None:
    assert {counted_type(type_) for type_ in TYPES.values()} == set(TYPES.values()), "by themselves"
    assert len({counted_type(type_) for type_ in range(65536)}) < 24
