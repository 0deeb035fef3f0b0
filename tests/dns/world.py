"""The small world that the DNS tests share: three regions, one zone with one of everything."""

from dataclasses import replace

from meridian_dns.signing import Signer
from meridian_dns.steering import Steer
from meridian_dns.view import Distance, Member, Region, RegionView
from meridian_dns.zone import Zone, ZoneSet
from meridian_dns.zone_building import RecordSpec, build_zone

ORIGIN = "gw.example.com"
EVERYWHERE = Steer("geo", ("eu", "us", "asia"))
LATENCY = (("eu", (("eu", 5.0), ("asia", 40.0), ("us", 80.0))), ("us", (("us", 5.0), ("asia", 90.0), ("eu", 80.0))))

NESTED = Steer(
    "failover",
    ("west", "asia"),
    groups=(("west", Steer("geo", ("us", "europe"), groups=(("europe", Steer("weighted", ("eu",))),))),),
)


def make_view(change: str = "", version: int = 1) -> RegionView:
    """Regions eu (two members), us (one), asia (one, IPv4 only).

    `change`: "eu1 down, us out, asia suspect, eu share=0.5".
    """
    regions = {
        "eu": Region(
            "eu",
            (
                Member("eu1", ("192.0.2.11", "2001:db8::11"), True),
                Member("eu2", ("192.0.2.12", "2001:db8::12"), True),
            ),
            True,
            near=("continent/EU", "country/TR", "203.0.113.0/24", "2001:db8:e::/48"),
        ),
        "us": Region(
            "us",
            (Member("us1", ("192.0.2.21", "2001:db8::21"), True),),
            True,
            near=("continent/NA", "198.51.100.0/24"),
            fallback=("asia",),
        ),
        "asia": Region(
            "asia", (Member("asia1", ("192.0.2.31",), True),), True, near=("continent/AS", "203.0.113.128/25")
        ),
    }
    for word in filter(None, map(str.strip, change.split(","))):
        who, what = word.split()
        if what == "down":
            region = next(region for region in regions.values() for member in region.members if member.name == who)
            members = tuple(replace(member, serving=member.serving and member.name != who) for member in region.members)
            regions[region.name] = replace(region, members=members)
        elif what == "out":
            regions[who] = replace(regions[who], serving=False)
        elif what.startswith("share="):
            regions[who] = replace(regions[who], share=float(what.removeprefix("share=")))
        else:
            assert what == "suspect"
            regions[who] = replace(regions[who], suspect=True)
    way = Distance(60.5, 185.0)
    return RegionView(version, regions, distances={"asia": {"us": way}, "us": {"asia": way}})


def make_zone(signer: Signer | None = None) -> Zone:
    """One of everything that a zone can hold."""
    return build_zone(
        ORIGIN,
        ["ns1.gw.example.com", "ns2.gw.example.com", "ns.elsewhere.example.net"],
        [
            RecordSpec("shop", "A", 30, None, EVERYWHERE),
            RecordSpec("shop", "AAAA", 30, None, EVERYWHERE),
            RecordSpec("one", "A", 30, None, Steer("geo", ("eu", "us", "asia"), answers_max=1)),
            RecordSpec("pair", "A", 30, None, Steer("geo", ("us", "eu"))),
            RecordSpec("east", "A", 30, None, Steer("geo", ("asia",))),
            RecordSpec("east", "AAAA", 30, None, Steer("geo", ("asia",))),
            RecordSpec("mars", "A", 30, None, Steer("geo", ("mars",))),
            RecordSpec("www", "CNAME", 300, "shop.gw.example.com.", None),
            RecordSpec("www2", "CNAME", 300, "www", None),
            RecordSpec("round", "CNAME", 300, "round", None),
            RecordSpec("out", "CNAME", 300, "www.example.net.", None),
            RecordSpec("dangling", "CNAME", 300, "missing", None),
            RecordSpec("into", "CNAME", 300, "host.sub", None),
            RecordSpec("*.wild", "A", 60, "192.0.2.99", None),
            RecordSpec("*.wildcname", "CNAME", 60, "www", None),
            RecordSpec("deep.empty", "TXT", 60, "here", None),
            RecordSpec("note", "TXT", 60, '"v=spf1 -all" "second"', None),
            RecordSpec("note", "TXT", 60, "another", None),
            RecordSpec("big", "TXT", 60, "x" * 2000, None),
            RecordSpec("fixed", "A", 60, "192.0.2.1", None),
            RecordSpec("fixed", "A", 60, "192.0.2.2", None),
            RecordSpec("sub", "NS", 600, "ns.sub", None),
            RecordSpec("sub", "NS", 600, "ns.other.example.net.", None),
            RecordSpec("ns.sub", "A", 600, "192.0.2.53", None),
            RecordSpec("ns2", "A", 600, "192.0.2.54", None),
            RecordSpec("svc", "HTTPS", 30, None, EVERYWHERE, ("h3", "h2")),
            RecordSpec("eastsvc", "HTTPS", 30, None, Steer("geo", ("asia",)), ("h2",)),
            RecordSpec("marssvc", "HTTPS", 30, None, Steer("geo", ("mars",)), ("h2",)),
            RecordSpec("flat", "ALIAS", 20, "www2", None),
            RecordSpec("weighted", "A", 30, None, Steer("weighted", ("eu", "us"), weights=(("eu", 3),))),
            RecordSpec("failover", "A", 30, None, Steer("failover", ("us", "eu", "asia"))),
            RecordSpec("multi", "A", 30, None, Steer("multivalue", ())),
            RecordSpec("sticky", "A", 30, None, Steer("sticky", ())),
            RecordSpec("quick", "A", 30, None, Steer("latency", ())),
            RecordSpec("latency", "A", 30, None, Steer("latency", (), latency_milliseconds=LATENCY)),
            RecordSpec("nested", "A", 30, None, NESTED),
            RecordSpec("two", "A", 30, None, Steer("weighted", ("eu", "us", "asia"), spread=2, answers_max=2)),
            RecordSpec("stickywww", "CNAME", 60, "sticky", None),
            RecordSpec("*.wildgeo", "A", 30, None, EVERYWHERE),
            RecordSpec("*.wildloop", "CNAME", 60, "a.wildloop", None),
            RecordSpec("*.wildmail", "MX", 60, "10 mx.wildmail", None),
            RecordSpec("mail", "MX", 60, "10 mx.wildmail", None),
            RecordSpec("mail", "MX", 60, "20 mx.example.net.", None),
            RecordSpec("_sip._tcp", "SRV", 60, "10 0 5060 shop", None),
        ],
        serial=7,
        signer=signer,
    )


def make_zones(signer: Signer | None = None) -> ZoneSet:
    """The zone above, signed or not, and one below it and one beside it."""
    return ZoneSet(
        [
            make_zone(signer),
            build_zone("inner.gw.example.com", ["ns1.gw.example.com"], [], serial=1),
            build_zone("example.org", ["ns1.gw.example.com"], [RecordSpec("@", "A", 60, "192.0.2.7", None)], serial=1),
        ]
    )
