"""How much CPU one DNS query costs: one server process beside a plain UDP echo on the same kind of loop.

    .venv/bin/python bench/dns_udp.py [--seconds 1.5] [--rounds 7] [--loop uvloop]
                                      [--kinds echo,dns,dns-full,dns-signed,dns-denied]

Kinds: `echo` sends each datagram back from the same add_reader loop as the server's; `echo-protocol` does it by
asyncio's DatagramProtocol; `dns` is the server with its fast path; `dns-full` the same questions with an additional
record that only the full path reads; `dns-signed` the same with DO, answered with signatures that were made before;
`dns-denied` asks, with DO, for names that do not exist and were not asked for lately: one signature each. The client
keeps a window of queries open, a thousand client subnets in turn. CPU is the server process's own
(/proc/PID/schedstat). All kinds take turns, round after round, and the median of each is told: who else runs on the
machine takes caches away, and that is in single rounds by half.
"""

import argparse
import asyncio
import json
import os
import random
import socket
import subprocess
import sys
import time
from pathlib import Path

import uvloop

from meridian_dns.names import name_from_text
from meridian_dns.server import DnsServer, Doors
from meridian_dns.signing import (
    ECDSA_P256,
    ENTRY_POINT,
    KeySet,
    KeyUse,
    Signatures,
    Signer,
    SigningKey,
    generate_der,
)
from meridian_dns.steering import Steer
from meridian_dns.view import Member, Region, RegionView
from meridian_dns.zone import ZoneSet
from meridian_dns.zone_building import RecordSpec, build_zone

WINDOW = 64
SUBNETS = 1000
SIGNED = ("dns-signed", "dns-denied")
DENIED = 20_000  # names in turn: more than the signatures of missing names that a server keeps


def holdings(kind: str) -> tuple[ZoneSet, RegionView]:
    """Three regions of two members, one steered name."""
    near = {"eu": ("continent/EU", "10.0.0.0/9"), "us": ("continent/NA", "10.128.0.0/9"), "asia": ("continent/AS",)}
    regions = {
        name: Region(
            name, tuple(Member(f"{name}{i}", (f"192.0.2.{10 * n + i}",), True) for i in (1, 2)), True, near=net
        )
        for n, (name, net) in enumerate(near.items())
    }
    shop = RecordSpec("shop", "A", 30, None, Steer("geo", tuple(regions)))
    signer = None
    if kind in SIGNED:
        key = SigningKey.from_der(ECDSA_P256, ENTRY_POINT, generate_der(ECDSA_P256))
        keys = KeySet((KeyUse(key, True, True),))
        signer = Signer(name_from_text("gw.example.com"), keys, signatures=Signatures(lambda: 1_800_000_000))
    zone = build_zone("gw.example.com", ["ns1.gw.example.com"], [shop], serial=1, signer=signer)
    return ZoneSet([zone]), RegionView(1, regions)


def queries(kind: str) -> list[bytes]:
    """The same question by many client subnets; ids and case vary, as resolvers make them."""
    chance = random.Random(7)
    made = []
    full_path = kind == "dns-full"
    flags = b"\x80" if kind in SIGNED else b"\0"
    for index in range(DENIED if kind == "dns-denied" else SUBNETS):
        label = f"x{chance.randrange(10**9)}" if kind == "dns-denied" else "shop"
        name = "".join(chance.choice((c.upper(), c)) for c in f"{label}.gw.example.com").encode()
        labels = b"".join(bytes((len(label),)) + label for label in name.split(b".")) + b"\0"
        subnet = b"\0\1\x18\0" + bytes((10, chance.randrange(256), index % 256))
        opt = (
            b"\0\0\x29\x04\xd0\0\0"
            + flags
            + b"\0"
            + (len(subnet) + 4).to_bytes(2, "big")
            + b"\0\x08\0"
            + bytes((len(subnet),))
        )
        counts = b"\0\1\0\0\0\0\0" + (b"\2" if full_path else b"\1")
        extra = b"\0\0\x0a\0\1\0\0\0\0\0\0" if full_path else b""
        made.append((index % 65536).to_bytes(2, "big") + b"\0\0" + counts + labels + b"\0\1\0\1" + opt + subnet + extra)
    return made


class EchoProtocol(asyncio.DatagramProtocol):
    """The other way to receive, for comparison."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.transport.sendto(data, addr)  # type: ignore[attr-defined]  # a DatagramTransport


async def serve(kind: str, sock: socket.socket) -> None:
    """Serves until killed."""
    loop = asyncio.get_running_loop()
    if kind == "echo":

        def drain() -> None:
            for _ in range(64):
                try:
                    data, peer = sock.recvfrom(4096)
                except BlockingIOError:
                    return
                sock.sendto(data, peer)

        loop.add_reader(sock, drain)
        await loop.create_future()
    elif kind == "echo-protocol":
        await loop.create_datagram_endpoint(EchoProtocol, sock=sock)
        await loop.create_future()
    else:
        zones, view = holdings(kind)
        await DnsServer(zones, view, None).serve(Doors(udp=[sock]))


def cpu_seconds(pid: int) -> float:
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def measure(kind: str, loop: str, seconds: float) -> dict[str, float | str]:
    """Runs one server of `kind` and loads it for `seconds`."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.setblocking(False)
    address = sock.getsockname()
    command = [sys.executable, __file__, "--serve", kind, "--fd", str(sock.fileno()), "--loop", loop]
    server = subprocess.Popen(command, pass_fds=[sock.fileno()])
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.connect(address)
            client.settimeout(5)
            asked = queries(kind)
            for query in asked:  # warm: every subnet once, and the server has started
                client.send(query)
                client.recv(4096)
            client.settimeout(0.5)
            began, cpu = time.monotonic(), cpu_seconds(server.pid)
            sent = received = lost = 0
            while time.monotonic() - began < seconds:
                while sent - received - lost < WINDOW:
                    client.send(asked[sent % len(asked)])
                    sent += 1
                try:
                    for _ in range(WINDOW // 2):
                        client.recv(4096)
                        received += 1
                except TimeoutError:
                    lost = sent - received
            took, cpu = time.monotonic() - began, cpu_seconds(server.pid) - cpu
    finally:
        server.kill()
        server.wait()
        sock.close()
    return {
        "kind": kind,
        "loop": loop,
        "queries_per_second": round(received / took),
        "cpu_us_per_query": round(cpu / received * 1e6, 2),
        "lost": lost,
    }


def median(rounds: list[dict[str, float | str]]) -> dict[str, float | str]:
    """The round of the median CPU."""
    return sorted(rounds, key=lambda result: float(result["cpu_us_per_query"]))[len(rounds) // 2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop")
    parser.add_argument("--kinds", default="echo,dns")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--fd", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        sock = socket.socket(fileno=os.dup(options.fd))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop if options.loop == "uvloop" else None) as runner:
            runner.run(serve(options.serve, sock))
        return
    kinds = options.kinds.split(",")
    rounds = [[measure(kind, options.loop, options.seconds) for kind in kinds] for _ in range(options.rounds)]
    results = [median([*column]) for column in zip(*rounds, strict=True)]
    for result in results:
        result["cpu_beside_first"] = round(float(result["cpu_us_per_query"]) / float(results[0]["cpu_us_per_query"]), 2)
        print(json.dumps(result))


if __name__ == "__main__":
    main()
