"""What every test may lean on: waiting for a condition with a deadline, free ports, child processes that end."""

import asyncio
import contextlib
import inspect
import os
import signal
import socket
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

ROOT = Path(__file__).resolve().parent.parent


async def wait_until(
    condition: Callable[[], T | Awaitable[T]],
    *,
    within_seconds: float,
    what: str,
    every_seconds: float = 0.02,
) -> T:
    """Polls `condition` until it is truthy and returns its value; raises AssertionError naming `what` at the deadline.

    An exception from the condition counts as "not yet" and is shown if the deadline passes.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_seconds
    last: object = None
    while True:
        try:
            value = condition()
            if inspect.isawaitable(value):
                value = await value
            if value:
                return value
            last = value
        except (OSError, AssertionError, LookupError, RuntimeError) as error:
            last = error
        if loop.time() > deadline:
            raise AssertionError(f"not within {within_seconds} s: {what} (last: {last!r})")
        await asyncio.sleep(every_seconds)


def free_port(host: str = "127.0.0.1") -> int:
    """Returns a TCP port that was free on `host` a moment ago, for programs that cannot bind port 0."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def child_process(*command: str, **options: object) -> Iterator[subprocess.Popen[bytes]]:
    """Runs `command` in a process group of its own and kills that group at the end, whatever happened."""
    process = subprocess.Popen(command, start_new_session=True, **options)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=10)


def resident_bytes() -> int:
    """Memory that this process has (proc(5), statm)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
