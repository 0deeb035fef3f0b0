"""How long etcd takes when its members stand in different regions: real members, each pair behind relays that delay.

    python -m bench.stretched_etcd [--members 3] [--round-trip-ms 150]

Every member is reached by the others through a relay of this process that holds all bytes back for half a round trip;
clients reach their own region's member at once. Prints times of writes and reads seen from the leader's region and from
another one, and how long a write waits when the leader is killed. One machine, one disk: only the distance is real.
"""

import argparse
import asyncio
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.etcd_cluster import HOST, EtcdCluster
from tests.support import free_port

from meridian.store.etcd import EtcdStore
from meridian.store.etcd_server import etcd_command
from meridian.store.port import StoreError

CALLS = 40
CHUNK_BYTES = 64 * 1024


class Stretched(EtcdCluster):
    """Members whose peers are as far away as `one_way_seconds`."""

    def __init__(self, folder: Path, size: int, one_way_seconds: float) -> None:
        super().__init__(folder, size, mtls=False)
        self._folder_of_logs = folder
        self._one_way_seconds = one_way_seconds
        self._behind = [free_port() for _ in self.members]

    async def start_all(self) -> None:
        """Starts relays and members; returns when all see one leader."""
        for member, port in zip(self.members, self._behind, strict=True):
            far = int(member.peer_url.rpartition(":")[2])
            await asyncio.start_server(lambda r, w, port=port: self._relay(r, w, port), HOST, far)  # type: ignore[misc]
        await asyncio.to_thread(self._start_members)
        await asyncio.to_thread(self.wait_healthy, 30.0)

    def _start_members(self) -> None:
        for member, port in zip(self.members, self._behind, strict=True):
            command = etcd_command(member, self.members, "stretched", log_level="error")
            listen = f"--listen-peer-urls=http://{HOST}:{port}"
            with (self._folder_of_logs / f"{member.name}.log").open("ab") as log:
                process = subprocess.Popen([*command, listen], stdout=log, stderr=log, start_new_session=True)
            self._processes[self.members.index(member)] = process

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
        try:
            other_reader, other_writer = await asyncio.open_connection(HOST, port)
        except ConnectionError:  # the member is not there yet, or no more
            writer.close()
            return
        with contextlib.suppress(asyncio.CancelledError):  # the measurement is over
            await asyncio.gather(self._pump(reader, other_writer), self._pump(other_reader, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Each piece leaves when it has been on its way long enough, however many are under way."""
        loop = asyncio.get_running_loop()
        try:
            while piece := await reader.read(CHUNK_BYTES):
                loop.call_later(self._one_way_seconds, writer.write, piece)
        except ConnectionError:
            pass
        loop.call_later(self._one_way_seconds, writer.close)


async def timed(store: EtcdStore) -> tuple[Sequence[float], Sequence[float]]:
    """Seconds of writes and of reads, each in rising order."""
    writes, reads = [], []
    for n in range(CALLS):
        began = time.monotonic()
        await store.put("/bench/key", b"%d" % n)
        writes.append(time.monotonic() - began)
        began = time.monotonic()
        await store.get("/bench/key")
        reads.append(time.monotonic() - began)
    return sorted(writes), sorted(reads)


async def measure(size: int, round_trip_ms: float, folder: Path) -> None:
    cluster = Stretched(folder, size, round_trip_ms / 2000)
    try:
        await cluster.start_all()
        leader = await asyncio.to_thread(cluster.leader)
        other = (leader + 1) % size
        say(f"{size} members, {round_trip_ms:g} ms between any two")
        for where, number in (("the leader's region", leader), ("another region", other)):
            store = cluster.store([number])
            await store.put("/bench/key", b"")
            for what, rising in zip(("write", "read"), await timed(store), strict=True):
                p50, most = rising[len(rising) // 2], rising[-1]
                say(f"  {what} from {where}: p50 {p50 * 1000:.0f} ms, most {most * 1000:.0f} ms of {CALLS}")
            await store.close()
        rest = [number for number in range(size) if number != leader]
        store = cluster.store(rest)
        await store.put("/bench/key", b"")
        began = time.monotonic()
        await asyncio.to_thread(cluster.kill, leader)
        while True:
            try:
                await store.put("/bench/key", b"after")
                break
            except StoreError:
                await asyncio.sleep(0)
        say(f"  the leader killed: the next write was done {time.monotonic() - began:.1f} s later")
        await store.close()
    finally:
        cluster.stop()


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description="etcd stretched over regions.")
    parser.add_argument("--members", type=int, default=3)
    parser.add_argument("--round-trip-ms", type=float, default=150.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(measure(options.members, options.round_trip_ms, Path(folder)))


if __name__ == "__main__":
    main()
