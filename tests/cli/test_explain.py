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
