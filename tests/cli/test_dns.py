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


async def test_a_zone_is_checked_as_it_is_served(operator: Operator) -> None:
    checked = await operator.types("dns", "check", "gw.example.com")
    assert checked.code == 0 and "gw.example.com.: 1 note" in checked.out and "next: add a CAA record" in checked.out
    unknown = await operator.types("dns", "check", "other.example")
    known = "gw.example.com. (view office), gw.example.com."
    assert unknown.code == 2 and f"there is no zone other.example (known: {known})" in unknown.err
    assert (
        "shop.gw.example.com. 30 IN A is steered: geo" in (await operator.types("dns", "export", "gw.example.com")).out
    )


async def test_a_zone_is_shown_as_the_clients_of_a_view_see_it(operator: Operator) -> None:
    theirs = (await operator.types("dns", "export", "gw.example.com", "--view", "office")).out
    assert "desk.gw.example.com." in theirs and "shop" not in theirs
    assert "desk" not in (await operator.types("dns", "export", "gw.example.com")).out
    checked = json.loads((await operator.types("dns", "check", "gw.example.com", "--view", "office", "--json")).out)
    problems = [finding["problem"] for finding in checked["zones"][0]["findings"]]
    assert any("one nameserver" in problem for problem in problems), problems
    unknown = await operator.types("dns", "check", "gw.example.com", "--view", "home")
    assert unknown.code == 2 and "there is no view home (known: office)" in unknown.err


async def test_files_are_checked_and_imported_without_a_cluster(operator: Operator) -> None:
    file = operator.folder / "example.zone"
    file.write_text("$ORIGIN example.com.\n$TTL 60\n@ SOA ns h 7 9 8 7 6\n@ NS ns\nold CNAME gone\n")
    checked = await operator.types("dns", "check", file, "--json")
    found = json.loads(checked.out)["zones"][0]
    assert checked.code == 1 and found["zone"] == "example.com." and found["findings"][0]["name"] == "old.example.com."
    imported = await operator.types("dns", "import", file)
    assert imported.code == 0 and "- name: example.com\n" in imported.out and "lost: the SOA says" in imported.err
    file.write_text("a A 192.0.2.1\n")
    for command in ("check", "import"):
        refused = await operator.types("dns", command, file)
        assert refused.code == 2 and "next: name the zone: --origin example.com" in refused.err


async def test_a_file_that_is_no_text_is_the_operator_s_mistake(operator: Operator) -> None:
    file = operator.folder / "example.zone"
    file.write_bytes(b"$ORIGIN example.com.\n@ TXT \xff\n")
    for command, given in (("check", file), ("import", file), ("import", "-")):
        refused = await operator.types("dns", command, given, given=file.read_bytes())
        assert refused.code == 2 and f"{given} is not text: byte 27 is not UTF-8" in refused.err
        assert "next: write the zone file as text" in refused.err
