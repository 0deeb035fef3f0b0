"""meridian upgrade against a real admin API, whose node goes through an upgrade as a test says."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from tests.admin.mounted import mounted
from tests.cli.test_config import Operator

from meridian.admin.panel import CannotUpgrade, UpgradeReport
from meridian.nodes.upgrade_desk import UpgradeDesk

DRAINING = UpgradeReport(
    number=1, state="draining", old_version="1.0", new_version="1.1", workers=3, draining=2, connections=5
)


class Desk:
    """One report for each look, and the last one again and again."""

    def __init__(self, *reports: UpgradeReport) -> None:
        self.reports = list(reports)
        self.seconds = 0.0

    async def begin(self, seconds: float) -> UpgradeReport:
        self.seconds = seconds
        return self.report()

    def report(self) -> UpgradeReport:
        return self.reports.pop(0) if len(self.reports) > 1 else self.reports[0]


@pytest_asyncio.fixture
async def operator(tmp_path: Path) -> AsyncIterator[Operator]:
    async with mounted() as api:
        yield Operator(api, tmp_path)


async def test_an_upgrade_is_followed_to_its_end(operator: Operator) -> None:
    preparing = UpgradeReport(number=1, state="preparing", old_version="1.0", workers=3)
    over = DRAINING.model_copy(update={"state": "over", "draining": 0, "connections": 7, "cut": 2, "agent": "replaced"})
    desk = operator.api.panel.upgrades = Desk(preparing, DRAINING, over)
    told = await operator.types("upgrade", "--seconds", "20")
    assert told.code == 0 and desk.seconds == 20.0
    assert "1.1 serves; 2 workers of before finish their connections" in told.err
    assert "over: 1.0 -> 1.1, 3 workers" in told.out
    assert "connections of before: 5 finished, 2 cut, 0 workers still finish" in told.out
    assert "agent: replaced" in told.out
    assert json.loads((await operator.types("upgrade", "--status", "--json")).out)["cut"] == 2


async def test_with_detach_it_does_not_wait_for_connections(operator: Operator) -> None:
    operator.api.panel.upgrades = Desk(DRAINING)
    told = await operator.types("upgrade", "--detach")
    assert told.code == 0 and "draining: 1.0 -> 1.1" in told.out


async def test_what_fails_says_why(operator: Operator) -> None:
    failed = UpgradeReport(number=1, state="failed", reason="gateway-0: refuses version 3 of the document: what?")
    operator.api.panel.upgrades = Desk(failed)
    told = await operator.types("upgrade")
    assert told.code == 1 and "the new workers do not serve: gateway-0: refuses version 3" in told.err
    assert "next: the old ones go on" in told.err
    operator.api.panel.upgrades = Desk(DRAINING, UpgradeReport())
    assert "the node started anew" in (await operator.types("upgrade")).err


async def test_a_node_in_one_process_has_nobody_who_could_take_over(operator: Operator) -> None:
    told = await operator.types("upgrade")
    assert told.code == 1 and "`meridian serve` is one process" in told.err
    assert "no upgrade since this node started" in (await operator.types("upgrade", "--status")).out


async def test_the_desk_tells_what_the_launcher_says() -> None:
    asked: list[float] = []

    def ask(seconds: float) -> None:
        asked.append(seconds)
        desk.hear({"say": "upgrade", "number": 1, "state": "preparing", "new_word": 1} if seconds else refusal)

    desk, refusal = UpgradeDesk(ask), {"say": "upgrade", "number": 1, "state": "preparing", "refused": "one is on"}
    assert (await desk.begin(5.0)).state == "preparing" and asked == [5.0]
    try:
        await desk.begin(0.0)
    except CannotUpgrade as error:
        assert str(error) == "one is on"
    else:
        raise AssertionError("refused")
    desk.hear({"say": "upgrade", "number": 1, "state": "over", "cut": 1})
    assert (desk.report().state, desk.report().cut) == ("over", 1)
