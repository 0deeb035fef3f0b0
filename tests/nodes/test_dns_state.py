"""From document and verdict to what DNS answers from."""

import pytest

from meridian.core import model
from meridian.core.verdicts import NodeVerdict, RegionVerdict, Standing, Verdict
from meridian.nodes.dns_state import build_view, build_zones, doubt_ends
from meridian_dns.names import name_from_text
from meridian_dns.records import HTTPS, MX, A, RRset
from meridian_dns.steering import Steer
from meridian_dns.view import Member
from meridian_dns.zone import SteeredSet, ZoneError

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


def test_all_the_words_of_steering_reach_the_library() -> None:
    weighted = model.Steer(policy="weighted", regions=("eu", "us"), weights={"eu": 3}, answers_max=1)
    latency = model.Steer(policy="latency", regions=("eu", "us"), latency_milliseconds={"us": {"eu": 90, "us": 4}})
    zone = model.Zone(
        name="example.com",
        nameservers=("ns1.example.com",),
        records=(
            model.Record(name="shop", type="A", steer=weighted),
            model.Record(name="near", type="A", steer=latency),
            model.Record(name="@", type="HTTPS", steer=weighted, alpn=("h3", "h2")),
            model.Record(name="@", type="ALIAS", value="shop"),
            model.Record(name="@", type="MX", values=("10 mx1", "20 mx2")),
        ),
    )
    names = next(iter(build_zones([zone], 1))).names
    apex, shop = names[name_from_text("example.com")], names[name_from_text("shop.example.com")][A]
    near, https, flattened, mx = names[name_from_text("near.example.com")][A], apex[HTTPS], apex[A], apex[MX]
    assert isinstance(shop, SteeredSet) and shop.steer == Steer("weighted", ("eu", "us"), 1, (("eu", 3),))
    assert isinstance(near, SteeredSet)
    assert near.steer.latency_milliseconds == (("us", (("eu", 90.0), ("us", 4.0))),)
    assert isinstance(https, SteeredSet) and https.alpn == ("h3", "h2") and https.steer == shop.steer
    assert isinstance(flattened, SteeredSet) and flattened.steer == shop.steer
    assert isinstance(mx, RRset) and [rdata[:2] for rdata in mx.rdatas] == [b"\0\x0a", b"\0\x14"]


@pytest.mark.parametrize(
    ("problem", "record"),
    [
        ("exactly one of", {"type": "A", "value": "192.0.2.1", "values": ("192.0.2.2",)}),
        ("exactly one of", {"type": "A"}),
        ("type must be A, AAAA or HTTPS", {"type": "MX", "steer": {"regions": ("eu",)}}),
        ("alpn belongs", {"type": "HTTPS", "steer": {"regions": ("eu",)}}),
        ("alpn belongs", {"type": "A", "steer": {"regions": ("eu",)}, "alpn": ("h2",)}),
        ("use policy weighted", {"type": "A", "steer": {"regions": ("eu",), "weights": {"eu": 1}}}),
        ("need each other", {"type": "A", "steer": {"regions": ("eu",), "policy": "latency"}}),
        ("'us' is not among", {"type": "A", "steer": {"regions": ("eu",), "policy": "weighted", "weights": {"us": 1}}}),
        (
            "latency_milliseconds.eu: 'us' is not among",
            {
                "type": "A",
                "steer": {"regions": ("eu",), "policy": "latency", "latency_milliseconds": {"eu": {"us": 1}}},
            },
        ),
    ],
)
def test_records_that_contradict_themselves_are_refused(problem: str, record: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=problem):
        model.Record.model_validate({"name": "a", **record})


@pytest.mark.parametrize(
    ("standing", "age_seconds", "in_doubt"),
    [
        (Standing.SERVING, 59.0, True),
        (Standing.SERVING, 61.0, False),
        (Standing.SUSPECT, 61.0, True),
        (Standing.WITHDRAWN, 59.0, True),
        (Standing.WITHDRAWN, 61.0, False),
    ],
)
def test_a_region_is_in_doubt_while_suspect_and_for_a_time_after_any_change(
    standing: Standing, age_seconds: float, in_doubt: bool
) -> None:
    now, steering = 1000.0, model.Steering(doubt_ttl_seconds=3)
    found = verdict()
    found.regions["eu"] = RegionVerdict("eu", standing, "", now - age_seconds)  # type: ignore[index]  # a dict
    view = build_view([EU, US], found, OWN, now, steering)
    assert view.regions["eu"].in_doubt is in_doubt and not view.regions["us"].in_doubt
    assert view.doubt_ttl_seconds == 3
    assert doubt_ends(found, now, steering) == (now + 1.0 if age_seconds == 59.0 else None)


def test_before_the_first_verdict_nothing_is_in_doubt() -> None:
    assert not build_view([EU], Verdict(), OWN, 10.0).regions["eu"].in_doubt
