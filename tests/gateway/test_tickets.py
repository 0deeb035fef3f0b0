"""Sessions that resume on other workers and nodes: two sets of contexts stand for two of them, with what they share."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trustme
from aioquic.tls import SessionTicket
from tests.gateway.echoing import authority, certificate
from tests.gateway.test_quic import client, listening

from meridian.core.snapshot import Certificate, ClientAuth
from meridian.gateway.handing import Neighbours
from meridian.gateway.tickets import TicketBox
from meridian.gateway.tls import TlsContexts

OLD, NEW = b"o" * 32, b"n" * 32
CLIENTS = trustme.CA()
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


class Greeting(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        transport.write(b"hello")


@asynccontextmanager
async def worker(
    certificates: list[Certificate], *secrets: bytes, asks: ClientAuth | None = None
) -> AsyncIterator[int]:
    """Gives its port."""
    contexts = TlsContexts(certificates)
    context = contexts.context_for(("h1",), client_auth=asks)
    if secrets:  # they come after the listener, and may change
        assert contexts.share_tickets([bytes(32)]) == ""
        assert contexts.share_tickets(secrets) == ""
    server = await asyncio.get_running_loop().create_server(Greeting, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


class Visitor:
    """A client that keeps its session."""

    def __init__(self, version: ssl.TLSVersion, *, shows: bool = False) -> None:
        self._context = ssl.create_default_context(cadata=authority().cert_pem.bytes().decode())
        self._context.minimum_version = self._context.maximum_version = version
        if shows:
            CLIENTS.issue_cert("client.example").configure_cert(self._context)
        self.session: ssl.SSLSession | None = None

    async def resumes(self, port: int, host: str = "a.example") -> bool:
        """Whether a connection with the session that is kept needs no whole handshake; keeps the new one."""
        return await asyncio.to_thread(self._resumes, port, host)

    def _resumes(self, port: int, host: str) -> bool:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=10) as raw,
            self._context.wrap_socket(raw, server_hostname=host, session=self.session) as secured,
        ):
            assert secured.recv(5) == b"hello"
            self.session = secured.session
            return bool(secured.session_reused)


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_session_resumes_on_another_worker_and_over_a_change_of_the_secret(version: ssl.TLSVersion) -> None:
    certificates = [certificate("a.example")]
    async with (
        worker(certificates, OLD) as one,
        worker(certificates, NEW, OLD) as two,
        worker([certificate("a.example")], NEW) as three,
    ):
        visitor = Visitor(version)
        assert not await visitor.resumes(one)
        assert await visitor.resumes(two), "the secret before is still taken"
        assert await visitor.resumes(three), "and its ticket was renewed"
        assert await visitor.resumes(two)
        visitor = Visitor(version)
        assert not await visitor.resumes(one)
        assert not await visitor.resumes(three), "that has forgotten the old one"


@pytest.mark.parametrize("version", VERSIONS)
async def test_without_a_shared_secret_it_does_not(version: ssl.TLSVersion) -> None:
    certificates = [certificate("a.example")]
    async with worker(certificates) as one, worker(certificates) as two:
        visitor = Visitor(version)
        assert not await visitor.resumes(one)
        assert await visitor.resumes(one) and not await visitor.resumes(two)


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_session_is_no_way_around_what_a_listener_asks_of_clients(version: ssl.TLSVersion) -> None:
    certificates, asks = [certificate("a.example")], ClientAuth(CLIENTS.cert_pem.bytes())
    async with (
        worker(certificates, OLD) as plain,
        worker(certificates, OLD, asks=asks) as one,
        worker(certificates, OLD, asks=asks) as two,
        worker(certificates, OLD, asks=ClientAuth(trustme.CA().cert_pem.bytes())) as other,
    ):
        visitor = Visitor(version)
        assert not await visitor.resumes(plain)
        with pytest.raises((ssl.SSLError, AssertionError)):
            await visitor.resumes(one)
        known = Visitor(version, shows=True)
        assert not await known.resumes(one)
        assert await known.resumes(two)
        with pytest.raises((ssl.SSLError, AssertionError)):
            await known.resumes(other)


async def quic_resumes(port: int, kept: list[SessionTicket], **options: Any) -> bool:
    ticket = kept[-1] if kept else None
    async with client(port, session_ticket=ticket, keep=kept.append, **options) as one:
        assert await one.answer(one.send("/bytes/3")) == bytes(3)
        return one._quic.tls.session_resumed


def shared(*secrets: bytes, hosts: tuple[str, ...] = ("localhost",)) -> TlsContexts:
    contexts = TlsContexts([certificate(*hosts)])
    contexts.share_tickets(secrets)
    return contexts


async def test_a_quic_session_resumes_on_another_worker_and_over_a_change_of_the_secret() -> None:
    async with (
        listening(shared(OLD)) as (_, one, _),
        listening(shared(NEW, OLD), neighbours=Neighbours(2, 0), key=b"q" * 32) as (_, two, _),
        listening(shared(NEW)) as (_, three, _),
    ):
        kept: list[SessionTicket] = []
        assert not await quic_resumes(one, kept)
        (first,) = kept
        assert first.max_early_data_size is None, "no early data is offered"
        assert await quic_resumes(two, kept) and await quic_resumes(three, kept) and len(kept) == 3
        assert not await quic_resumes(three, [first]), "that has forgotten the old one"
        broken = SessionTicket(**{**first.__dict__, "ticket": first.ticket[:-1] + bytes([first.ticket[-1] ^ 1])})
        assert not await quic_resumes(one, [broken])


async def test_a_quic_session_is_of_its_host_alone() -> None:
    async with listening(shared(OLD, hosts=("localhost", "other.example"))) as (_, port, _):
        kept: list[SessionTicket] = []
        assert not await quic_resumes(port, kept)
        assert not await quic_resumes(port, kept, name="other.example")


async def test_early_data_that_nobody_offered_is_not_taken() -> None:
    async with listening(shared(OLD)) as (_, port, exchanges):
        kept: list[SessionTicket] = []
        await quic_resumes(port, kept)
        forged = SessionTicket(**{**kept[-1].__dict__, "max_early_data_size": 0xFFFFFFFF})
        assert not await quic_resumes(port, [forged]), "with early data there is no session"
        assert len(exchanges.all) == 2


async def test_without_shared_secrets_or_where_clients_show_certificates_there_are_no_tickets() -> None:
    kept: list[SessionTicket] = []
    async with listening(TlsContexts([certificate("localhost")])) as (_, port, _):
        assert not await quic_resumes(port, kept)
    async with listening(shared(OLD), client_auth=ClientAuth(CLIENTS.cert_pem.bytes(), False)) as (_, port, _):
        assert not await quic_resumes(port, kept)
    assert kept == []


def test_a_ticket_opens_only_whole_and_for_its_host() -> None:
    box = TicketBox([OLD])
    ticket = box.seal(b"session", b"a")
    assert box.open(ticket, b"a") == b"session" and b"session" not in ticket
    for bad in (b"", ticket[:-1], ticket[:20], bytes(len(ticket)), ticket[:-1] + bytes([ticket[-1] ^ 1])):
        assert box.open(bad, b"a") is None
    assert box.open(ticket, b"b") is None and TicketBox([NEW]).open(ticket, b"a") is None
    assert TicketBox([NEW, OLD]).open(ticket, b"a") == b"session"
