"""The gateway under attack, in a process of its own, so that its memory and its answers are its own:

    python -m tests.hardening.victim SERVICE_PORT FINE_PORT GUARDS_AS_JSON

says its port and the file of its authority, then, for each line that it is given, what it has seen.
"""

import asyncio
import json
import sys
from collections import Counter

import uvloop
from tests.gateway.harness import Running, document, secure, upstream
from tests.support import resident_bytes

from meridian.core.snapshot import Snapshot


def seen(running: Running) -> dict[str, object]:
    """Memory, and why anything was refused or ended."""
    refused = Counter[str]()
    for series in running.gateway.series():
        if series.name == "meridian_refused_total":
            refused[dict(series.labels)["why"]] += int(series.value)
    whys = Counter(outcome.why for outcome in running.seen.outcomes)
    return {
        "resident_bytes": resident_bytes(),
        "refused": refused,
        "whys": whys,
        "connections": running.gateway.connections,
        "active": running.gateway.active,
    }


async def main(service: int, fine: int, guards: dict[str, object]) -> None:
    """Serves until its stdin ends."""

    def make(port: int) -> Snapshot:
        return document(
            port,
            [upstream(service), upstream(fine, name="fine")],
            [
                {"name": "fine", "match": {"path": "/fine"}, "upstream": "fine"},
                {"name": "talk", "match": {"path": "/talk"}, "upstream": "app", "websocket": {}},
                {"name": "all", "upstream": "app"},
            ],
            listener={"guards": guards},
        )

    async with secure(make=make) as (running, ca):
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        sys.stdout.write(f"{running.port} {ca}\n")
        sys.stdout.flush()
        while await reader.readline():
            sys.stdout.write(json.dumps(seen(running)) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3])))
