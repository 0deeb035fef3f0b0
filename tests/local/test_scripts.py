"""The scripts that a stranger runs first, as far as they can be run without making an environment."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support import ROOT


def run(*command: str | Path, folder: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=folder, env=os.environ | environment, timeout=60
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A checkout as far as scripts/lock reads it."""
    for name in ("scripts", "requirements"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def lock_check(copy: Path) -> subprocess.CompletedProcess[str]:
    return run(sys.executable, copy / "scripts/lock", "--check")


def test_the_lock_files_fit(copy: Path) -> None:
    assert lock_check(copy).returncode == 0


@pytest.mark.parametrize(
    ("file", "old", "new", "says"),
    [
        ("pyproject.toml", '"h2>=4.2"', '"h2>=99"', "pyproject.toml wants h2>=99"),
        ("pyproject.toml", '"h2>=4.2"', '"not-there>=1"', "has no not-there"),
        ("requirements/run.txt", "\nh2==", "\nh2==4.2.", "dev.txt"),
        ("requirements/dev.txt", "\nh2==", "\nh2 @ file:///tmp/h2-", "not a pin with hashes"),
        ("requirements/run.txt", "--hash=sha256:", "", "not a pin with hashes"),
    ],
)
def test_a_lock_file_that_does_not_fit_is_told(copy: Path, file: str, old: str, new: str, says: str) -> None:
    text = (copy / file).read_text()
    assert old in text
    (copy / file).write_text(text.replace(old, new))
    ran = lock_check(copy)
    assert ran.returncode == 1
    assert says in ran.stderr
    assert "scripts/lock" in ran.stderr


def test_help_does_nothing_else(tmp_path: Path) -> None:
    ran = run(ROOT / "scripts/up", "--help", folder=tmp_path)
    assert ran.returncode == 0
    assert "scripts/up --detach" in ran.stdout
    assert list(tmp_path.iterdir()) == []


def test_down_before_up_is_one_message(copy: Path) -> None:
    ran = run(copy / "scripts/down")
    assert ran.returncode == 2
    assert ran.stderr == "meridian: there is no local cluster here\n  next: scripts/up\n"


def test_without_root_a_missing_package_is_the_command_to_type(copy: Path) -> None:
    ran = run(
        "bash", "-c", ". scripts/lib.sh; id() { echo 1000; }; need sh=dash no-such-program=etcd-server", folder=copy
    )
    assert ran.returncode == 2
    assert ran.stderr == (
        "meridian: these packages are missing: etcd-server\n"
        "  next: sudo apt-get install --yes --no-install-recommends etcd-server\n"
    )


def test_a_python_that_is_too_old_is_not_taken(copy: Path) -> None:
    tools = copy / "tools"
    tools.mkdir()
    for name in ("bash", "dirname"):
        found = shutil.which(name)
        assert found
        (tools / name).symlink_to(found)
    (tools / "python3").write_text("#!/bin/bash\nexit 1\n")
    (tools / "python3").chmod(0o755)
    ran = run("bash", "-c", ". scripts/lib.sh; base_python", folder=copy, PATH=str(tools))
    assert ran.returncode == 2
    assert "Python 3.11 or newer is needed" in ran.stderr
