"""The server: datagrams and streams in, responses out.

Invariants: between receiving a datagram and sending its response there is no await, so a swap is seen by the very next
query and no query sees half of one. Nothing that a client sends raises out of here: the unexpected becomes SERVFAIL
and is counted. A response leaves from the socket that was asked.
"""

import asyncio
import logging
import random
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from meridian_dns.desk import IDLE_SECONDS, Desk, Stream
from meridian_dns.edns import CookieJar, ServerOptions
from meridian_dns.fastpath import FastPath
from meridian_dns.geo import GeoData
from meridian_dns.https import HttpsDoor
from meridian_dns.message import (
    HEADER,
    QR,
    RD,
    STREAM_BYTES_MAX,
    TC,
    Query,
    datagram_bytes_max,
    encode,
    padded,
    parse,
    serial_held,
)
from meridian_dns.notify import Notifier
from meridian_dns.observing import HTTPS, QUIC, TCP, TLS, UDP, Counters, Sight, Transport, Watcher
from meridian_dns.policy import Answer
from meridian_dns.records import AXFR, FORMERR, IXFR, NOERROR, NOTAUTH, SERVFAIL
from meridian_dns.responder import Holdings, decide
from meridian_dns.split import Split
from meridian_dns.tcp import TcpConnection
from meridian_dns.throttle import Judgement, Throttle
from meridian_dns.tls import TlsDoor
from meridian_dns.transfer import Transfers, brief, is_transfer, messages_of, permit, records_for
from meridian_dns.trial import Trial
from meridian_dns.tsig import Checked, MalformedSignature, check
from meridian_dns.view import RegionView
from meridian_dns.zone import ZoneSet

if TYPE_CHECKING:
    from meridian_dns.quic import ChooseCertificate

PAYLOAD_BYTES = 1232  # no fragments on any usual path (RFC 9715, DNS flag day 2020)
DATAGRAM_BYTES_MAX = 4096  # a query is far shorter; what is longer is cut, and so answered FORMERR
TRANSFERS_MAX = 20  # at once: each may hold a zone that has been replaced, and takes a message's time of each turn
DATAGRAMS_PER_TURN = 64  # about 1 ms of the loop's time, so that TCP and the owner's swaps do not wait behind a flood

log = logging.getLogger("meridian_dns")

_DRAW: Callable[[], int] = partial(random.getrandbits, 32)


@dataclass(frozen=True, slots=True)
class Doors:
    """Where a server is asked: bound sockets (TCP: listening or not yet), which stay the caller's, and stay open.

    `tls` speak DNS over TLS (RFC 7858) under `tls_context`, which says "dot" by ALPN; `quic` (UDP) DNS over QUIC
    under what `choose_certificate` gives for the host that a client names; `https` (of the Unix family) what a proxy of
    ours hands on of DNS over HTTPS (RFC 8484).
    """

    udp: Sequence[socket.socket] = ()
    tcp: Sequence[socket.socket] = ()
    tls: Sequence[socket.socket] = ()
    quic: Sequence[socket.socket] = ()
    https: Sequence[socket.socket] = ()
    tls_context: ssl.SSLContext | None = None
    choose_certificate: "ChooseCertificate | None" = None


class DnsServer:
    """Answers for a zone set by a region view; `swap` replaces either, the next query sees it."""

    def __init__(
        self,
        zones: ZoneSet,
        view: RegionView,
        geo: GeoData | None,
        *,
        throttle: Throttle | None = None,
        payload_bytes: int = PAYLOAD_BYTES,
        idle_seconds: float = IDLE_SECONDS,
        server_id: bytes = b"",
        cookies: CookieJar | None = None,
        draw: Callable[[], int] = _DRAW,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = lambda: time.time_ns() / 1e9,
    ) -> None:
        """`throttle` None: no rate limit; a client with a valid cookie has none. `server_id` is told to who asks.

        `draw` and `clock` are chance and time, given from outside in tests; `wall_clock` is seconds since 1970."""
        self.counters = Counters()
        self.watcher: Watcher | None = None
        self._throttle = throttle
        self._payload_bytes = payload_bytes
        self._draw = draw
        self._clock = clock
        self._wall_clock = wall_clock
        self._transfers = Transfers()
        self._transferring = 0
        self._trial: Trial | None = None
        self.notifier = Notifier(clock, wall_clock)
        self._options = ServerOptions(server_id, cookies, idle_seconds)
        self._fast = self._path(Holdings(zones, view, geo))
        self._split: Split | None = None
        self._take(zones)
        self._desk = Desk(partial(self._respond_stream, transport=TCP), idle_seconds=idle_seconds)
        self._tls_desk = Desk(partial(self._respond_encrypted, transport=TLS), idle_seconds=idle_seconds)
        self._https_door = HttpsDoor(self._respond_https)
        self._quic_desk = Desk(partial(self._respond_encrypted, transport=QUIC), idle_seconds=idle_seconds)

    @property
    def holdings(self) -> Holdings:
        """What the next query is answered from."""
        return self._fast.holdings

    @property
    def tcp_connections(self) -> int:
        """TCP connections that are open now, those of TLS included."""
        return len(self._desk.connections) + len(self._tls_desk.connections)

    @property
    def tcp_refused(self) -> int:
        """TCP connections that were closed at once because too many were open."""
        return self._desk.refused + self._tls_desk.refused

    @property
    def quic_connections(self) -> int:
        """QUIC connections that are open now."""
        return len(self._quic_desk.connections)

    @property
    def quic_refused(self) -> int:
        """QUIC connections that were not let in because too many were open, or half open."""
        return self._quic_desk.refused

    @property
    def transfers(self) -> Transfers:
        """What secondaries may have."""
        return self._transfers

    @property
    def transfers_under_way(self) -> int:
        """Transfers that have begun and not ended."""
        return self._transferring

    @property
    def notices_given_up(self) -> int:
        """Times that a secondary did not acknowledge NOTIFY."""
        return self.notifier.notices.given_up

    def swap(
        self,
        *,
        zones: ZoneSet | None = None,
        view: RegionView | None = None,
        geo: GeoData | None = None,
        transfers: Transfers | None = None,
    ) -> None:
        """Replaces what is given and keeps the rest, between two queries: each sees all of the new or all of the old.

        `transfers` come with the zones that they are copies of; their secondaries are told.
        """
        old = self._fast.holdings
        holdings = Holdings(
            old.zones if zones is None else zones,
            old.view if view is None else view,
            old.geo if geo is None else geo,
        )
        self._fast = self._path(holdings)
        self._take(holdings.zones)
        if transfers is not None:
            self._transfers = transfers
            self.notifier.announce(transfers)

    def _path(self, holdings: Holdings) -> FastPath:
        return FastPath(holdings, self.counters.tallies, self._payload_bytes, self._options)

    def _take(self, zones: ZoneSet) -> None:
        """Clients of views are answered from paths of their own."""
        held = self._fast.holdings
        paths = {one.name: self._path(replace(held, zones=zones.of_view(one.name))) for one in zones.views}
        self._split = Split(zones, paths, self._fast) if paths else None

    @property
    def trial(self) -> Trial | None:
        """The candidate that is compared with what is in force."""
        return self._trial

    def try_out(self, zones: ZoneSet, view: RegionView, share: float) -> None:
        """From now on `share` (0 to 1) of the questions are answered from these too, and compared, until `end_trial`.
        The answer that is sent stays the one in force."""
        self._trial = Trial(Holdings(zones, view, self._fast.holdings.geo), share, self._payload_bytes)

    def end_trial(self) -> None:
        """Compares no more."""
        self._trial = None

    def limit(self, throttle: Throttle | None) -> None:
        """Replaces the rate limit over UDP; None: no limit."""
        self._throttle = throttle

    def respond(self, data: bytes, source: str, transport: Transport = UDP) -> bytes | None:
        """The response to one message from `source` (a textual address), or None to stay silent. Never raises."""
        datagram = transport.datagram
        try:
            if datagram and self._throttle is not None:
                judgement = self._throttle.judge(source, self._clock())
                if judgement is not Judgement.SEND and not self._knows(data, source):
                    self.counters.throttled += 1
                    return _slip(data) if judgement is Judgement.SLIP else None
            draw = self._draw()
            watcher = self.watcher
            began = watcher.begin() if watcher is not None else 0.0
            fast = self._fast if self._split is None else self._split.path_of(source)
            reply = fast.respond(data, source, draw, datagram=datagram)
            reply = reply or self._respond_in_full(fast, data, source, draw, datagram=datagram)
            if began and watcher is not None and reply is not None and fast.tally is not None:
                seconds = watcher.end() - began
                watcher.take(Sight(data, reply, source, transport, fast.tally, fast.holdings.view, seconds))
            if self._trial is not None and reply is not None and fast is self._fast:
                self._trial.compare(data, source, draw, reply, self._draw())
            return reply
        except Exception:
            self.counters.errors += 1
            if self.counters.errors & (self.counters.errors - 1) == 0:
                # The first, second, fourth, eighth...: one query repeated must not fill the disk with its traceback.
                log.exception("answering a query failed (error %d)", self.counters.errors)
            return _servfail(data)

    async def serve(self, doors: Doors) -> None:
        """Serves until cancelled."""
        loop = asyncio.get_running_loop()
        listeners: list[asyncio.Server | asyncio.BaseTransport] = []
        try:
            async with asyncio.TaskGroup() as tasks:
                for sock in doors.tcp:
                    own = sock.dup()
                    listeners.append(await loop.create_server(lambda: TcpConnection(self._desk), sock=own))
                for sock in doors.tls:
                    assert doors.tls_context is not None
                    tasks.create_task(TlsDoor(self._tls_desk, doors.tls_context, tasks).stand(sock))
                for sock in doors.https:
                    own = sock.dup()
                    listeners.append(await loop.create_unix_server(self._https_door.welcome, sock=own))
                if doors.quic:
                    assert doors.choose_certificate is not None
                    listeners += await self._open_quic(doors.quic, doors.choose_certificate)
                for sock in doors.udp:
                    sock.setblocking(False)
                    loop.add_reader(sock, self._drain, sock)
                await self.notifier.run([sock.getsockname()[0] for sock in doors.udp])
        finally:
            for sock in doors.udp:
                loop.remove_reader(sock)
            for desk in (self._desk, self._tls_desk, self._quic_desk, self._https_door):
                desk.close()
            for listener in listeners:
                listener.close()

    async def _open_quic(
        self, quic: Sequence[socket.socket], choose_certificate: "ChooseCertificate"
    ) -> list[asyncio.BaseTransport]:
        from meridian_dns.quic import QuicDoor  # 20 MB that a server without it does not need

        loop, opened = asyncio.get_running_loop(), list[asyncio.BaseTransport]()
        for sock in quic:
            transport, _ = await loop.create_datagram_endpoint(
                lambda: QuicDoor(self._quic_desk, choose_certificate), sock=sock.dup()
            )
            opened.append(transport)
        return opened

    def _drain(self, sock: socket.socket) -> None:
        """Answers the datagrams that wait at a socket, up to a turn's worth."""
        receive, send, respond = sock.recvfrom, sock.sendto, self.respond
        for turn in range(DATAGRAMS_PER_TURN):
            try:
                data, peer = receive(DATAGRAM_BYTES_MAX)
            except (BlockingIOError, InterruptedError):
                self.counters.queries[UDP.name] += turn
                return
            except OSError:
                self.counters.unsent += 1  # the kernel reports here that an earlier response did not arrive
                continue
            reply = respond(data, peer[0])
            if reply is not None:
                try:
                    send(reply, peer)
                except OSError:  # a full send buffer, no route, port 0: the client asks again
                    self.counters.unsent += 1
        self.counters.queries[UDP.name] += DATAGRAMS_PER_TURN

    def _respond_stream(self, data: bytes, source: str, transport: Transport) -> bytes | Stream | None:
        self.counters.queries[transport.name] += 1
        if not is_transfer(data, AXFR, IXFR):
            return self.respond(data, source, transport)
        try:
            return self._begin_transfer(data, source, transport)
        except Exception:
            self.counters.errors += 1
            log.exception("beginning a transfer failed")
            return _servfail(data)

    def _respond_encrypted(self, data: bytes, source: str, transport: Transport) -> bytes | Stream | None:
        reply = self._respond_stream(data, source, transport)
        return padded(reply) if isinstance(reply, bytes) else reply

    def _respond_https(self, data: bytes, source: str) -> tuple[bytes | None, bool]:
        self.counters.queries[HTTPS.name] += 1
        reply = self.respond(data, source, HTTPS)
        steered = self._fast.tally is not None and bool(self._fast.tally.regions)
        return padded(reply) if reply is not None else None, steered

    def _begin_transfer(self, data: bytes, source: str, transport: Transport) -> bytes | Stream | None:
        """The first answer to a query that asks for a zone: its messages, or a refusal."""
        query = parse(data)
        if query is None or query.rcode != NOERROR or query.question is None:
            return self.respond(data, source, transport)
        checked, refusal = self._check_signature(data, query)
        key = checked.signer.key.name if checked is not None and checked.signer is not None else None
        found = refusal or permit(self._transfers, query, source, key)
        if not isinstance(found, Answer):
            records = records_for(found, query.question.type, serial_held(data, query))
            if not isinstance(records, Answer) and self._transferring < TRANSFERS_MAX:
                self.counters.transfers += 1
                asked = query.edns.asked if query.edns is not None else None
                given = self._options.give(asked, source, datagram=False) if asked is not None else b""
                return self._transfer(messages_of(query, records, self._payload_bytes, given), checked)
            found = records if isinstance(records, Answer) else Answer(SERVFAIL)
        self.counters.transfers_refused += 1
        return self._finish(self._fast, query, found, source, checked, datagram=False)

    def _transfer(self, messages: Iterator[bytes], checked: Checked | None) -> Stream:
        self._transferring += 1
        try:
            for message in messages:
                yield message if checked is None else checked.sign(message, self._wall_clock())
        finally:
            self._transferring -= 1

    def _check_signature(self, data: bytes, query: Query) -> tuple[Checked | None, Answer | None]:
        """What a query's signature is worth; and the refusal, if it is not right (RFC 8945 section 5.2)."""
        if not query.signed_at:
            return None, None
        try:
            checked = check(data, query.signed_at, self._transfers.keys, self._wall_clock())
        except MalformedSignature:
            return None, Answer(FORMERR)
        return checked, Answer(NOTAUTH) if checked.error else None

    def _knows(self, data: bytes, source: str) -> bool:
        """Whether the sender proves by a cookie that its address is its own; what floods cannot."""
        if self._options.cookies is None:
            return False
        query = parse(data)
        asked = query.edns.asked if query is not None and query.edns is not None else None
        return asked is not None and self._options.cookies.is_valid(asked.cookie, source)

    def _respond_in_full(self, fast: FastPath, data: bytes, source: str, draw: int, *, datagram: bool) -> bytes | None:
        query = parse(data)
        if query is None:
            self.counters.dropped += 1
            return None
        self.counters.full_path += 1
        checked, answer = self._check_signature(data, query)
        if answer is None and query.question is not None and query.question.type == IXFR:
            key = checked.signer.key.name if checked is not None and checked.signer is not None else None
            answer = brief(permit(self._transfers, query, source, key))
        answer = answer or decide(query, fast.holdings, source, draw)
        return self._finish(fast, query, answer, source, checked, datagram=datagram)

    def _finish(
        self, fast: FastPath, query: Query, answer: Answer, source: str, checked: Checked | None, *, datagram: bool
    ) -> bytes:
        """Writes and counts the one message of an answer; `checked`: the query was signed, so this is signed too."""
        bytes_max = datagram_bytes_max(query.edns, self._payload_bytes) if datagram else STREAM_BYTES_MAX
        bytes_max -= checked.record_bytes if checked is not None else 0
        asked = query.edns.asked if query.edns is not None else None
        given = self._options.give(asked, source, datagram=datagram) if asked is not None else b""
        reply = encode(query, answer, bytes_max=bytes_max, payload_bytes=self._payload_bytes, given=given)
        if reply[2] & TC >> 8:
            self.counters.truncated += 1
        tally = fast.tally = fast.clerk.tally_of(query.question, answer)
        tally.answers += 1
        return reply if checked is None else checked.sign(reply, self._wall_clock())


def _servfail(data: bytes) -> bytes | None:
    """SERVFAIL from the header alone: what failed may well have been the parsing of the rest."""
    if len(data) < HEADER.size or data[2] & 0x80:
        return None
    id_, flags, *_ = HEADER.unpack_from(data)
    return HEADER.pack(id_, QR | flags & (0x7800 | RD) | SERVFAIL, 0, 0, 0, 0)


def _slip(data: bytes) -> bytes | None:
    """An empty truncated response: a real client asks again over TCP, a spoofed victim gets no more than was sent."""
    query = parse(data)
    if query is None:
        return None
    flags = QR | TC | query.flags & (0x7800 | RD) | query.rcode & 0xF
    return HEADER.pack(query.id, flags, 1 if query.asked else 0, 0, 0, 0) + query.asked
