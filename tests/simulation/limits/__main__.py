"""Runs many seeds: `python -m tests.simulation.limits [--seeds N] [--from N] [--planted NAME | --utilisation]`."""

import argparse
import sys

from tests.simulation.limits.planted import PLANTED
from tests.simulation.limits.scenario import play
from tests.simulation.limits.utilisation import measure


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.limits")
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--from", type=int, default=0, dest="first")
    parser.add_argument("--planted", default="", help="a planted bug by name, or 'all': the first seed that finds it")
    parser.add_argument("--utilisation", action="store_true")
    options = parser.parse_args()
    seeds = range(options.first, options.first + options.seeds)
    if options.utilisation:
        found = [measure(seed) for seed in seeds]
        for seed, one in zip(seeds, found, strict=True):
            sys.stdout.write(f"{seed}: {one}\n")
        parts = [one.admitted for one in found]
        sys.stdout.write(f"least {min(parts):.3f}, mean {sum(parts) / len(parts):.3f}\n")
        return 0
    if options.planted:
        missed = 0
        for bug in PLANTED:
            if options.planted in ("all", bug.__name__):
                finder = next((seed for seed in seeds if play(seed, bug()).violations), None)
                missed += finder is None
                sys.stdout.write(f"{bug.__name__}: {'missed' if finder is None else f'seed {finder}'}\n")
                sys.stdout.flush()
        return missed
    failed = 0
    for seed in seeds:
        world = play(seed)
        if world.violations:
            failed += 1
            sys.stdout.write(f"seed {seed}: {world.violations}; {world.faults_done}\n")
            sys.stdout.flush()
    sys.stdout.write(f"{failed} of {len(seeds)} seeds went above the bound\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
