"""A server on real sockets, on a loop of its own in a thread, so that blocking clients can ask it."""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import uvloop

from meridian_dns.quic import ChooseCertificate
from meridian_dns.server import DnsServer, Doors

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


@dataclass
class Running:
    """Where a server listens, and how to run something on its loop."""

    server: DnsServer
    host: str
    port: int
    loop: asyncio.AbstractEventLoop
    tls_port: int = 0
    quic_port: int = 0

    def on_loop(self, action: Callable[[], object]) -> None:
        """Runs `action` on the server's loop and waits for it."""
        done = threading.Event()

        def run() -> None:
            action()
            done.set()

        self.loop.call_soon_threadsafe(run)
        assert done.wait(5)


@contextlib.contextmanager
def running(
    server: DnsServer,
    *,
    loop: str = "uvloop",
    hosts: tuple[str, ...] = ("127.0.0.1",),
    tls_context: ssl.SSLContext | None = None,
    choose_certificate: ChooseCertificate | None = None,
    https_path: str | None = None,
) -> Iterator[Running]:
    """Serves UDP and TCP on one free port at all `hosts`; the first is `Running.host`. With a context also TLS, with
    certificates also QUIC, with a path a Unix socket for DNS over HTTPS."""
    udp, tcp = _bind(hosts)
    tls = [socket.create_server((hosts[0], 0))] if tls_context is not None else []
    tls_port = tls[0].getsockname()[1] if tls else 0
    quic = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM)] if choose_certificate is not None else []
    for sock in quic:
        sock.bind((hosts[0], 0))
    https = [socket.socket(socket.AF_UNIX)] if https_path is not None else []
    for sock in https:
        sock.bind(str(https_path))
        sock.listen()
    quic_port = quic[0].getsockname()[1] if quic else 0
    ready = threading.Event()
    found: list[asyncio.AbstractEventLoop] = []
    tasks: list[asyncio.Task[None]] = []
    failures: list[BaseException] = []

    async def serve() -> None:
        found.append(asyncio.get_running_loop())
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task)
        ready.set()
        with contextlib.suppress(asyncio.CancelledError):
            await server.serve(Doors(udp, tcp, tls, quic, https, tls_context, choose_certificate))

    def run() -> None:
        try:
            with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
                runner.run(serve())
        except BaseException as error:
            failures.append(error)
            ready.set()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert ready.wait(10)
        assert not failures, failures
        yield Running(server, hosts[0], udp[0].getsockname()[1], found[0], tls_port, quic_port)
    finally:
        with contextlib.suppress(RuntimeError, IndexError):
            found[0].call_soon_threadsafe(tasks[0].cancel)
        thread.join(10)
        open_sockets = [sock for sock in (*udp, *tcp, *tls, *quic, *https) if sock.fileno() >= 0]
        for sock in open_sockets:
            sock.close()
    assert not thread.is_alive()
    assert not failures, failures
    assert len(open_sockets) == 2 * len(hosts) + len(tls) + len(quic) + len(https), (
        "the sockets belong to the caller and stay open"
    )


def _bind(hosts: tuple[str, ...]) -> tuple[list[socket.socket], list[socket.socket]]:
    """UDP and TCP sockets with one common port; another process may take it between the two, so it tries again.

    TCP listens at once, as the launcher's sockets do: what comes before the server is up waits in the kernel.
    """
    for _ in range(20):
        made: dict[int, list[socket.socket]] = {socket.SOCK_DGRAM: [], socket.SOCK_STREAM: []}
        port = 0
        try:
            for host in hosts:
                for kind, sockets in made.items():
                    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind)
                    sockets.append(sock)
                    sock.bind((host, port))
                    port = sock.getsockname()[1]
                    if kind == socket.SOCK_STREAM:
                        sock.listen(128)
        except OSError:
            for sock in (*made[socket.SOCK_DGRAM], *made[socket.SOCK_STREAM]):
                sock.close()
            continue
        return made[socket.SOCK_DGRAM], made[socket.SOCK_STREAM]
    raise AssertionError("no common port was free in twenty tries")
