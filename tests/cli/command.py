"""Runs the `meridian` command as a person would: a process, its exit code, what it prints."""

import asyncio
import os
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def all(self) -> str:
        return self.out + self.err


async def run(
    *arguments: str | Path, state: Path, timeout_seconds: float = 60.0, given: bytes = b"", **environment: str
) -> Ran:
    """Runs `meridian ARGUMENTS` with its local state in `state` and no other setting of this machine.

    `given` is what it reads from standard input.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MERIDIAN_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "meridian.cli.main",
        *map(str, arguments),
        env=inherited | {"MERIDIAN_LOCAL": str(state)} | environment,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(given), timeout_seconds)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    assert process.returncode is not None
    return Ran(process.returncode, out.decode(), err.decode())
