"""Early data over QUIC (RFC 8446 section 8, RFC 8470): once, where its ticket was given, and only what does no
harm twice."""

import asyncio
import contextlib
import dataclasses
import socket
import ssl
from collections.abc import AsyncIterator
from typing import Any

from aioquic.asyncio.client import connect
from aioquic.h3.events import HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.tls import SessionTicket
from tests.gateway.echoing import authority
from tests.gateway.harness import Reader, Running, Writer, document, origin, read_message, secure, upstream
from tests.gateway.test_quic import Client, client, listening
from tests.gateway.test_tickets import NEW, OLD, shared
from tests.support import wait_until

from meridian.gateway import early_data
from meridian.gateway.early_data import SpentTickets
from meridian.gateway.handing import Neighbours


@contextlib.asynccontextmanager
async def early(port: int, ticket: SessionTicket, **more: Any) -> AsyncIterator[Client]:
    """A client that has not waited for the handshake: what it sends at once is early data."""
    configuration = QuicConfiguration(
        alpn_protocols=["h3"], server_name="localhost", cadata=authority().cert_pem.bytes(),
        verify_mode=ssl.CERT_REQUIRED, session_ticket=ticket,
    )  # fmt: skip
    async with connect(
        "127.0.0.1", port, configuration=configuration, create_protocol=Client, wait_connected=False, **more
    ) as protocol:
        assert isinstance(protocol, Client)
        yield protocol


async def ticket_of(port: int) -> SessionTicket:
    """One that this worker gives."""
    kept: list[SessionTicket] = []
    async with client(port, keep=kept.append) as one:
        await one.wait_connected()
        await wait_until(lambda: kept, within_seconds=10, what="a ticket")
    return kept[-1]


def status_of(one: Client, stream_id: int) -> int:
    head = next(event for event in one.seen[stream_id] if isinstance(event, HeadersReceived))
    return int(dict(head.headers)[b":status"])


async def test_a_ticket_is_good_for_early_data_once() -> None:
    async with listening(shared(OLD), early_data=True) as (listener, port, exchanges):
        ticket = await ticket_of(port)
        assert ticket.max_early_data_size == 0xFFFFFFFF
        for number, accepted in enumerate((True, False, False)):
            async with early(port, ticket) as one:
                assert await one.answer(one.send("/bytes/3")) == bytes(3), "by early data or after the handshake"
                assert one._quic.tls.early_data_accepted is one._quic.tls.session_resumed is accepted
            assert exchanges.all[number].head.early is accepted and len(exchanges.all) == number + 1
        assert listener._spent is not None and len(listener._spent) == 1


async def test_a_client_that_must_prove_its_address_first_still_has_its_ticket() -> None:
    async with listening(shared(OLD), early_data=True, retry_above=0) as (listener, port, exchanges):
        ticket = await ticket_of(port)
        async with early(port, ticket) as one:
            one.send("/lost")  # aioquic's client does not repeat after a Retry what it has sent early
            await one.wait_connected()
            assert one._quic.tls.early_data_accepted, "the first packet has not spent it"
            assert await one.answer(one.send("/bytes/3")) == bytes(3)
        assert listener.stats.retried == 2 and len(exchanges.all) == 1


class Recording:
    """A client's transport that remembers what it has sent."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self.sent: list[bytes] = []

    def sendto(self, data: bytes, address: Any = None) -> None:
        self.sent.append(data)
        self._transport.sendto(data, address)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


async def test_a_first_flight_that_is_played_again_asks_for_nothing() -> None:
    async with listening(shared(OLD), early_data=True) as (listener, port, exchanges):
        ticket = await ticket_of(port)
        async with early(port, ticket) as one:
            one._transport = recording = Recording(one._transport)  # type: ignore[assignment] # as one by shape
            stream_id = one.send("/bytes/3")
            flight = recording.sent.copy()
            assert await one.answer(stream_id) == bytes(3)
        await wait_until(lambda: not listener.stats.connections, within_seconds=10, what="the end of both")
        assert flight and [exchange.head.early for exchange in exchanges.all] == [True]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as replayer:
            for datagram in flight:
                replayer.sendto(datagram, ("127.0.0.1", port))
            await wait_until(lambda: listener.stats.accepted == 3, within_seconds=10, what="a handshake")
            replayer.setblocking(False)
            assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(replayer, 2048), 10)
        assert len(exchanges.all) == 1, "it is answered, and asked for nothing"


async def test_early_data_is_of_the_worker_that_gave_the_ticket() -> None:
    async with (
        listening(shared(OLD), early_data=True) as (_, one, _),
        listening(shared(NEW, OLD), early_data=True, neighbours=Neighbours(2, 0)) as (_, two, exchanges),
        listening(shared(OLD)) as (_, plain, _),
    ):
        ticket = await ticket_of(one)
        for port in (two, plain):
            async with early(port, ticket) as visitor:
                assert await visitor.answer(visitor.send("/bytes/3")) == bytes(3)
                assert not visitor._quic.tls.early_data_accepted
        assert not exchanges.all[0].head.early
        async with client(two, session_ticket=dataclasses.replace(ticket, max_early_data_size=None)) as visitor:
            assert await visitor.answer(visitor.send("/bytes/3")) == bytes(3)
            assert visitor._quic.tls.session_resumed, "without early data it resumes anywhere"


def test_tickets_are_of_an_address_and_spent_once_and_forgotten_in_time() -> None:
    now = 0.0
    spent = SpentTickets(lambda: now)
    one, other = spent.of_client("192.0.2.1"), spent.of_client("192.0.2.2")
    assert one.tag == spent.of_client("192.0.2.1").tag != other.tag
    assert one.tag != SpentTickets(lambda: now).of_client("192.0.2.1").tag, "a worker begun anew takes none of before"
    assert not other.take(b"ticket", one.tag) and not one.take(b"ticket", b"")
    assert one.take(b"ticket", one.tag) and not one.take(b"ticket", one.tag)
    now = 1800.0
    assert one.take(b"second", one.tag) and len(spent) == 2
    now = 3600.0
    assert one.take(b"third", one.tag) and len(spent) == 2, "the first has expired, and so has its ticket"
    for number in range(early_data.SPENT_MAX - 2):
        assert spent.spend(b"%d" % number)
    assert not spent.spend(b"one more") and len(spent) == early_data.SPENT_MAX


async def say_head(reader: Reader, writer: Writer) -> None:
    """An upstream that says what it was asked; /late it finds too early."""
    while True:
        head, _ = await read_message(reader)
        status = b"425 Too Early" if b"early-data: 1" in head and head.startswith(b"GET /late") else b"200 OK"
        writer.write(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n" % (status, len(head)) + head)


@contextlib.asynccontextmanager
async def gateway(app: int) -> AsyncIterator[Running]:
    def make(port: int) -> Any:
        snapshot = document(port, [upstream(app)])
        web = dataclasses.replace(snapshot.listeners[0], early_data=True)
        return dataclasses.replace(snapshot, listeners=(web,))

    async with secure(make=make) as (running, _):
        running.gateway.share_tickets([OLD])
        yield running


async def test_upstreams_are_told_and_only_what_is_safe_goes_on() -> None:
    async with origin(say_head) as app, gateway(app) as running:
        for path, body, expected in (("/a", None, 200), ("/late", None, 425), ("/a", b"x", 425)):
            ticket = await ticket_of(running.port)
            async with early(running.port, ticket) as one:
                stream_id = one.send(path, body)
                said = await one.answer(stream_id)
                assert one._quic.tls.early_data_accepted
                assert status_of(one, stream_id) == expected
                assert (b"\r\nearly-data: 1\r\n" in said) is (body is None)
                again = one.send(path, body)
                said = await one.answer(again)
                assert status_of(one, again) == 200 and b"early-data" not in said, "the handshake is over"
        assert [one.why for one in running.seen.outcomes] == ["", "", "", "", "too_early", ""]
