"""Kills nodes of the real local cluster under load, each in turn: `meridian chaos run kill-node`, again and again.

`python -m tests.node_kills --count 20` is a part of scripts/prove. A kill passes by its experiment's own verdict.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from tests.local_cluster import LocalCluster


def main() -> int:
    """Prints a row for each kill; 1 if one failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.node_kills")
    parser.add_argument("--count", type=int, default=20)
    count = parser.parse_args().count
    passed = 0
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
                sys.stdout.write(f"{node}: {_summary(done.stdout) or done.stderr[-300:]}\n")
                sys.stdout.flush()
        finally:
            cluster.down()
    sys.stdout.write(f"{passed} of {count} passed\n")
    return int(passed != count)


def _summary(output: str) -> str:
    """One line of a kill's report."""
    try:
        found = json.loads(output)
    except ValueError:
        return ""
    return "; ".join(f"{check['name']} {check['measured']}" for check in found.get("checks", [])) or output[:300]


if __name__ == "__main__":
    sys.exit(main())
