"""One node as a process, for tests: a control plane on etcd and mTLS, and a listener that answers probes.

Run with one argument, a JSON object (see `main`). Prints one JSON line per verdict with the time it was held
(CLOCK_BOOTTIME, which all processes of a machine share), and one per second with who leads.
"""

import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from tests.control.parts import probe

from meridian.control.driver import ControlPlane
from meridian.control.handlers import Handlers
from meridian.control.identity import Identity, Settings
from meridian.control.members import Endpoints
from meridian.control.peers_grpc import GrpcPeers, PeerTls
from meridian.core.verdicts import Verdict
from meridian.store.etcd import EtcdStore
from meridian.store.etcd_members import EtcdTls
from meridian.store.keys import Keys


def clock() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def say(**words: Any) -> None:
    sys.stdout.write(json.dumps({"at": clock(), **words}) + "\n")
    sys.stdout.flush()


def on_verdict(verdict: Verdict) -> None:
    standings = {name: node.standing.name for name, node in verdict.nodes.items()}
    say(fence=verdict.fence, version=verdict.version, standings=standings)


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
    writer.close()


async def main(plan: dict[str, Any]) -> None:
    """`plan`: cluster, name, region, http (host, port), peer (host:port), etcd (URLs), and the files ca, cert, key."""
    ca, cert, key = (Path(plan[name]).read_bytes() for name in ("ca", "cert", "key"))
    store = EtcdStore(plan["etcd"], tls=EtcdTls(ca, cert, key))
    host, port = plan["http"]
    await asyncio.start_server(answer, host, port)
    plane = ControlPlane(
        store,
        Keys(plan["cluster"]),
        Identity(
            plan["name"], plan["region"], str(os.getpid()), (host,), Endpoints(f"{host}:{port}", peer=plan["peer"])
        ),
        Settings(),
        GrpcPeers(plan["peer"], PeerTls(ca, cert, key), clock),
        clock=clock,
        probe_endpoint=probe,
        handlers=Handlers(on_verdict=on_verdict),
    )
    plane.set_regions(["eu", "us", "ap"])
    leaving = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, leaving.set)
    running = asyncio.get_running_loop().create_task(plane.run())
    try:
        while not leaving.is_set() and not running.done():
            status = plane.status()
            say(leader=status.leader, leads=status.leads, seat=status.seat, store=status.store.leader)
            try:
                async with asyncio.timeout(0.1):
                    await leaving.wait()
            except TimeoutError:
                pass
        if leaving.is_set():
            await plane.stop()
            say(left=True)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await store.close()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
