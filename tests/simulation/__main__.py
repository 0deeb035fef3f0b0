"""`scripts/simulate`: many seeds on all cores; one seed's story; or the planted bugs and which seed finds each.

A seed that fails is shrunk to few faults, and its story is in the report. docs/simulation.md says how to read one.
"""

import argparse
import logging
import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from multiprocessing import Pool
from pathlib import Path

from tests.simulation.planted_control import PLANTED
from tests.simulation.planted_rollouts import PLANTED_ROLLOUTS
from tests.simulation.seeds import play
from tests.simulation.shrinking import shrink, told

from meridian.control.driver import ControlPlane

BUGS = {bug.__name__: bug for bug in (*PLANTED, *PLANTED_ROLLOUTS)}
BAR_CHARACTERS = 30
STORIES_MAX = 20  # in a report; who has more failures than this reads the first


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 1 if a seed failed, or a bug was not found."""
    parser = argparse.ArgumentParser(prog="scripts/simulate", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=300, help="how many")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first seed; to go on where a run ended")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no seed after so long")
    parser.add_argument("--report", type=Path, help="a file for the report; stdout otherwise")
    parser.add_argument("--seed", type=int, help="tell this one seed's story, shrunk if it fails")
    parser.add_argument("--bug", choices=sorted(BUGS), default="", help="with --seed: under this planted bug")
    parser.add_argument("--planted", action="store_true", help="the first seed that finds each planted bug")
    options = parser.parse_args(arguments)
    logging.disable()  # what nodes log about thousands of deaths
    if options.seed is not None:
        return tell(options.seed, BUGS.get(options.bug, ControlPlane))
    seeds = range(options.first, options.first + options.seeds)
    lines, failed = planted(seeds) if options.planted else many(seeds, options.minutes)
    report = "\n".join(lines) + "\n"
    if options.report is not None:
        options.report.write_text(report)
    else:
        sys.stdout.write(report)
    return int(failed)


def tell(seed: int, plane: type[ControlPlane]) -> int:
    """Prints one seed's story."""
    found = play(seed, plane)
    if found.violations:
        sys.stdout.write(f"{len(found.plan.faults)} faults; shrinking...\n")
        found = shrink(found, plane)
    sys.stdout.write(told(found) + "\n")
    return int(bool(found.violations))


def many(seeds: Sequence[int], minutes: float) -> tuple[list[str], bool]:
    """Plays all seeds, or as many as fit; returns the report's lines, and whether one failed."""
    began = time.monotonic()
    stories, done = [], 0
    with Pool(os.cpu_count()) as pool:
        for done, story in enumerate(pool.imap(story_of, seeds), 1):
            stories += [story] if story else []
            if story:
                sys.stderr.write(f"\r\033[K{story.splitlines()[0]}\n")
            _progress(done, len(seeds), f"{len(stories)} failed")
            if time.monotonic() - began > 60 * minutes:
                break
    seconds = time.monotonic() - began
    lines = [f"{done} seeds from {seeds[0]} in {seconds:.0f} s on {os.cpu_count()} cores: {len(stories)} failed"]
    return [*lines, *stories[:STORIES_MAX]], bool(stories)


def story_of(seed: int) -> str:
    """Returns the story of a seed that fails, shrunk, else nothing."""
    found = play(seed)
    return told(shrink(found)) if found.violations else ""


def planted(seeds: Sequence[int]) -> tuple[list[str], bool]:
    """Seeks each planted bug; returns a table, and whether one was missed."""
    lines, missed = ["| bug | rule | found by | after | what was seen |", "| --- | --- | --- | --- | --- |"], 0
    with Pool(os.cpu_count()) as pool:
        sought = pool.imap_unordered(_finder, [(name, seeds) for name in BUGS])
        for done, (name, seed, said) in enumerate(sought, 1):
            rule = " ".join((BUGS[name].__doc__ or "").split())
            found = f"seed {seed} | {seed - seeds[0] + 1} seeds" if seed is not None else f"MISSED | {len(seeds)} seeds"
            lines.append(f"| {name} | {rule} | {found} | {said} |")
            missed += seed is None
            sys.stderr.write(f"\r\033[K{lines[-1]}\n")
            _progress(done, len(BUGS), f"{missed} missed")
    lines.append(f"\n{len(BUGS) - missed} of {len(BUGS)} found by seeds {seeds[0]} to {seeds[-1]}.")
    return lines, bool(missed)


def _finder(asked: tuple[str, Sequence[int]]) -> tuple[str, int | None, str]:
    name, seeds = asked
    for seed, violations in _finds(name, seeds):
        if violations:
            return name, seed, violations[0]
    return name, None, ""


def _finds(name: str, seeds: Sequence[int]) -> Iterator[tuple[int, Sequence[str]]]:
    for seed in seeds:
        yield seed, play(seed, BUGS[name]).violations


def _progress(done: int, whole: int, said: str) -> None:
    filled = BAR_CHARACTERS * done // whole
    end = "\n" if done == whole else ""
    sys.stderr.write(f"\r[{'#' * filled}{'.' * (BAR_CHARACTERS - filled)}] {done} of {whole}, {said}{end}")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
