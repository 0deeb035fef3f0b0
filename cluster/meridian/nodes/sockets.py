"""The sockets that a node listens on. The launcher owns them, so that they outlive every worker.

Invariant: a wanted set is bound as a whole or not at all, and a socket that stays wanted is never closed and opened
anew, so that what waits in its queue is served. A port that another program holds is an error and never a silent
share: SO_REUSEPORT is set only after a bind without it has succeeded.
"""

import contextlib
import errno
import ipaddress
import os
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from meridian.nodes.reuseport import steer_by_slot
from meridian.nodes.settings import Settings

if TYPE_CHECKING:  # it would bring pydantic into the launcher
    from meridian.core.snapshot import Listener

BACKLOG = 1024  # connections that wait while workers restart; the kernel cuts it to net.core.somaxconn
UDP_BUFFER_BYTES = 2 * 1024 * 1024  # a burst of 1,400 datagrams; the kernel cuts it to net.core.rmem_max


@dataclass(frozen=True, slots=True, order=True)
class Wanted:
    """One socket address. `taker` is the role that serves it; `name` is for messages and no part of its identity."""

    taker: str
    kind: str  # "tcp", "udp", "quic" (UDP whose datagrams go to a worker by connection id), "unix"
    host: str  # of "unix" the path, and port is 0
    port: int
    name: str = field(default="", compare=False)

    def to_list(self) -> list[object]:
        """For a message on the line."""
        return [self.taker, self.kind, self.host, self.port, self.name]

    @classmethod
    def of_list(cls, values: list[str | int]) -> "Wanted":
        """Reads what `to_list` wrote."""
        taker, kind, host, port, name = values
        return cls(str(taker), str(kind), str(host), int(port), str(name))


class Sockets:
    """Everything bound, by what was wanted. TCP: one listening socket; UDP: one socket for each slot of its taker.

    `unsteered` says why the kernel does not give datagrams of QUIC to the right worker by itself; "" if it does.
    """

    def __init__(self, slots: Mapping[str, int]) -> None:
        self.unsteered = ""
        self._slots = slots
        self._held: dict[Wanted, list[socket.socket]] = {}

    def want(self, taker: str, wanted: Iterable[Wanted]) -> list[str]:
        """Makes `wanted` the set of `taker`. Returns problems, and then has changed nothing."""
        asked = {entry: entry for entry in wanted}
        bound: dict[Wanted, list[socket.socket]] = {}
        problems = []
        for entry in asked:
            if entry in self._held:
                continue
            try:
                bound[entry] = _bind(entry, self._slots[taker])
            except OSError as error:
                problems.append(_explain(entry, error))
            if entry.kind == "quic" and entry in bound:
                self._steer(bound[entry])
        if problems:
            _close(bound)
            return problems
        gone = {
            entry: self._held.pop(entry) for entry in list(self._held) if entry.taker == taker and entry not in asked
        }
        _close(gone)
        kept = {asked.get(entry, entry): sockets for entry, sockets in self._held.items()}
        self._held = kept | bound
        return []

    def _steer(self, group: list[socket.socket]) -> None:
        try:
            steer_by_slot(group[0], len(group))
        except OSError as error:
            self.unsteered = str(error)

    def of(self, taker: str, slot: int) -> list[tuple[Wanted, socket.socket]]:
        """What the child `slot` of `taker` serves."""
        return [
            (entry, sockets[slot if entry.kind in ("udp", "quic") else 0])
            for entry, sockets in sorted(self._held.items())
            if entry.taker == taker
        ]


def sockets_of_listener(listener: "Listener", settings: Settings) -> list[Wanted]:
    """TCP for h1, h2 and tcp, QUIC for h3, UDP for udp, on the address that this node binds."""
    host = settings.bound_host(listener.host)
    kinds = ["tcp"] if {"h1", "h2", "tcp"} & set(listener.protocols) else []
    kinds += ["quic"] if "h3" in listener.protocols else ["udp"] if "udp" in listener.protocols else []
    return [Wanted("gateway", kind, host, listener.port, listener.name) for kind in kinds]


def sockets_of_dns(settings: Settings) -> list[Wanted]:
    """TCP and UDP on the address that this node binds, both for DNS over TLS and over QUIC, and a Unix socket for what
    the gateway hands on of DNS over HTTPS; none without a port."""
    host = settings.address or "0.0.0.0"
    found = [Wanted("dns", kind, host, settings.dns_port, "--dns-port") for kind in ("tcp", "udp")]
    if settings.dns_tls_port:
        found += [Wanted("dns", kind, host, settings.dns_tls_port, "--dns-tls-port") for kind in ("tcp", "udp")]
    found.append(Wanted("dns", "unix", settings.dns_socket, 0, "--state"))
    return found if settings.dns_port else []


def _bind(wanted: Wanted, slots: int) -> list[socket.socket]:
    """Raises OSError; then nothing stays open."""
    if wanted.kind == "unix":
        return [_open_unix(wanted.host)]
    if wanted.kind == "tcp":
        return [_open(wanted, share=False)]
    _open(wanted, share=False).close()  # finds out whether another program holds the port
    opened: list[socket.socket] = []
    try:
        for _ in range(slots):
            opened.append(_open(wanted, share=True))
    except OSError:
        for sock in opened:
            sock.close()
        raise
    return opened


def _open(wanted: Wanted, *, share: bool) -> socket.socket:
    family = socket.AF_INET6 if ipaddress.ip_address(wanted.host).version == 6 else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM if wanted.kind == "tcp" else socket.SOCK_DGRAM)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if share:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if wanted.kind == "tcp":
            # Without it, connections of the last run in TIME_WAIT would keep the port from this one.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, UDP_BUFFER_BYTES)
        sock.bind((wanted.host, wanted.port))
        if wanted.kind == "tcp":
            sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def _open_unix(path: str) -> socket.socket:
    """A socket that only this user may connect to. One that a process left behind that is gone makes room."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
                other.connect(path)
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        Path(path).unlink(missing_ok=True)
        before = os.umask(0o177)
        try:
            sock.bind(path)
        finally:
            os.umask(before)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def _close(sockets: Mapping[Wanted, list[socket.socket]]) -> None:
    for group in sockets.values():
        for sock in group:
            with contextlib.suppress(OSError):
                sock.close()


def _explain(wanted: Wanted, error: OSError) -> str:
    if wanted.kind == "unix":
        what = "another node uses it" if error.errno == errno.EADDRINUSE else error.strerror
        return f"{wanted.name or wanted.taker}: the socket {wanted.host} cannot be made: {what}"
    host = f"[{wanted.host}]" if ":" in wanted.host else wanted.host
    kind = "tcp" if wanted.kind == "tcp" else "udp"
    where = f"{wanted.name or wanted.taker}: {kind} port {wanted.port} on {host}"
    if error.errno == errno.EADDRINUSE:
        flag = kind[0]
        return f"{where} is taken by another program; see which with: ss -l{flag}np 'sport = :{wanted.port}'"
    if error.errno == errno.EACCES:
        return f"{where} needs privileges: start the node as root with --user, or give it CAP_NET_BIND_SERVICE"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{where}: this machine has no such address; correct it, or say --address"
    return f"{where} cannot be bound: {error.strerror}"
