"""Copies on disk: what comes back is what this node saved."""

from pathlib import Path

import pytest

from meridian.nodes.snapshot_disk import FolderDisk

KEY = b"k" * 32


def modes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}


async def test_what_was_saved_last_comes_back_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    disk = FolderDisk(tmp_path / "state", KEY, "one")
    assert await disk.load("config") is None
    await disk.save("config", b"first")
    await disk.save("config", b"second" * 100_000)
    assert await FolderDisk(tmp_path / "state", KEY, "one").load("config") == b"second" * 100_000
    assert modes(tmp_path / "state") == {"config": 0o600}


@pytest.mark.parametrize("at", [0, 31, 32, -1])
async def test_a_copy_that_was_changed_is_refused(tmp_path: Path, at: int, capsys: pytest.CaptureFixture[str]) -> None:
    disk = FolderDisk(tmp_path, KEY, "one")
    await disk.save("config", b"content")
    copy = bytearray((tmp_path / "config").read_bytes())  # a test's own small file
    copy[at] ^= 1
    (tmp_path / "config").write_bytes(copy)  # as above
    assert await disk.load("config") is None
    assert "does not verify" in "".join(capsys.readouterr())


async def test_a_copy_is_of_one_name_one_node_and_one_cluster(tmp_path: Path) -> None:
    await FolderDisk(tmp_path, KEY, "one").save("seat", b"3")
    (tmp_path / "config").write_bytes((tmp_path / "seat").read_bytes())  # a test's own small file
    assert await FolderDisk(tmp_path, KEY, "one").load("config") is None
    assert await FolderDisk(tmp_path, KEY, "two").load("seat") is None
    assert await FolderDisk(tmp_path, b"o" * 32, "one").load("seat") is None
    assert await FolderDisk(tmp_path, KEY, "one").load("seat") == b"3"


async def test_an_interrupted_save_harms_nothing(tmp_path: Path) -> None:
    disk = FolderDisk(tmp_path, KEY, "one")
    await disk.save("config", b"good")
    (tmp_path / ".config.new").write_bytes(b"half")  # a test's own small file
    assert await disk.load("config") == b"good"
    await disk.save("config", b"better")
    assert await disk.load("config") == b"better"
