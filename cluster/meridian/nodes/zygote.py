"""The process that a node's children are copies of: it has read all their code, once, and forks at the launcher's word.

Why: reading the code takes each child about a second of computing; a copy takes some ten milliseconds, so a worker that
died is back at once, and what all have in common is in memory once. See docs/decisions/0038.

Invariant: at a fork there is one thread and no event loop, no descriptor but the line, and nothing of grpc has begun.
What keeps it: this process imports, and does nothing else. It ends with its line, so with its launcher.
"""

import ctypes
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from meridian.nodes.child import Birth, born, run_child
from meridian.nodes.compiling import warm_up
from meridian.nodes.line import Line, LineClosed, Message
from meridian.nodes.zygotes import ENVIRONMENT


def main() -> None:
    """Serves until the launcher closes the line. In a child it goes on as that child, and ends as it."""
    word = json.loads(os.environ.pop(ENVIRONMENT))
    line = Line(socket.socket(fileno=word["line"]))
    Path("/proc/self/comm").write_text("mrd-zygote")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # they reach the whole group
        signal.signal(number, signal.SIG_IGN)
    _entitle(f"{word['name']}/zygote")
    mains = {role: _main_of(module) for role, module in word["modules"].items()}
    warm_up()
    gc.collect()
    gc.freeze()  # a collector that looks at what is shared would copy it
    gc.enable()
    message, (own, output) = _serve(line)
    line.close()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for stream in (1, 2):
        os.dup2(output, stream)
    os.close(output)
    birth = born({**message["birth"], "line": own})
    _entitle(f"{birth.settings.name}/{birth.label}")
    run_child(mains[birth.role], birth)


def _main_of(module: str) -> Callable[[Birth], int]:
    return importlib.import_module(module).main  # type: ignore[no-any-return]  # every role's module has it


def _entitle(title: str) -> None:
    """Writes over the last argument of the command line, which the launcher has left room in: ps and pgrep read it from
    our own memory (proc_pid_stat(5), arg_end)."""
    room = len(sys.argv[-1])
    end = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[46])
    ctypes.memmove(end - 1 - room, title.ljust(room)[:room].encode(), room)


def _serve(line: Line) -> tuple[Message, list[int]]:
    """Forks at each word of the launcher. Returns in a child only."""
    try:
        while True:
            select.select([line.socket], [], [])
            if (received := line.receive()) is None:
                continue
            message, descriptors = received
            child = _fork()
            if child is None:
                return received
            for descriptor in descriptors:
                os.close(descriptor)
            line.send({"say": "forked", "slot": message["slot"], "pid": child})
    except LineClosed:
        sys.exit(0)


def _fork() -> int | None:
    """Returns the child's pid, 0 if the machine will not, or None in the child.

    The child is not ours: its parent ends at once, so the launcher, which takes in the orphans below it
    (PR_SET_CHILD_SUBREAPER), is told when it ends.
    """
    read, write = os.pipe()
    try:
        between = os.fork()
        if between == 0:
            pid = _forked_or(-1)
            if pid == 0:
                return None
            try:
                os.write(write, max(0, pid).to_bytes(4, "little"))
            finally:
                os._exit(0)  # whatever happens: it must not go on as a second zygote
        os.waitpid(between, 0)
        return int.from_bytes(os.read(read, 4), "little")
    except OSError:
        return 0
    finally:
        os.close(read)
        os.close(write)


def _forked_or(otherwise: int) -> int:
    try:
        return os.fork()
    except OSError:
        return otherwise


if __name__ == "__main__":
    gc.disable()  # nothing that is read here is ever thrown away
    main()
