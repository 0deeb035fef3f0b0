"""A DNS worker as the launcher starts it, in a process of its own; the test stands where launcher and agent do."""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass

from tests.support import ROOT

from meridian.nodes.channel import Channel
from meridian.nodes.line import pair
from meridian.nodes.settings import Settings
from meridian.nodes.sockets import UDP_BUFFER_BYTES
from meridian_proto.v1.channel_pb2 import Frame, Hello

HOST = "127.0.0.1"
SECONDS_TO_START = 20.0


class _Agent:
    """Hears the worker; knows which version it serves."""

    def __init__(self) -> None:
        self.served: asyncio.Queue[int] = asyncio.Queue()

    def on_hello(self, hello: Hello) -> None:
        """The worker is there."""

    def on_frame(self, frame: Frame) -> None:
        """An acknowledgement, or metrics."""
        if frame.WhichOneof("body") == "config_ack":
            assert not frame.config_ack.refused, frame.config_ack.refused
            self.served.put_nowait(frame.config_ack.version)

    def on_lost(self, reason: str) -> None:
        """The worker is gone."""


@dataclass(frozen=True)
class DnsProcess:
    """A worker that serves: where, its process, and the agent's side of its channel."""

    port: int
    pid: int
    channel: Channel


_RUN = """
import json, os
from meridian.nodes import child, dns_worker
child.run_child(dns_worker.main, child.born(json.loads(os.environ.pop("MERIDIAN_CHILD"))))
"""


@contextlib.asynccontextmanager
async def dns_process(config: Frame, environment: dict[str, str] | None = None) -> AsyncIterator[DnsProcess]:
    """Runs a worker that serves `config` over UDP on a free port of HOST."""
    line, theirs = pair()
    settings = Settings("one", "eu", advertise=(HOST,))
    birth = {
        "role": "dns", "slot": 0, "line": theirs.fileno(), "settings": settings.to_json(), "secret": "",
        "generation": 0, "succeeds": False,
    }  # fmt: skip
    agent = _Agent()
    channel = Channel(lambda: Hello(kind="agent", pid=os.getpid()), agent)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, UDP_BUFFER_BYTES)  # as the launcher's
        udp.bind((HOST, 0))
        port = udp.getsockname()[1]
        process = subprocess.Popen(
            [sys.executable, "-c", _RUN],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            env={**os.environ, **(environment or {}), "MERIDIAN_CHILD": json.dumps(birth)},
        )
        try:
            theirs.close()
            ours, to_worker = socket.socketpair()
            line.send({"say": "sockets", "sockets": [["dns", "udp", HOST, port, ""]]}, [udp])
            line.send({"say": "channel", "kind": "dns", "slot": 0}, [to_worker])
            to_worker.close()
            await channel.attach(ours)
            channel.send(config)
            async with asyncio.timeout(SECONDS_TO_START):
                while await agent.served.get() != config.config.version:
                    pass
            yield DnsProcess(port, process.pid, channel)
        finally:
            channel.close()
            line.close()
            process.kill()
            process.wait(timeout=10)
