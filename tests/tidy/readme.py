"""Runs the commands of a Markdown page, in order, in one bash session, as a reader would.

Every fenced block marked `sh` or `bash` is run (`text`, `yaml`, `console` and others are not). An HTML comment right
before a block says what is special about it, one `word: value` a line:

    <!-- run
    expect: three nodes          text that its output contains; may be repeated
    exit: 1                      its exit status, 0 if not said
    within: 180                  seconds it may take, 120 if not said
    elsewhere: needs a browser   it is not run here, and why
    -->

The session is `bash -e`: the first command that fails ends its block and the page. Variables and the folder last from
block to block, except those of a block that is said to fail, which runs in a subshell. Commands have no terminal.
"""

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

WITHIN_SECONDS = 120.0
OUTPUT_BYTES_MAX = 4 * 1024 * 1024  # of one block; more is cut at its beginning

_FENCE = re.compile(r"^(?P<indent> *)(?P<marks>`{3,}|~{3,})\s*(?P<language>[\w+-]*)[^\n`]*$")
_COMMENT = re.compile(r"^\s*<!--\s*run\b(?P<body>.*?)-->\s*\Z", re.DOTALL)


class PageError(Exception):
    """The page cannot be read, or a block of it did not do what the page says."""


@dataclass(frozen=True, slots=True)
class Block:
    """One block of commands; `line` is where its fence stands in the page."""

    line: int
    text: str
    expect: tuple[str, ...] = ()
    exit_status: int = 0
    within_seconds: float = WITHIN_SECONDS
    elsewhere: str | None = None


@dataclass(slots=True)
class _Fence:
    marks: str
    language: str
    line: int
    before: str
    lines: list[str] = field(default_factory=list)


def parse(page: str) -> list[Block]:
    """All blocks to run, in order; raises PageError for a word in a comment that is not known."""
    blocks: list[Block] = []
    fence: _Fence | None = None
    since_block: list[str] = []
    for number, line in enumerate(page.splitlines(), 1):
        match = _FENCE.match(line)
        if fence is None:
            if match is not None:
                fence = _Fence(match["marks"], match["language"].lower(), number, "\n".join(since_block))
                since_block = []
            else:
                since_block.append(line)
        elif line.strip().startswith(fence.marks) and not line.strip().strip(fence.marks[0]):
            if fence.language in ("sh", "bash"):
                blocks.append(_block(fence))
            fence = None
        else:
            fence.lines.append(line)
    if fence is not None:
        raise PageError(f"line {fence.line}: a block that does not end")
    return blocks


def _block(fence: _Fence) -> Block:
    text = "\n".join(fence.lines) + "\n"
    comment = _COMMENT.search(fence.before[max(0, fence.before.rfind("<!--")) :])
    expect: list[str] = []
    words: dict[str, str] = {}
    for line in comment["body"].splitlines() if comment is not None else ():
        word, colon, value = line.strip().partition(":")
        if not word:
            continue
        if not colon or word not in ("expect", "exit", "within", "elsewhere") or not value.strip():
            raise PageError(
                f"line {fence.line}: {line.strip()!r} is none of expect, exit, within, elsewhere with a value"
            )
        if word == "expect":
            expect.append(value.strip())
        else:
            words[word] = value.strip()
    return Block(
        fence.line,
        text,
        tuple(expect),
        int(words.get("exit", 0)),
        float(words.get("within", WITHIN_SECONDS)),
        words.get("elsewhere"),
    )


async def run(blocks: Sequence[Block], folder: Path, environment: Mapping[str, str], scratch: Path) -> list[str]:
    """Runs the blocks in `folder` and returns the output of each; raises PageError at the first that is not as said.

    `scratch` is an empty folder for the blocks' files. What the blocks left running in the session's own process
    group is killed at the end; what they started as a service is theirs to stop.
    """
    process = await asyncio.create_subprocess_exec(
        "bash", "--noprofile", "--norc", cwd=folder, env=dict(environment), start_new_session=True,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        limit=OUTPUT_BYTES_MAX,
    )  # fmt: skip
    try:
        return [await _run_one(process, number, block, scratch) for number, block in enumerate(blocks)]
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        process._transport.close()  # type: ignore[attr-defined] # asyncio leaves the pipes open until collected


async def _run_one(process: asyncio.subprocess.Process, number: int, block: Block, scratch: Path) -> str:
    if block.elsewhere is not None:
        return ""
    assert process.stdin is not None
    file = scratch / f"block-{number}.sh"
    file.write_text(block.text)
    end = f"--- end of block {number} of {os.urandom(8).hex()}"
    tell = f"s=$?; echo; echo '{end}' $s"
    if block.exit_status == 0:  # errexit ends the shell: the trap says with which status
        trap = tell.replace("$", "\\$")
        command = f'trap "{trap}" EXIT; set -e\n. {file} </dev/null\nset +e; trap - EXIT\n:; {tell}\n'
    else:
        command = f"(set -e; . {file} </dev/null)\n{tell}\n"
    process.stdin.write(command.encode())
    where = f"the block at line {block.line}"
    lines: list[str] = []
    try:
        async with asyncio.timeout(block.within_seconds):
            status = await _read_until(process, end, lines)
    except TimeoutError:
        raise PageError(f"{where} took more than {block.within_seconds:.0f} s:\n{_tail(lines)}") from None
    output = "\n".join(lines)
    if status != block.exit_status:
        raise PageError(f"{where} ended with {status}, not {block.exit_status}:\n{block.text}---\n{_tail(lines)}")
    for text in block.expect:
        if text not in output:
            raise PageError(f"{where} does not say {text!r}:\n{_tail(lines)}")
    return output


async def _read_until(process: asyncio.subprocess.Process, end: str, lines: list[str]) -> int:
    assert process.stdout is not None
    size = 0
    while True:
        raw = await process.stdout.readline()
        line = raw.decode(errors="replace").rstrip("\n")
        if line.startswith(end):
            return int(line[len(end) :])
        if not raw:
            return await process.wait()
        lines.append(line)
        size += len(raw)
        while size > OUTPUT_BYTES_MAX:
            size -= len(lines.pop(0)) + 1


def _tail(lines: list[str]) -> str:
    return "\n".join(lines[-40:])
