"""meridian explain against a real admin API, over a node's real explainer."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from tests.admin.mounted import mounted
from tests.cli.test_config import Operator


@pytest_asyncio.fixture
async def operator(tmp_path: Path) -> AsyncIterator[Operator]:
    async with mounted() as api:
        yield Operator(api, tmp_path)


async def test_a_dns_answer_is_told_to_people_and_to_programs(operator: Operator) -> None:
    told = await operator.types("explain", "dns", "www.gw.example.com", "--client", "203.0.113.0/24")
    assert told.code == 0
    assert "www.gw.example.com. is a CNAME, so the search goes on at shop.gw.example.com." in told.out
    assert "the client is of 203.0.113.0/24, passed on by the resolver" in told.out
    assert "it does not serve (silent, and seen down)" in told.out
    assert "shop.gw.example.com. 30 IN A 192.0.2.12  ; answer" in told.out
    found = json.loads((await operator.types("explain", "dns", "nobody.gw.example.com", "--json")).out)
    assert found["rcode"] == "NXDOMAIN" and found["verdict_version"] == 17 and found["steps"]


async def test_mistakes_are_named_with_a_remedy(operator: Operator) -> None:
    wrong = await operator.types("explain", "dns", "www.gw.example.com", "--type", "WRONG")
    assert wrong.code == 2 and "unknown type 'WRONG'" in wrong.err and "next: ask for example" in wrong.err
    nowhere = await operator.types("explain", "dns", "www.gw.example.com", "--node", "mars")
    assert nowhere.code == 2 and "no node 'mars'" in nowhere.err


async def test_what_becomes_of_a_request_is_told_to_people_and_to_programs(operator: Operator) -> None:
    told = await operator.types("explain", "request", "http://shop.example.com/read", "-H", "X-Canary: no")
    assert told.code == 0
    assert "'read' takes it: shop.example.com /read/* GET" in told.out
    assert "it wants header x-canary to be 'yes'" in told.out or "'read' comes first" in told.out
    assert "127.0.0.1:8000" in told.out and "what the upstream answers" in told.out
    found = json.loads((await operator.types("explain", "request", "http://shop.example.com/", "--json")).out)
    assert (found["status"], found["why"]) == (429, "limited") and found["stages"][0]["refuses"]
    posted = ("explain", "request", "http://shop.example.com/", "-X", "POST", "-H", "X-Canary: yes", "--client", "::1")
    found = json.loads((await operator.types(*posted, "--json")).out)
    assert found["upstream"] == "next" and found["status"] == 0


async def test_what_is_no_request_is_named_with_a_remedy(operator: Operator) -> None:
    wrong = await operator.types("explain", "request", "shop")
    assert wrong.code == 2 and "'shop' is no URL" in wrong.err and "next: " in wrong.err
    field = await operator.types("explain", "request", "http://shop.example.com/", "-H", "nothing")
    assert field.code == 2 and "'nothing' is no header field" in field.err
