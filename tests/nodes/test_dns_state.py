"""From document and verdict to what DNS answers from."""

import pytest

from meridian.core import model
from meridian.core.verdicts import NodeVerdict, RegionVerdict, Standing, Verdict
from meridian.nodes.dns_state import build_view, build_zones
from meridian_dns.names import name_from_text
from meridian_dns.view import Member
from meridian_dns.zone import ZoneError

OWN = NodeVerdict("one", "eu", ("127.0.0.11",), Standing.SERVING)
EU = model.Region(name="eu", near=("continent/EU",), fallback=("us",))
US = model.Region(name="us")


def verdict(standing: Standing = Standing.SERVING, region: Standing = Standing.SERVING) -> Verdict:
    nodes = {
        "one": OWN,
        "two": NodeVerdict("two", "eu", ("127.0.0.12",), standing),
        "three": NodeVerdict("three", "us", ("127.0.0.13",), Standing.SERVING),
    }
    return Verdict(1, 5, nodes, {"eu": RegionVerdict("eu", region), "us": RegionVerdict("us", Standing.SERVING)})


@pytest.mark.parametrize(
    ("standing", "serving"),
    [
        (Standing.SERVING, True),
        (Standing.SUSPECT, True),
        (Standing.DRAINING, False),
        (Standing.WITHDRAWN, False),
    ],
)
def test_standings(standing: Standing, serving: bool) -> None:
    eu = build_view([EU, US], verdict(standing), OWN).regions["eu"]
    assert eu.members == (Member("one", ("127.0.0.11",), True), Member("two", ("127.0.0.12",), serving))
    region = build_view([EU, US], verdict(region=standing), OWN).regions["eu"]
    assert region.serving is serving and region.suspect is (standing is Standing.SUSPECT)
    assert region.near == EU.near and region.fallback == EU.fallback


def test_the_version_is_the_verdicts_and_regions_keep_the_documents_order() -> None:
    view = build_view([US, EU], verdict(), OWN)
    assert view.version == 5 and list(view.regions) == ["us", "eu"]


def test_before_the_first_verdict_the_document_and_this_node_serve() -> None:
    fixed = model.Region(name="us", addresses=("192.0.2.1",))
    view = build_view([EU, fixed], Verdict(), OWN)
    assert view.regions["eu"].members == (Member("one", OWN.addresses, True),) and view.regions["eu"].serving
    assert view.regions["us"].members == (Member("us", ("192.0.2.1",), True),) and view.regions["us"].serving


@pytest.mark.parametrize(("standing", "serving"), [(Standing.SERVING, True), (Standing.WITHDRAWN, True)])
def test_a_regions_addresses_stand_for_its_nodes_while_any_serves(standing: Standing, serving: bool) -> None:
    front = model.Region(name="eu", addresses=("192.0.2.1", "192.0.2.2"))
    members = build_view([front], verdict(standing), OWN).regions["eu"].members
    assert members == (Member("eu", ("192.0.2.1", "192.0.2.2"), serving),)


def test_a_regions_addresses_go_with_its_last_node() -> None:
    front = model.Region(name="us", addresses=("192.0.2.1",))
    gone = Verdict(1, 2, {"three": NodeVerdict("three", "us", ("127.0.0.13",), Standing.WITHDRAWN)})
    assert not build_view([front], gone, OWN).regions["us"].members[0].serving


def test_a_region_that_only_the_verdict_knows_is_there() -> None:
    assert list(build_view([EU], verdict(), OWN).regions) == ["eu", "us"]


def test_zones_bear_the_documents_version() -> None:
    zone = model.Zone(
        name="gw.example.com",
        nameservers=("ns1.gw.example.com",),
        records=(
            model.Record(name="shop", type="A", steer=model.Steer(regions=("eu",))),
            model.Record(name="www", type="CNAME", value="shop.gw.example.com."),
        ),
    )
    zones = build_zones([zone], 2**32 + 7)
    assert zones.find(name_from_text("a.shop.gw.example.com.")) is not None
    with pytest.raises(ZoneError):
        build_zones([zone, zone], 1)
