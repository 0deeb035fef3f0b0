"""meridian cache against a real admin API."""

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


async def test_purges_are_ordered_by_number(operator: Operator) -> None:
    told = await operator.types("cache", "purge", "--tag", "red", "--host", "shop.example.com")
    assert told.code == 0 and "purge 1 is ordered" in told.out
    assert json.loads((await operator.types("cache", "purge", "--all", "--json")).out) == {"number": 2}
    for wrong in ((), ("--all", "--path", "/a")):
        refused = await operator.types("cache", "purge", *wrong)
        assert refused.code == 2 and "next: give --path" in refused.err
