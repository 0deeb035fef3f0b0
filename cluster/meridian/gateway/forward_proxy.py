"""Requests of a forward proxy's clients: who may be reached, and how.

    may reach (stage, before the cache) -> reach (stage): resolve -> judge the addresses
        -> CONNECT: connect, agree, and pass bytes both ways
        -> GET http://...: the addresses become the endpoints of an upstream of this one exchange, which goes on as any

Invariants:
- Nothing is connected to that core/forward_proxy has not admitted, and no name is resolved twice.
- What one side of a tunnel sends faster than the other takes is not read.
- A tunnel ends for both sides when its destination ends; what had come by then is still handed over, within
  CLOSE_SECONDS. A client may end its side alone where its protocol can say so (RFC 9113 section 8.5).
"""

import asyncio
import ipaddress
import socket
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING, cast

from meridian.core.forward_proxy import ForwardProxy, split_authority
from meridian.core.snapshot import Endpoint
from meridian.gateway import answers
from meridian.gateway.source import Source
from meridian.wire.events import TUNNEL

if TYPE_CHECKING:
    from meridian.gateway.stages import Stages

CLOSE_SECONDS = 5.0
"""What was still to be written when a tunnel ended may take so long."""

_HTTP_PORT = 80


def may_reach(exchange: "Stages") -> bool:
    """The stage that refuses without resolving anything. False: answered."""
    proxy = _proxy_of(exchange)
    where = destination(exchange.head.authority, tunnel=exchange.head.protocol == TUNNEL)
    if where is None:
        exchange._answer(answers.BAD_TARGET)
    elif not proxy.takes(exchange.client):
        exchange._answer(answers.FORWARD_CLIENT)
    elif not proxy.may_be(*where):
        exchange._answer(answers.FORWARD_REFUSED)
    else:
        return True
    return False


def reach(exchange: "Stages") -> bool:
    """The stage that resolves. Always False: it answers, or goes on by itself."""
    where = destination(exchange.head.authority, tunnel=exchange.head.protocol == TUNNEL)
    assert where is not None, "may_reach has seen to it"
    source = exchange._source = Reach(exchange, *where)
    source.begin()
    return False


def destination(authority: bytes, *, tunnel: bool) -> tuple[str, int] | None:
    """Host and port that a request names."""
    return split_authority(authority, None if tunnel else _HTTP_PORT)


def _proxy_of(exchange: "Stages") -> ForwardProxy:
    proxy = exchange._live.route.forward
    assert proxy is not None
    return proxy


class Reach(Source, asyncio.Protocol):
    """See the module's head; as a Protocol it is the far side of a tunnel."""

    def __init__(self, exchange: "Stages", host: str, port: int) -> None:
        self._exchange = exchange
        self._proxy = _proxy_of(exchange)
        self._host = host
        self._port = port
        self._task: asyncio.Task[None] | None = None
        self._far: asyncio.Transport | None = None
        self._closed = False

    # To the destination

    def begin(self) -> None:
        """Resolves the name, unless it is an address."""
        exchange = self._exchange
        exchange.deadline = inf  # the task has its own
        self._task = exchange.worker.loop.create_task(self._reach())

    async def _reach(self) -> None:
        exchange = self._exchange
        try:
            async with asyncio.timeout(self._proxy.connect_seconds):
                found = list(self._proxy.admitted(self._host, self._port, await self._resolved()))
                if found and exchange.head.protocol == TUNNEL:
                    await self._connect(found)
        except TimeoutError:
            failure = answers.CONNECT_TIMEOUT
        except (socket.gaierror, UnicodeError):
            failure = answers.NAME_UNKNOWN
        except OSError:
            failure = answers.UPSTREAM_REFUSED
        else:
            if found:
                self._task = None
                if exchange.head.protocol != TUNNEL:
                    self._hand_on(found)
                return
            failure = answers.FORWARD_REFUSED
        self._task = None
        exchange._answer(failure)

    async def _resolved(self) -> list[str]:
        try:
            return [str(ipaddress.ip_address(self._host))]
        except ValueError:
            worker = self._exchange.worker
            found = await worker.loop.run_in_executor(
                worker.lookups, lambda: socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
            )
            return [str(address[0]).partition("%")[0] for *_, address in found]

    def _hand_on(self, addresses: list[str]) -> None:
        """To an upstream of this exchange alone, as the next try. Its connections are not kept: the next client's
        name may lead elsewhere."""
        exchange = self._exchange
        exchange._source = None
        template = exchange.installed.snapshot.upstreams[exchange.route_name]
        endpoints = tuple(
            Endpoint(index, f"[{address}]:{self._port}" if ":" in address else f"{address}:{self._port}", address,
                     self._port, None, 1)
            for index, address in enumerate(addresses)
        )  # fmt: skip
        upstream = exchange.installed.health.passing(replace(template, endpoints=endpoints))
        timeouts = upstream.upstream.timeouts.under(upstream.upstream.retry, None, None)
        exchange._lead_to(replace(exchange._live, upstream=upstream, retry=upstream.upstream.retry, timeouts=timeouts))
        exchange._walk()

    async def _connect(self, addresses: list[str]) -> None:
        """The first that takes it. Raises OSError."""
        loop = self._exchange.worker.loop
        for address in addresses:
            try:
                await loop.create_connection(lambda: self, address, self._port)
            except OSError:
                if address == addresses[-1]:
                    raise
            else:
                return

    # The far side of a tunnel

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """There it is: the client is told so."""
        self._far = cast("asyncio.Transport", transport)  # uvloop's is none by class
        exchange = self._exchange
        if self._closed:
            self._far.abort()
            return
        body = exchange._body
        assert body is not None
        early, body.kept = body.kept or (), None
        exchange._response_status = 200
        exchange._first_byte = exchange.worker.clock()
        self._heard()
        exchange.stream.upgrade([*exchange._told])
        for piece in early:  # over HTTP/2 and HTTP/3 a client need not wait
            self.on_body(piece)
        if exchange._request_ended:
            self.on_body_end()
        exchange.stream.flush()

    def data_received(self, data: bytes) -> None:
        """From the destination to the client."""
        exchange = self._exchange
        if self._closed:
            return
        self._heard()
        exchange._response_bytes += len(data)
        stream = exchange.stream
        stream.send_data(data, end=False)
        stream.flush()
        if not self._closed and not stream.writable and self._far is not None and not self._far.is_closing():
            self._far.pause_reading()

    def eof_received(self) -> bool:
        """Its end is that of both (RFC 9110 section 9.3.6)."""
        self._finish("")
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """It is gone."""
        self._far = None
        self._finish("" if error is None else "tunnel_lost")

    def pause_writing(self) -> None:
        """The destination takes no more: nor do we of the client."""
        if not self._closed:
            self._exchange.stream.pause_body()

    def resume_writing(self) -> None:
        """It does again."""
        if not self._closed:
            self._credit()
            self._exchange.stream.resume_body()

    # What the exchange does

    def on_body(self, data: bytes) -> None:
        """From the client to the destination."""
        if self._far is not None and not self._far.is_closing():
            self._heard()
            self._far.write(data)
            if self._far.get_write_buffer_size() == 0:
                self._credit()

    def on_body_end(self) -> None:
        """The client's side has ended; the destination's need not have."""
        if self._far is not None and not self._far.is_closing():
            self._heard()
            self._far.write_eof()

    def resume(self) -> None:
        """See Source."""
        if self._far is not None and not self._far.is_closing():
            self._heard()
            self._far.resume_reading()

    def expire(self) -> None:
        """See Source."""
        self._finish("tunnel_idle")

    def go_away(self, by: str) -> None:
        """See Source."""
        self._finish(by)

    def close(self) -> None:
        """See Source."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            self._task = None
        far, self._far = self._far, None
        if far is not None and not far.is_closing():
            far.close()
            self._exchange.worker.loop.call_later(CLOSE_SECONDS, far.abort)

    def _heard(self) -> None:
        self._exchange.deadline = self._exchange.worker.coarse_now + self._proxy.idle_seconds

    def _credit(self) -> None:
        body = self._exchange._body
        if body is not None and body.uncredited:
            self._exchange.stream.consumed(body.take_credit())

    def _finish(self, why: str) -> None:
        """Both sides end; the client gets what had come before."""
        exchange = self._exchange
        if self._closed or not exchange._response_status:
            return
        stream = exchange.stream
        stream.send_data(b"", end=True)
        exchange._end(exchange._response_status, why)
        stream.flush()
