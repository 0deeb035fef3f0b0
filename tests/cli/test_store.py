"""backup, restore and store defrag against a real admin API."""

import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio
from tests.admin.mounted import mounted
from tests.cli.test_config import Operator

from meridian.control import seating
from meridian.control.identity import cut_for
from meridian.core.granting.seats import Seat
from meridian.store.keys import Keys
from meridian.store.port import DeletePrefix, Put


@pytest_asyncio.fixture
async def operator(tmp_path: Path) -> AsyncIterator[Operator]:
    async with mounted() as api:
        yield Operator(api, tmp_path)


async def test_a_cluster_is_backed_up_lost_and_restored(operator: Operator) -> None:
    file = operator.folder / "cluster.backup"
    assert (await operator.types("apply", operator.file)).code == 0
    saved = await operator.types("backup", file)
    assert saved.code == 0
    assert "keep the cluster key elsewhere" in saved.out
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    again = await operator.types("backup", file)
    assert again.code == 2
    assert "--force" in again.err
    refused = await operator.types("restore", file)
    assert refused.code == 1
    assert "1 versions of the document" in refused.err
    await operator.api.store.txn([], [DeletePrefix(Keys("test").root())])
    restored = await operator.types("restore", file)
    assert restored.code == 0, restored.all
    assert "version 2 is in force, as 1 was" in restored.out
    assert "restored: version 1" in (await operator.types("history")).out


async def test_a_file_that_is_none_or_damaged_is_a_mistake(operator: Operator) -> None:
    missing = await operator.types("restore", operator.folder / "none")
    assert missing.code == 2
    assert "No such file" in missing.err
    other = await operator.types("restore", operator.file)
    assert other.code == 2
    assert "not a backup of Meridian" in other.err


async def test_what_only_an_operator_knows_of_limits_is_written_or_refused(operator: Operator) -> None:
    refused = await operator.types("limits", "settle")
    assert refused.code == 1
    assert "do not wait for anybody" in refused.err
    keys = Keys("test")
    epoch = Put(keys.limit_epoch(), seating.encode(seating.Epoch(cut_for(3, 2), 1, frozen=True)))
    await operator.api.store.txn([], [epoch, Put(keys.limit_seat(0), seating.encode(Seat("gone", "n", True)))])
    assert (await operator.types("limits", "settle")).code == 0
    freed = await operator.types("limits", "free", "gone")
    assert (freed.code, freed.out.split(";")[0]) == (0, "gone gave up 1 home seats")
    again = await operator.types("limits", "free", "gone")
    assert "no home seat is held by a node 'gone'" in again.err


async def test_defrag_shows_each_member(operator: Operator) -> None:
    done = await operator.types("store", "defrag", "--json")
    assert done.code == 0
    assert '"after_bytes": 1024' in done.out
