"""What a node says of its DNS answers is what its DNS server answers."""

from dataclasses import replace

import pytest
from tests.nodes.explained import VERDICT, desk, reading

from meridian.admin.explained import CannotExplain
from meridian.core.standings import Distance, NodeVerdict, Standing
from meridian.nodes import clock
from meridian.nodes.dns_state import build_view, build_zones
from meridian_dns.message import HEADER
from meridian_dns.names import name_from_text
from meridian_dns.server import DnsServer


async def test_the_steps_the_candidates_and_the_answer() -> None:
    found = await desk().explain("www.gw.example.com", "a", "203.0.113.9")
    told = [f"{step.topic}: {step.text}" for step in found.steps]
    assert told[0] == "node: node eu-2 of region eu answers by document version 3"
    assert "verdict: verdict 17 holds, as the leader wrote it" in told
    assert any("www.gw.example.com. is a CNAME" in line for line in told)
    assert any("eu (near: 203.0.113.0/24), us (as given)" in line for line in told)
    assert [(one.node, one.standing, one.answered, one.reason) for one in found.candidates] == [
        ("eu-1", "withdrawn", False, "it does not serve (silent, and seen down)"),
        ("eu-2", "serving", True, "serves"),
        ("us-1", "serving", True, "serves"),
    ]
    assert [record.value for record in found.records] == ["shop.gw.example.com.", "192.0.2.12", "192.0.2.21"]
    assert (found.rcode, found.scope, found.verdict_version, found.config_version) == ("NOERROR", 24, 17, 3)


@pytest.mark.parametrize("verdict", [VERDICT, replace(VERDICT, nodes={}), replace(VERDICT, version=0, nodes={})])
async def test_a_server_of_the_same_state_answers_so(verdict) -> None:  # type: ignore[no-untyped-def]
    found = await desk(verdict).explain("shop.gw.example.com", "A", "203.0.113.9")
    own = NodeVerdict("eu-2", "eu", ("192.0.2.12",), Standing.SERVING)
    document = reading().document
    view = build_view(document.regions, verdict, own)
    server = DnsServer(build_zones(document.zones, 3, {}), view, None, draw=lambda: 0)
    question = name_from_text("shop.gw.example.com") + b"\0\1\0\1"
    reply = server.respond(HEADER.pack(1, 0, 1, 0, 0, 0) + question, "203.0.113.9")
    assert reply is not None
    addresses = [bytes(map(int, record.value.split("."))) for record in found.records if record.type == "A"]
    assert reply[3] & 0xF == {"NOERROR": 0, "SERVFAIL": 2}[found.rcode]
    assert int.from_bytes(reply[6:8], "big") == len(addresses)
    assert all(address in reply for address in addresses)


async def test_a_worker_that_is_behind_and_a_node_without_dns_are_told() -> None:
    assert "still answers by 2" in (await desk(worker_version=2).explain("x.gw.example.com", "A", "")).steps[0].text
    assert "runs no DNS server" in (await desk(worker_version=None).explain("x.gw.example.com", "A", "")).steps[0].text


@pytest.mark.parametrize(
    ("name", "type_", "client"),
    [
        ("a..b", "A", ""),
        ("www.gw.example.com", "WRONG", ""),
        ("www.gw.example.com", "A", "here"),
        ("a.", "A", "1.2.3.4/33"),
    ],
)
async def test_what_is_no_question_is_refused(name: str, type_: str, client: str) -> None:
    with pytest.raises(CannotExplain):
        await desk().explain(name, type_, client)


async def test_how_far_a_region_is_and_for_how_long_that_holds() -> None:
    measured = replace(VERDICT, distances={("eu", "us"): Distance(0.0801, clock.now() - 300.0)})
    found = await desk(measured).explain("quick.gw.example.com", "A", "203.0.113.9")
    assert any("eu (the client's own), us (80.1 ms from eu, measured and so for 5 min)" in s.text for s in found.steps)


async def test_a_network_may_be_given_by_any_address_in_it() -> None:
    found = await desk().explain("shop.gw.example.com", "A", "203.0.113.9/24")
    assert any("the client is of 203.0.113.0/24" in step.text for step in found.steps)
