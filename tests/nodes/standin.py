"""A child of the launcher without the real rooms: agent, gateway and dns in one small module, for the launcher's tests.

The gateway answers every line `NAME` with `LABEL PID NAME`; the agent asks for the sockets in STANDIN_LISTEN (JSON)
and sends a verdict whose version is its pid over every channel; the dns worker answers datagrams with its pid.

A successor is prepared at once, unless the file in STANDIN_UPGRADE says `failed` (it says so), `dies` or `silent`.
"""

import asyncio
import contextlib
import json
import os
import socket
import sys
from pathlib import Path

from meridian.nodes import logs
from meridian.nodes.channel import Channel
from meridian.nodes.child import BadStart, Birth, Post
from meridian.nodes.line import Message
from meridian_proto.v1.channel_pb2 import Frame, Hello
from meridian_proto.v1.health_pb2 import Verdict


class Standin:
    def __init__(self, birth: Birth) -> None:
        self.birth = birth
        self.post = Post(birth, self.on_message, self.on_leave)
        self.ended = asyncio.Event()
        self.servers: list[asyncio.Server] = []
        self.open = 0
        self.idle = asyncio.Event()
        self.idle.set()
        self.grace_seconds = 0.0
        self.channels: dict[tuple[str, int], Channel] = {}
        self.tasks = asyncio.TaskGroup()

    async def run(self) -> None:
        async with self.tasks:
            self.post.say("ready", version="1")
            if self.birth.succeeds:
                self.prepare()
            if self.birth.role == "agent":
                self.ask()
            await self.ended.wait()
            for server in self.servers:
                server.close()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.grace_seconds):
                    await self.idle.wait()
            for channel in self.channels.values():
                channel.close()

    def prepare(self) -> None:
        order = os.environ.get("STANDIN_UPGRADE")
        match Path(order).read_text() if order is not None else "":
            case "failed":
                self.post.say("failed", reason="it was told to fail")
            case "dies":
                os._exit(3)
            case "silent":
                pass
            case _:
                self.post.say("prepared", version="2")

    async def retire(self, seconds: float) -> None:
        for server in self.servers:
            server.close()
        found = self.open
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.idle.wait()
        self.post.say("finished", connections=found, cut=self.open)
        self.ended.set()

    def ask(self) -> None:
        self.post.say("listen", sockets=json.loads(Path(os.environ["STANDIN_LISTEN"]).read_text()))

    def on_message(self, message: Message, sockets: list[socket.socket]) -> None:
        match message["say"]:
            case "sockets":
                self.tasks.create_task(self.serve(message, sockets))
            case "channel":
                key = (message["kind"], message["slot"])
                channel = self.channels.setdefault(key, Channel(self.hello, self))
                if self.birth.role == "agent":
                    channel.send(Frame(verdict=Verdict(version=os.getpid())))
                self.tasks.create_task(channel.attach(sockets[0]))
            case "drain" if self.birth.role == "agent":
                self.post.say("left", linger_seconds=float(os.environ.get("STANDIN_LINGER", "0")))
            case "drain":
                logs.log("info", "standin tells its clients to go")
            case "succeed":
                self.post.say("inherited", limits=True)
            case "retire":
                self.tasks.create_task(self.retire(message["seconds"]))
            case "upgrade" if message["number"]:
                logs.log("info", "standin upgrade", state=message["state"], refused=message.get("refused", ""))
            case "refused":
                logs.log("error", "standin refused", problems=message["problems"])

    async def serve(self, message: Message, sockets: list[socket.socket]) -> None:
        for (_, kind, _, _, name), sock in zip(message["sockets"], sockets, strict=True):
            if kind in ("tcp", "unix"):
                self.servers.append(await asyncio.start_server(self.answer, sock=sock, backlog=1024))
            else:
                loop = asyncio.get_running_loop()
                await loop.create_datagram_endpoint(lambda: Datagrams(), sock=sock)
            logs.log("info", "standin serves", name=name)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        self.idle.clear()
        try:
            while asked := await reader.readline():
                writer.write(f"{self.birth.label} {os.getpid()} ".encode() + asked)
                if asked == b"hang up\n":
                    break
        finally:
            self.open -= 1
            if not self.open:
                self.idle.set()
            writer.close()

    def on_leave(self, grace_seconds: float) -> None:
        self.grace_seconds = grace_seconds
        self.ended.set()

    def hello(self) -> Hello:
        return Hello(kind=self.birth.role, slot=self.birth.slot, pid=os.getpid())

    def on_hello(self, hello: Hello) -> None:
        logs.log("info", "standin hello", kind=hello.kind, slot=hello.slot, pid=hello.pid)

    def on_frame(self, frame: Frame) -> None:
        logs.log("info", "standin frame", version=frame.verdict.version)

    def on_lost(self, reason: str) -> None:
        logs.log("info", "standin lost", reason=reason)


class Datagrams(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]  # it is one
        self.transport = transport

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        self.transport.sendto(str(os.getpid()).encode(), address)


def main(birth: Birth) -> int:
    if os.environ.get("STANDIN_FAIL") == birth.role:
        raise BadStart("the stand-in was told to fail")
    if noise := int(os.environ.get("STANDIN_NOISE", "0")):
        sys.stderr.write(("x" * 1000 + "\n") * noise + "y" * 40_000 + "\n")
        sys.stderr.flush()

    async def run() -> None:
        await Standin(birth).run()

    asyncio.run(run())
    return 0
