"""The kernel's choice among the sockets of a port, by real datagrams."""

import contextlib
import select
import socket
from collections.abc import Iterator

import pytest

from meridian.nodes.reuseport import steer_by_slot


@contextlib.contextmanager
def sharing(count: int, address: str) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        sockets: list[socket.socket] = []
        for _ in range(count):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            sock = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind((address, sockets[0].getsockname()[1] if sockets else 0))
            sockets.append(sock)
        yield sockets


def reached(sockets: list[socket.socket], datagram: bytes, times: int = 8) -> set[int]:
    """Which sockets get a datagram, sent from a new port each time."""
    found = set()
    for _ in range(times):
        with socket.socket(sockets[0].family, socket.SOCK_DGRAM) as client:
            client.sendto(datagram, sockets[0].getsockname())
            (ready,), _, _ = select.select(sockets, [], [], 5)
            assert ready.recv(2000) == datagram
            found.add(sockets.index(ready))
    return found


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("count", [1, 2, 4, 7])
def test_the_first_byte_of_the_connection_id_chooses(count: int, address: str) -> None:
    with sharing(count, address) as sockets:
        steer_by_slot(sockets[0], count)
        for slot in range(count):
            assert reached(sockets, bytes([0x40, slot]) + bytes(20), 4) == {slot}
            assert reached(sockets, bytes([0xC0, 0, 0, 0, 1, 8, slot]) + bytes(1200), 4) == {slot}
        assert reached(sockets, bytes([0xC0, 0, 0, 0, 1, 8, 255]) + bytes(1200), 4) == {255 % count}


def test_what_is_too_short_goes_by_addresses_and_ports() -> None:
    with sharing(4, "127.0.0.1") as sockets:
        steer_by_slot(sockets[0], 4)
        assert len(reached(sockets, b"\x40\x02345678", 64)) > 1  # by chance of one in 10^38
        assert reached(sockets, b"", 4)
