"""`scripts/prove`: runs the long forms, writes what was seen to docs/proof/, and commits it.

Each part has a page of its own, with the revision that it was run at, so that one can be run again alone:
`scripts/prove --part kills --part fuzzing`. docs/proof.md is the list of them. What is red stays red there; the exit
code says so too.
"""

import argparse
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from tests.support import ROOT

DOCS = ROOT / "docs"
PAGES = "proof"
BY_CHANCE = ("tests/simulation", "tests/dns", "tests/gateway/test_disorder.py", "tests/wire", "tests/core")
LINES_KEPT = 30  # of a part's output: enough to see what failed
HOURS = 3600.0 * 4
ALONE = ("unshare", "--net", "--", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")
PYTEST = (sys.executable, "-m", "pytest", "-q", "--timeout", "3600")


@dataclass(frozen=True, slots=True)
class Seen:
    """How a part ended: what was typed, and what it said."""

    command: str
    passed: bool
    said: str


@dataclass(frozen=True, slots=True)
class Part:
    """One proof. `name` is its page's."""

    name: str
    title: str
    run: Callable[[], Seen]


def parts_of(options: argparse.Namespace) -> tuple[Part, ...]:
    """All that there is to prove, at the length that was asked for."""
    times = {"MERIDIAN_TIMES": str(options.times)}
    twice = {"MERIDIAN_TIMES": "2"}
    samples = (*PYTEST, "-s", "tests/scenarios/test_rollout.py", "tests/scenarios/test_rollout_samples.py")
    own = (sys.executable, "-m")
    upgrades = (*own, "tests.nodes.upgrading", "--applies", str(options.applies), "--upgrades", str(options.upgrades))
    regions = (*own, "tests.region_kills", "--each", str(options.region_kills), "--out", str(DOCS))
    return (
        Part("seeds", "Seeds and fuzzing", lambda: typed((*PYTEST, *BY_CHANCE), times)),
        Part("rollouts", "Twenty bad documents and twenty harmless ones", lambda: typed(samples, twice)),
        Part("terraform", "All Terraform modules and examples",
             lambda: typed((*PYTEST, "tests/deploy/test_terraform_aws.py"), twice)),
        Part("install", "install.sh in a fresh Debian", lambda: typed(("scripts/prove-install",), alone=False)),
        Part("upgrades", "Applies and upgrades under load", lambda: typed(upgrades)),
        Part("rolling", "Nodes restart one by one, twice, join and leave, under load",
             lambda: typed((*PYTEST, "tests/scenarios/test_rolling.py"), twice)),
        Part("kills", "A node is killed under load",
             lambda: typed((*own, "tests.node_kills", "--count", str(options.kills)))),
        Part("regions", "Whole regions die", lambda: typed(regions)),
        Part("proxy", "A proxy beside nginx", lambda: typed((*own, "bench.proxy"))),
        Part("dns", "DNS beside a UDP echo", lambda: typed((*own, "bench.dns_udp"))),
    )  # fmt: skip


def typed(command: Sequence[str], environment: Mapping[str, str] | None = None, *, alone: bool = True) -> Seen:
    """Runs a command to its end, with nothing but loopback if `alone`; a timeout is a failure."""
    more = dict(environment or {})
    try:
        done = subprocess.run(
            [*(ALONE if alone else ()), *command],
            cwd=ROOT,
            env={**os.environ, **more},
            capture_output=True,
            text=True,
            timeout=HOURS,
            check=False,
        )
        passed, output = done.returncode == 0, done.stdout + done.stderr
    except subprocess.TimeoutExpired:
        passed, output = False, f"not ended after {HOURS:.0f} s"
    words = " ".join([*(f"{key}={value}" for key, value in more.items()), *command])
    words = words.replace(sys.executable, "python").replace(f"{ROOT}/", "")
    return Seen(words, passed, "\n".join(output.strip().splitlines()[-LINES_KEPT:]))


def page(part: Part, seen: Seen, seconds: float, where: str) -> str:
    """A part's page; its third line is its row of the list."""
    result = "passed" if seen.passed else "FAILED"
    row = f"| [{part.title}]({PAGES}/{part.name}.md) | {result} | {seconds:.0f} | {where} |"
    return f"# {part.title}\n\n{row}\n\n```text\n$ {seen.command}\n{seen.said}\n```\n"


def listed(pages: Mapping[str, str], parts: Sequence[Part]) -> Iterator[str]:
    """The lines of the list, from the texts of pages by name."""
    yield "# Proof\n"
    yield "What the long forms of the tests have shown, each on its page, as `scripts/prove` wrote it.\n"
    yield "| proof | result | seconds | seen at |"
    yield "| --- | --- | --- | --- |"
    for part in parts:
        text = pages.get(part.name)
        yield text.splitlines()[2] if text else f"| {part.title} | NOT RUN | | |"


def here() -> str:
    """When, of what revision, on what."""
    command = ("git", "rev-parse", "--short", "HEAD")
    revision = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {revision}, Linux {platform.release()}, "
        f"{os.cpu_count()} cores, Python {platform.python_version()}"
    )


def commit(title: str) -> None:
    """Commits the pages, and nothing else."""
    written = ["docs/proof.md", f"docs/{PAGES}", *(f"docs/{path.name}" for path in sorted(DOCS.glob("region-kills.*")))]
    subprocess.run(["git", "add", *written], cwd=ROOT, check=True)
    subprocess.run(["git", "commit", "--quiet", "--message", title, "--", *written], cwd=ROOT, check=True)


def main() -> int:
    """Runs the parts; 1 if one failed."""
    parser = argparse.ArgumentParser(prog="scripts/prove")
    parser.add_argument("--part", action="append", help="only this one; may be given several times")
    parser.add_argument("--times", type=int, default=20, help="how many times more seeds and examples than in CI")
    parser.add_argument("--kills", type=int, default=20, help="how many nodes are killed")
    parser.add_argument("--applies", type=int, default=1000, help="documents, under load")
    parser.add_argument("--upgrades", type=int, default=20, help="of the software, meanwhile")
    parser.add_argument("--region-kills", type=int, default=67, help="of each of three cases")
    parser.add_argument("--no-commit", action="store_true")
    options = parser.parse_args()
    parts = parts_of(options)
    unknown = set(options.part or ()) - {part.name for part in parts}
    if unknown:
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(part.name for part in parts)}")
    (DOCS / PAGES).mkdir(exist_ok=True)
    failed = False
    for part in parts:
        if options.part and part.name not in options.part:
            continue
        began = time.monotonic()
        seen = part.run()
        failed = failed or not seen.passed
        (DOCS / PAGES / f"{part.name}.md").write_text(page(part, seen, time.monotonic() - began, here()))
        pages = {path.stem: path.read_text() for path in (DOCS / PAGES).glob("*.md")}
        (DOCS / "proof.md").write_text("\n".join(listed(pages, parts)) + "\n")
        sys.stdout.write(f"{'passed' if seen.passed else 'FAILED'}  {part.title}\n")
        sys.stdout.flush()
        if not options.no_commit:
            commit(f"Proof: {part.title}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
