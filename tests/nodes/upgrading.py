"""Applies and upgrades of one node under open-loop load over HTTP/1.1, HTTP/2, HTTP/3 and WebSocket: a short form for
CI, the long one by `python -m tests.nodes.upgrading --applies 1000 --upgrades 20`."""

import argparse
import asyncio
import contextlib
import os
import signal
import ssl
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import trustme
from tests.load import Load, offered_load, shown
from tests.nodes.node import Node, running
from tests.nodes.site import Site, until, upstream
from tests.support import free_port
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from chaosmeridian.tally import Tally

RATE = 500
MIX = "h1=40,h1s=30,h2=20,h3=10"  # of the load; WebSocket comes beside
SOCKETS = 20
TALK_SECONDS = 0.4  # between what one client says
ANSWER_SECONDS = 10.0
RETIRE_SECONDS = 3.0  # what old workers get: WebSockets are closed by 1001 then


@dataclass
class Talk:
    """What became of WebSocket clients that say something again and again and want to hear it back."""

    echoed: int = 0
    told_to_go: int = 0  # by 1001: the client opens another
    failures: list[str] = field(default_factory=list)
    stopping: bool = False

    async def run(self, site: Site) -> None:
        async with asyncio.TaskGroup() as tasks:
            for number in range(SOCKETS):
                tasks.create_task(self._client(site, number))

    async def _client(self, site: Site, number: int) -> None:
        context = ssl.create_default_context(cafile=str(site.folder / "ca.pem"))
        turn = 0
        await asyncio.sleep(number * TALK_SECONDS / SOCKETS)
        while not self.stopping:
            try:
                async with connect(f"wss://localhost:{site.web}/ws", ssl=context, open_timeout=10) as socket:
                    while not self.stopping:
                        turn += 1
                        await socket.send(f"{number} {turn}")
                        heard = await asyncio.wait_for(socket.recv(), ANSWER_SECONDS)
                        if heard != f"{number} {turn}":
                            self.failures.append(f"{heard!r} for {number} {turn}")
                        self.echoed += 1
                        await asyncio.sleep(TALK_SECONDS)
            except ConnectionClosed as closed:
                if closed.rcvd is not None and closed.rcvd.code == 1001:
                    self.told_to_go += 1
                else:
                    self.failures.append(repr(closed))
            except (OSError, TimeoutError) as error:
                self.failures.append(repr(error))


@dataclass(frozen=True)
class Seen:
    """What a run has seen."""

    tally: Tally
    talk: Talk
    applies: int
    upgrades: int
    seconds: float

    @property
    def failures(self) -> list[str]:
        http = [shown(self.tally)] if self.tally.failed else []
        return http + self.talk.failures

    def __str__(self) -> str:
        return (
            f"{self.applies} applies, {self.upgrades} upgrades in {self.seconds:.0f} s: {self.tally.offered} requests"
            f" ({self.tally.failed} failed), {self.talk.echoed} WebSocket messages, {self.talk.told_to_go} closed by"
            f" 1001, {len(self.talk.failures)} failed"
        )


@contextlib.asynccontextmanager
async def echo() -> AsyncIterator[int]:
    """A WebSocket service that says what it hears."""

    async def answer(connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for message in connection:
                await connection.send(message)

    async with serve(answer, "127.0.0.1", 0) as server:
        yield next(iter(server.sockets)).getsockname()[1]


def document(site: Site, plain: int, echo_port: int, turn: int) -> str:
    """Each turn differs in a route that nobody asks for."""
    if not (site.folder / "ca.pem").exists():
        authority = trustme.CA()
        certificate = authority.issue_cert("shop.example.com", "localhost", "127.0.0.1")
        certificate.cert_chain_pems[0].write_to_path(str(site.folder / "shop.pem"))
        certificate.private_key_pem.write_to_path(str(site.folder / "shop.key"))
        authority.cert_pem.write_to_path(str(site.folder / "ca.pem"))
    return site.document(
        listeners=[
            {"name": "web", "bind": f"127.0.0.1:{plain}", "protocols": ["h1"]},
            {"name": "secure", "bind": f"127.0.0.1:{site.web}", "protocols": ["h1", "h2", "h3"]},
        ],
        certificates=[{"hosts": ["shop.example.com"], "cert_file": "shop.pem", "key_file": "shop.key"}],
        upstreams=[
            {"name": "app", "endpoints": [{"address": f"127.0.0.1:{site.upstream}"}]},
            {"name": "echo", "endpoints": [{"address": f"127.0.0.1:{echo_port}"}]},
        ],
        routes=[
            {"name": "ws", "match": {"path": "/ws"}, "upstream": "echo", "websocket": {}},
            {"name": f"turn{turn}", "match": {"path": f"/turn{turn}"}, "upstream": "app"},
            {"name": "all", "match": {"path_prefix": "/"}, "upstream": "app"},
        ],
    )


async def run(folder: Path, *, applies: int, upgrades: int, kill: bool = False, rate: int = RATE) -> Seen:
    """Offers the load while the node is upgraded between applies. `kill` disables the hand-over: old workers are killed
    as soon as the new ones are there."""
    plain = free_port()
    async with upstream() as port, echo() as echo_port:
        site = Site(folder, port)
        async with running(site.flags(), {}, standin=False) as node:
            await node.logged("child ready", worker="agent", within_seconds=40)
            await until(lambda: site.call("GET", "/v1/status"), "admin API", 40)
            await site.apply(document(site, plain, echo_port, 0))
            await until(lambda: node.logged("listener serves", count=4), "both workers serve", 20)
            talk, began = Talk(), time.monotonic()
            targets = [f"{name}=127.0.0.1:{site.web}" for name in ("h1s", "h2", "h3")] + [f"h1=127.0.0.1:{plain}"]
            seconds = 60.0 + applies + upgrades * 60.0  # it is stopped before
            async with asyncio.TaskGroup() as tasks:
                with offered_load(
                    targets, seconds=seconds, rate=rate, ca_file=str(folder / "ca.pem"), mix=MIX, host="localhost"
                ) as load:
                    tasks.create_task(talk.run(site))
                    await _turns(site, node, plain, echo_port, applies, upgrades, kill)
                    talk.stopping = True
                    tally = await _stopped(load)
    return Seen(tally, talk, applies, upgrades, time.monotonic() - began)


async def _stopped(load: Load) -> Tally:
    return await asyncio.to_thread(load.stop)  # the upstream lives on this loop


async def _turns(
    site: Site, node: Node, plain: int, echo_port: int, applies: int, upgrades: int, kill: bool
) -> None:  # fmt: skip
    done = 0
    for turn in range(applies):
        await site.apply(document(site, plain, echo_port, turn + 1))
        if done < upgrades and (turn + 1) * upgrades // applies > done:
            done += 1
            await upgrade(site, node, kill=kill)


async def upgrade(site: Site, node: Node, *, kill: bool = False) -> dict[str, object]:
    """One upgrade to its end; returns the report."""
    old = [node.pid(f"gateway-{slot}") for slot in range(2)]
    found: dict[str, object] = await site.call("POST", f"/v1/upgrade?seconds={RETIRE_SECONDS}")
    number = found["number"]
    while found["state"] not in ("over", "failed"):
        if kill and found["state"] == "draining":
            for pid in old:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(0.05)
        found = await site.call("GET", "/v1/upgrade")
    assert found["state"] == "over" and found["number"] == number, found
    return found


def main() -> int:
    """Runs the long form."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--applies", type=int, default=1000)
    parser.add_argument("--upgrades", type=int, default=20)
    parser.add_argument("--rate", type=int, default=RATE, help="requests per second")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seen = asyncio.run(run(Path(folder), applies=options.applies, upgrades=options.upgrades, rate=options.rate))
    sys.stdout.write(f"{seen}\n")
    for failure in seen.failures[:10]:
        sys.stdout.write(f"{failure}\n")
    return 1 if seen.failures else 0


if __name__ == "__main__":
    sys.exit(main())
