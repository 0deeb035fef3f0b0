"""Each thing that a good registrar would say, and silence about a zone that is well."""

import pytest
from tests.dns.world import make_view

from meridian_dns.lint import FINDINGS_MAX, lint
from meridian_dns.names import name_from_text
from meridian_dns.steering import Steer
from meridian_dns.zone import ZoneSet
from meridian_dns.zone_building import RecordSpec, build_zone
from meridian_dns.zonefile import zone_from_file

WELL = """\
$TTL 3600
@ SOA ns1 hostmaster 5 7200 900 1209600 600
@ NS ns1
@ NS ns2
@ CAA 0 issue "ca.example.net"
@ A 192.0.2.9
@ MX 10 mail
@ TXT "v=spf1 -all"
ns1 A 192.0.2.1
ns2 A 192.0.2.2
mail A 192.0.2.3
www CNAME @
"""

SAID = {
    "warning: example.com. has only one nameserver": WELL.replace("@ NS ns2\n", ""),
    "error: sub.example.com. its nameserver ns.sub.example.com. has no address here": WELL + "sub NS ns.sub\n",
    "error: sub.example.com. its nameserver www.example.com. is a CNAME": WELL + "sub NS www\n",
    "note: sub.example.com. the addresses of its nameserver ns.else.example.com. are known below": WELL
    + "sub NS ns.else\nelse NS ns1\nelse NS ns2\n",
    "warning: example.com. its nameservers ns1.example.com. and ns2.example.com. have one address": WELL.replace(
        "ns2 A 192.0.2.2", "ns2 A 192.0.2.1"
    ),
    "error: example.com. its MX points to gone.example.com., which does not exist": WELL + "@ MX 20 gone\n",
    "error: example.com. its MX points to www.example.com., a CNAME": WELL + "@ MX 20 www\n",
    "error: example.com. its MX points to text.example.com., which has no address": WELL + "@ MX 20 text\ntext TXT x\n",
    "error: old.example.com. its CNAME points to gone.example.com., which does not exist": WELL + "old CNAME gone\n",
    "error: a.example.com. its CNAME leads in a circle": WELL + "a CNAME b\nb CNAME a\n",
    "error: _sip._tcp.example.com. its SRV points to gone.example.com.": WELL + "_sip._tcp SRV 1 1 5060 gone\n",
    "warning: c0.example.com. a chain of more than 8 CNAMEs begins here": WELL
    + "".join(f"c{i} CNAME c{i + 1}\n" for i in range(9)) + "c9 A 192.0.2.1\n",
    "warning: long.example.com. A is kept for 100000 s": WELL + "long 100000 A 192.0.2.1\n",
    "note: short.example.com. A is kept for 5 s": WELL + "short 5 A 192.0.2.1\n",
    "warning: example.com. SOA its serial is 0": WELL.replace("hostmaster 5", "hostmaster 0"),
    "warning: example.com. SOA secondaries look every 60 s": WELL.replace("7200 900", "60 30"),
    "warning: example.com. SOA retry (7200 s) is not below refresh": WELL.replace("7200 900", "7200 7200"),
    "warning: example.com. SOA secondaries stop answering 3600 s": WELL.replace("1209600", "3600"),
    "warning: example.com. SOA that a name does not exist is remembered for 86400 s": WELL.replace("600\n", "86400\n"),
    "error: example.com. SOA its contact has an @": WELL.replace(" hostmaster ", " me@example.org. "),
    "note: example.com. SOA its primary hidden.example.com. is none of the nameservers": WELL.replace(
        "SOA ns1", "SOA hidden"
    ),
    "warning: new.example.com. has AAAA but no A": WELL + "new AAAA 2001:db8::1\n",
    "note: example.com., mail.example.com., ns1.example.com. and 1 more has A but no AAAA": WELL
    + "both A 192.0.2.1\nboth AAAA 2001:db8::1\n",
    "error: example.com. TXT has two SPF policies": WELL + '@ TXT "v=spf1 ip4:192.0.2.1 -all"\n',
    "note: big.example.com. TXT has 2012 bytes": WELL + "big TXT" + " " + " ".join(["x" * 249] * 8) + "\n",
    "warning: bad_host.example.com. is no host name": WELL + "bad_host A 192.0.2.1\n",
    "note: example.com. any authority may issue certificates": WELL.replace('@ CAA 0 issue "ca.example.net"\n', ""),
    "warning: sub.example.com. its DS 1 7 1 ": WELL + "sub NS ns1\nsub NS ns2\nsub DS 1 7 1 " + "ab" * 20 + "\n",
}  # fmt: skip


def said(text: str) -> list[str]:
    zone = zone_from_file(text, "example.com")
    return [f"{finding.level}: {finding.name} {finding.problem}" for finding in lint(zone, ZoneSet([zone]))]


def test_nothing_is_said_of_a_zone_that_is_well() -> None:
    assert said(WELL) == []


@pytest.mark.parametrize("finding", SAID)
def test_what_is_said(finding: str) -> None:
    assert any(line.startswith(finding) for line in said(SAID[finding])), said(SAID[finding])


def test_nameservers_in_another_zone_of_ours_need_addresses_there() -> None:
    zone = build_zone("example.com", ["ns1.example.org", "ns2.example.org"], [], serial=1)
    other = build_zone("example.org", ["ns1.example.org"], [], serial=1)
    problems = [finding.problem for finding in lint(zone, ZoneSet([zone, other]))]
    assert "its nameserver ns2.example.org. has no address in zone example.org. (lame)" in problems
    assert not any("ns1.example.org" in problem and "lame" in problem for problem in problems)


@pytest.mark.parametrize(
    ("change", "regions", "finding"),
    [
        ("", ("eu", "us"), None),
        ("us out", ("eu", "us"), "has only eu left that serves"),
        ("eu1 down, eu2 down, us out", ("eu", "us"), "has no region that serves: all are answered (fail open)"),
        ("", ("eu", "mars", "us"), "is steered over mars, where no node stands and no address is given"),
        ("", ("eu",), "is steered over eu alone: nobody takes over"),
    ],
)  # fmt: skip
def test_steered_sets_are_held_against_the_verdict(change: str, regions: tuple[str, ...], finding: str | None) -> None:
    records = [RecordSpec("shop", type_, 30, None, Steer("geo", regions)) for type_ in ("A", "AAAA")]
    zone = build_zone("example.com", ["ns1.example.net", "ns2.example.net"], records, serial=1)
    found = [one for one in lint(zone, ZoneSet([zone]), make_view(change)) if one.name.startswith("shop")]
    assert [one.problem for one in found] == ([] if finding is None else [finding])
    assert not found or found[0].name == "shop.example.com. A, shop.example.com. AAAA"


def test_a_steered_answer_that_is_kept_for_long_is_named() -> None:
    record = RecordSpec("shop", "A", 3600, None, Steer("geo", ()))
    zone = build_zone("example.com", ["ns1.example.net"], [record], serial=1)
    assert any("so long clients go on to a dead address" in one.problem for one in lint(zone, ZoneSet([zone])))


def test_the_grave_come_first_and_not_without_end() -> None:
    text = WELL + "".join(f"a{i} 5 CNAME gone{i}\n" for i in range(FINDINGS_MAX))
    levels = [line.split(":")[0] for line in said(text)]
    assert levels == ["error"] * FINDINGS_MAX
    assert name_from_text("a0.example.com") in zone_from_file(text, "example.com").names
