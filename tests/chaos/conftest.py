"""A stand-in lab of three nodes (stand_in.py), which the experiments take for the local cluster."""

import contextlib
import json
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.chaos import stand_in
from tests.chaos.servers import make_authority
from tests.support import free_port

from chaosmeridian.lab import COMMAND, start_part
from chaosmeridian.processes import session_pids

NODES = ("one", "two", "three")
MEMBERS = ("etcd-1", "etcd-2")
StartLab = Callable[..., Path]


@pytest.fixture
def start_lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StartLab]:
    """Starts the lab, broken in the ways that are named; everything ends with the test."""
    monkeypatch.setenv("MERIDIAN_CHAOS", str(tmp_path / "journals"))
    monkeypatch.setenv(COMMAND, shlex.join([sys.executable, str(Path(stand_in.__file__)), str(tmp_path)]))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))

    def start(*broken: str) -> Path:
        nodes = [
            {"name": name, "http": free_port(), "dns": free_port(), "addresses": [f"192.0.2.{number}"]}
            for number, name in enumerate(NODES, 1)
        ]
        lab = {"nodes": nodes, "etcd": MEMBERS, "broken": broken, "ca_file": make_authority(tmp_path).ca_file}
        (tmp_path / "lab.json").write_text(json.dumps(lab))
        for name in (*NODES, *MEMBERS):
            start_part(name)
        return tmp_path

    yield start
    for path in tmp_path.glob("*.pid"):
        for _ in range(2):  # once more for what the launcher started while it was being killed
            for pid in session_pids(int(path.read_text())):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
