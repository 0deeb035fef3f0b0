"""meridian dns against a real admin API."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from tests.admin.mounted import KEY, ZONE, mounted
from tests.cli.test_config import Operator


@pytest_asyncio.fixture
async def operator(tmp_path: Path) -> AsyncIterator[Operator]:
    async with mounted() as api:
        yield Operator(api, tmp_path)


async def test_the_parents_records_and_nothing_else(operator: Operator) -> None:
    assert (await operator.types("dns", "ds", "gw.example.com")).out == KEY.ds + "\n"
    found = json.loads((await operator.types("dns", "ds", "gw.example.com", "--json")).out)
    assert found == {"zone": "gw.example.com.", "ds": [KEY.ds]}
    hidden = KEY.model_copy(update={"offered": False})
    operator.api.panel.zone = ZONE.model_copy(update={"keys": (hidden,), "next_step": "wait until noon"})
    refused = await operator.types("dns", "ds", "gw.example.com")
    assert refused.code == 1 and "wait until noon" in refused.all and KEY.ds not in refused.all


async def test_keys_are_shown_and_told(operator: Operator) -> None:
    shown = (await operator.types("dns", "keys", "show", "gw.example.com")).out
    assert "csk steady; next: nothing" in shown and "4711" in shown
    assert json.loads((await operator.types("dns", "keys", "show", "gw.example.com", "--json")).out)["algorithm"] == 13
    for arguments in (("roll", "gw.example.com", "--role", "ksk"), ("seen", "gw.example.com")):
        assert "told" in (await operator.types("dns", "keys", *arguments)).out
    assert operator.api.panel.told == ["ksk", "seen"]
    refused = await operator.types("dns", "keys", "gone", "gw.example.com")
    assert refused.code == 1 and "not on its way" in refused.all
    unknown = await operator.types("dns", "keys", "show", "other.example")
    assert unknown.code == 2 and "no keys" in unknown.all
