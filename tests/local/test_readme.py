"""README's commands work as they stand."""

import os
from pathlib import Path

import pytest
from tests.local_cluster import LocalCluster
from tests.support import ROOT
from tests.tidy.readme import Block, parse, run


@pytest.mark.timeout(900)
async def test_readme(tmp_path: Path, local_cluster: LocalCluster) -> None:
    """In this checkout, with its state in a folder of its own."""
    local_cluster.down()  # it has the same addresses
    page = (ROOT / "README.md").read_text()
    blocks = parse(page)
    assert blocks or not page.strip(), "README has no command to try"
    for name in ("state", "blocks"):
        (tmp_path / name).mkdir()
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")}
    environment.pop("MERIDIAN_LOCAL", None)
    try:
        await run(blocks, ROOT, environment, tmp_path / "blocks")
    finally:
        if any("scripts/up" in block.text for block in blocks):
            down = [Block(0, "scripts/down\n")]
            await run(down, ROOT, environment, tmp_path / "blocks")
