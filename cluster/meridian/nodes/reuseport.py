"""Which of the sockets that share a QUIC port a datagram goes to: a few instructions of classic BPF, which the kernel
runs for each datagram and which need no privilege (socket(7), SO_ATTACH_REUSEPORT_CBPF).

The first byte of every connection id that we give is the slot of the worker (wire/aioquic_hooks), so that a client that
moves to another address or port still reaches it. Sockets are numbered in the order in which they were bound.

    short header (RFC 9000 section 17.3)   the id's first byte is at 1
    long header (section 17.2)             the id's first byte is at 6; of a new client it is random
    fewer than 9 bytes                     none of ours: by the kernel's own hash of addresses and ports

Either way the byte modulo the number of sockets: that is the slot itself for ids of ours.
"""

import array
import socket
import struct

SO_ATTACH_REUSEPORT_CBPF = 51  # asm-generic/socket.h; Python's socket has no name for it
BY_HASH = 0xFFFFFFFF  # no such socket: the kernel falls back to its hash


def _instructions(sockets: int) -> list[tuple[int, int, int, int]]:
    """Code, jump if true, jump if false, and k, as in linux/filter.h."""
    return [
        (0x80, 0, 0, 0),  # A = length
        (0x35, 0, 7, 9),  # A >= 9, else to the last
        (0x30, 0, 0, 0),  # A = byte 0
        (0x45, 0, 2, 0x80),  # a long header, else over two
        (0x30, 0, 0, 6),  # A = byte 6
        (0x05, 0, 0, 1),  # over one
        (0x30, 0, 0, 1),  # A = byte 1
        (0x94, 0, 0, sockets),  # A %= sockets
        (0x16, 0, 0, 0),  # return A
        (0x06, 0, 0, BY_HASH),
    ]


def steer_by_slot(sock: socket.socket, sockets: int) -> None:
    """Attaches the program to all sockets that share the port of `sock`. Raises OSError if the kernel will not: then it
    goes on by its hash, and workers hand on what is another's."""
    program = array.array("B", b"".join(struct.pack("=HBBI", *one) for one in _instructions(sockets)))
    address, _ = program.buffer_info()
    sock.setsockopt(
        socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, struct.pack("@HP", len(_instructions(sockets)), address)
    )
