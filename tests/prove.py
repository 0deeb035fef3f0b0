"""`scripts/prove`: runs the long forms, writes what was seen to docs/proof.md and commits it.

What is red stays red in the report; the exit code says so too.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tests.local_cluster import LocalCluster
from tests.support import ROOT

REPORT = ROOT / "docs" / "proof.md"
BY_CHANCE = ("tests/simulation", "tests/dns", "tests/gateway/test_disorder.py", "tests/wire", "tests/core")
LINES_KEPT = 30  # of a part's output: enough to see what failed


@dataclass(frozen=True, slots=True)
class Part:
    """One proof: what was typed, how it ended, what it said."""

    title: str
    command: str
    seconds: float
    passed: bool
    said: str


def run(title: str, command: Sequence[str], environment: dict[str, str], timeout_seconds: float) -> Part:
    """Runs a command to its end; a timeout is a failure."""
    begin = time.monotonic()
    try:
        done = subprocess.run(
            command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True,
            timeout=timeout_seconds, check=False,
        )  # fmt: skip
        passed, output = done.returncode == 0, done.stdout + done.stderr
    except subprocess.TimeoutExpired:
        passed, output = False, f"not ended after {timeout_seconds:.0f} s"
    words = " ".join([*(f"{key}={value}" for key, value in environment.items()), *command])
    words = words.replace(sys.executable, "python")
    said = "\n".join(output.strip().splitlines()[-LINES_KEPT:])
    return Part(title, words, time.monotonic() - begin, passed, said)


def kills(count: int) -> Part:
    """`meridian chaos run kill-node`, again and again, each node in turn."""
    begin, rows, passed = time.monotonic(), [], 0
    with tempfile.TemporaryDirectory() as folder:
        cluster = LocalCluster(Path(folder))
        try:
            for turn in range(count):
                cluster.up()
                node = sorted(cluster.nodes())[turn % 3]
                done = cluster.run(
                    "chaos", "run", "kill-node", "--var", f"node={node}", "--json", timeout_seconds=240, check=False
                )
                passed += done.returncode == 0
                rows.append(f"{node}: {summary(done.stdout) or done.stderr[-300:]}")
        finally:
            cluster.down()
    said = "\n".join([f"{passed} of {count} passed", *rows])
    return Part("A node is killed under load", f"{count} x meridian chaos run kill-node --var node=...",
                time.monotonic() - begin, passed == count, said)  # fmt: skip


def summary(output: str) -> str:
    """One line of a kill's report."""
    try:
        found = json.loads(output)
    except ValueError:
        return ""
    return "; ".join(f"{check['name']} {check['measured']}" for check in found.get("checks", [])) or output[:300]


def report(parts: Sequence[Part]) -> Iterator[str]:
    """The page."""
    revision = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    yield "# Proof\n"
    yield f"Written by `scripts/prove` at {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {revision.stdout.strip()},"
    yield f"{platform.system()} {platform.release()}, {os.cpu_count()} cores, Python {platform.python_version()}.\n"
    yield "| proof | result | seconds |"
    yield "| --- | --- | --- |"
    for part in parts:
        yield f"| {part.title} | {'passed' if part.passed else 'FAILED'} | {part.seconds:.0f} |"
    for part in parts:
        yield f"\n## {part.title}\n\n```text\n$ {part.command}\n{part.said}\n```"


def main() -> int:
    """Runs all parts; 1 if one failed."""
    parser = argparse.ArgumentParser(prog="scripts/prove")
    parser.add_argument("--times", type=int, default=20, help="how many times more seeds and examples than in CI")
    parser.add_argument("--kills", type=int, default=20, help="how many nodes are killed")
    parser.add_argument("--applies", type=int, default=1000, help="documents, and twenty upgrades, under load")
    parser.add_argument("--region-kills", type=int, default=67, help="of each of three cases")
    parser.add_argument("--no-commit", action="store_true")
    options = parser.parse_args()
    hours = 3600.0 * 4
    pytest = [sys.executable, "-m", "pytest", "-q", "--timeout", "3600"]
    parts = [
        run("Seeds and fuzzing", [*pytest, *BY_CHANCE], {"MERIDIAN_TIMES": str(options.times)}, hours),
        run(
            "Twenty bad documents and twenty harmless ones",
            [*pytest, "-s", "tests/scenarios/test_rollout.py", "tests/scenarios/test_rollout_samples.py"],
            {"MERIDIAN_TIMES": "2"},
            hours,
        ),
        run(
            "All Terraform modules and examples",
            [*pytest, "tests/deploy/test_terraform_aws.py"],
            {"MERIDIAN_TIMES": "2"},
            hours,
        ),
        run("install.sh in a fresh Debian", ["scripts/prove-install"], {}, 1800),
        run(
            "Applies and upgrades under load",
            [sys.executable, "-m", "tests.nodes.upgrading", "--applies", str(options.applies), "--upgrades", "20"],
            {},
            hours,
        ),
        kills(options.kills),
        run(
            "Whole regions die",
            [
                sys.executable,
                "-m",
                "tests.region_kills",
                "--each",
                str(options.region_kills),
                "--out",
                str(REPORT.parent),
            ],
            {},
            hours,
        ),
        run("A proxy beside nginx", [sys.executable, "-m", "bench.proxy"], {}, 600),
        run("DNS beside a UDP echo", [sys.executable, "-m", "bench.dns_udp"], {}, 600),
    ]
    REPORT.write_text("\n".join(report(parts)) + "\n")
    if not options.no_commit:
        written = [str(REPORT), *(str(path) for path in sorted(REPORT.parent.glob("region-kills.*")))]
        subprocess.run(["git", "add", *written], cwd=ROOT, check=True)
        subprocess.run(["git", "commit", "--quiet", "--message", "Proof", "--", *written], cwd=ROOT, check=True)
    for part in parts:
        sys.stdout.write(f"{'passed' if part.passed else 'FAILED'}  {part.title}\n")
    return 0 if all(part.passed for part in parts) else 1


if __name__ == "__main__":
    sys.exit(main())
