"""Open-loop DNS load in a process of its own: queries leave at fixed times, whatever comes back and when.

Replies carry the kernel's time of arrival, so what delays this process is not taken for the server's delay.

    python -m tests.dns.offered HOST:PORT --rate 10000 --seconds 3 --names 200 --zone gw.example.com

Prints a JSON line when it begins to send, and one at the end: `asked`, `answered`, `wrong` (no NOERROR or no answer),
and `changes`: when (CLOCK_MONOTONIC) the last answer with one first address and the first with another arrived.
"""

import argparse
import itertools
import json
import random
import selectors
import socket
import struct
import sys
import time
from dataclasses import dataclass

from meridian_dns.names import name_from_text

SO_TIMESTAMPNS = 35
TIMESPEC = struct.Struct("@qq")
SUBNETS = 200  # client networks in turn
GRACE_SECONDS = 1.0  # for the last replies
QUESTION_AT = 12
BEFORE_ADDRESS = 2 + 10  # of an answer: the owner as a pointer; type, class, TTL and length


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply: when it came (CLOCK_MONOTONIC), the first address in it, or nothing if it is not a good answer."""

    came: float
    number: int
    address: bytes


def queries(zone: str, names: int) -> list[bytes]:
    """Questions for `names` steered names from many client networks, without their ids."""
    made = []
    for index in range(names):
        question = name_from_text(f"n{index}.{zone}") + b"\0\1\0\1"
        for subnet in random.Random(index).sample(range(SUBNETS), 5):
            option = b"\0\x08\0\x07\0\1\x18\0" + bytes((10, 0, subnet))
            opt = b"\0\0\x29\x04\xd0\0\0\0\0" + len(option).to_bytes(2, "big") + option
            made.append(b"\1\0\0\1\0\0\0\0\0\1" + question + opt)
    random.Random(0).shuffle(made)
    return made


def read(sock: socket.socket, offset: float, replies: list[Reply]) -> None:
    """Takes all that waits at the socket. `offset`: from CLOCK_REALTIME to CLOCK_MONOTONIC."""
    while True:
        try:
            data, ancillary, _, _ = sock.recvmsg(2048, 64)
        except BlockingIOError:
            return
        seconds, nanoseconds = TIMESPEC.unpack(ancillary[0][2])
        at = data.index(0, QUESTION_AT) + 5 + BEFORE_ADDRESS
        good = not data[3] & 0xF and data[6:8] != b"\0\0"
        number = int.from_bytes(data[:2], "big")
        replies.append(Reply(seconds + nanoseconds / 1e9 + offset, number, data[at : at + 4] if good else b""))


def offer(host: str, port: int, rate: float, seconds: float, asked: list[bytes]) -> list[Reply]:
    """Sends `rate` queries a second for `seconds`, and returns the replies in order of arrival."""
    replies: list[Reply] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, selectors.DefaultSelector() as selector:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        sock.setblocking(False)
        sock.connect((host, port))
        selector.register(sock, selectors.EVENT_READ)
        offset = time.clock_gettime(time.CLOCK_MONOTONIC) - time.clock_gettime(time.CLOCK_REALTIME)
        begin, sent = time.monotonic(), 0
        while (now := time.monotonic()) < begin + seconds + GRACE_SECONDS:
            due = min(int((now - begin) * rate), int(seconds * rate))
            for number in range(sent, due):
                sock.send((number % 65536).to_bytes(2, "big") + asked[number % len(asked)])
                if number % 64 == 0:
                    read(sock, offset, replies)
            sent = due
            selector.select(0.001)
            read(sock, offset, replies)
            if len(replies) == int(seconds * rate):
                break
    return replies


def changes(replies: list[Reply]) -> list[dict[str, object]]:
    """Each time that answers went from one address to another: the last of the one, the first of the other."""
    ordered = sorted(replies, key=lambda reply: reply.came)
    return [
        {"from": before.address.hex(), "to": after.address.hex(), "last": before.came, "first": after.came}
        for before, after in itertools.pairwise(ordered)
        if before.address != after.address
    ]


def main() -> None:
    """Offers the load and prints what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.dns.offered")
    parser.add_argument("server")
    parser.add_argument("--rate", type=float, default=10_000)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--names", type=int, default=200)
    parser.add_argument("--zone", default="gw.example.com")
    options = parser.parse_args()
    assert options.rate * options.seconds <= 65536, "one id for each query"
    host, _, port = options.server.rpartition(":")
    asked = queries(options.zone, options.names)
    sys.stdout.write(json.dumps({"begins": time.monotonic()}) + "\n")
    sys.stdout.flush()
    replies = offer(host, int(port), options.rate, options.seconds, asked)
    result = {
        "asked": int(options.rate * options.seconds),
        "answered": len({reply.number for reply in replies}),
        "wrong": sum(not reply.address for reply in replies),
        "changes": changes(replies),
    }
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
