"""A launcher under test: started as a process, its log read as it comes."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support import ROOT, wait_until

STANDIN = "tests.nodes.standin"
Entry = dict[str, Any]


class Node:
    """A running launcher. `log` grows with every JSON line of its stderr; other lines are kept in `words`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.log: list[Entry] = []
        self.words: list[str] = []

    async def read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            try:
                self.log.append(json.loads(line))
            except ValueError:
                self.words.append(line.decode())

    def entries(self, event: str, **fields: object) -> list[Entry]:
        return [
            entry
            for entry in self.log
            if entry.get("event") == event and all(entry.get(key) == value for key, value in fields.items())
        ]

    async def logged(self, event: str, *, within_seconds: float = 15.0, count: int = 1, **fields: object) -> Entry:
        """Waits for the `count`th log entry of this event with these fields, and returns it."""

        def found() -> Entry | None:
            entries = self.entries(event, **fields)
            if len(entries) >= count:
                return entries[count - 1]
            if self.process.returncode is not None:
                raise EOFError(f"the launcher ended with {self.process.returncode}")
            return None

        try:
            entry = await wait_until(found, within_seconds=within_seconds, what=f"log entry {event} {fields}")
        except (AssertionError, EOFError) as error:
            tail = "\n".join(str(line)[:300] for line in [*self.log[-30:], *self.words[-30:]])
            raise AssertionError(f"{error}\n{tail}") from error
        assert entry is not None
        return entry

    def pid(self, worker: str) -> int:
        """Of the present process of a child."""
        pid: int = self.entries("child started", worker=worker)[-1]["pid"]
        return pid

    async def ended(self, within_seconds: float = 20.0) -> int:
        return await asyncio.wait_for(self.process.wait(), within_seconds)


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def command_name(pid: int) -> str:
    """What ps shows."""
    return Path(f"/proc/{pid}/comm").read_text().strip()


def rss_mb(pid: int) -> float:
    """Resident memory in MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise LookupError(f"no VmRSS of {pid}")


def pss_mb(pid: int) -> float:
    """Proportional set size in MB (proc_pid_smaps(5)): of what processes share, as all forked from one zygote do, each
    weighs its part."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise LookupError(f"no Pss of {pid}")


def show(text: str) -> None:
    """Prints a measured figure; visible with pytest -s."""
    sys.stdout.write(f"\n{text}\n")


@contextlib.asynccontextmanager
async def running(flags: Sequence[str], environment: Mapping[str, str], *, standin: bool = True) -> AsyncIterator[Node]:
    """Runs a launcher with `flags`; kills what is left of it and of its children at the end."""
    modules = [f"--{role}-module={STANDIN}" for role in ("agent", "gateway", "dns")] if standin else []
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "meridian.nodes.launcher", *flags, *modules,
        stderr=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.DEVNULL, limit=2**20, start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )  # fmt: skip
    node = Node(process)
    reader = asyncio.get_running_loop().create_task(node.read())
    try:
        yield node
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        await reader
