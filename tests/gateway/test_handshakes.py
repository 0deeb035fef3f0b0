"""A candidate's certificates on some of the handshakes: who is shown them, and that refused ones are seen."""

import asyncio
import dataclasses
import ssl
from collections.abc import Awaitable, Callable

import pytest
import trustme
from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import QuicEvent
from tests.gateway.echoing import certificate
from tests.gateway.harness import Clock, Running, hello, origin, secure
from tests.support import wait_until

from meridian.core.judging import HANDSHAKES, Sample, Tally
from meridian.core.snapshot import Certificate, Ordered, Snapshot
from meridian.gateway.handshakes import LOST_SECONDS, PENDING_MAX, HandshakeTrial

Knock = Callable[[int, str], Awaitable[bool]]


async def over_tcp(port: int, ca: str) -> bool:
    """Whether a client takes the certificate that it is shown."""
    context = ssl.create_default_context(cafile=ca)
    dial = asyncio.get_running_loop().create_connection
    try:
        transport, _ = await dial(asyncio.Protocol, "127.0.0.1", port, ssl=context, server_hostname="localhost")
    except ssl.SSLCertVerificationError:
        return False
    transport.close()
    return True


class Deaf(QuicConnectionProtocol):
    """Reads no streams: aioquic's own would leave them open."""

    def quic_event_received(self, event: QuicEvent) -> None:
        pass


async def over_quic(port: int, ca: str) -> bool:
    """As over_tcp."""
    configuration = QuicConfiguration(alpn_protocols=["h3"], server_name="localhost", cafile=ca)
    try:
        async with connect("127.0.0.1", port, configuration=configuration, create_protocol=Deaf):
            return True
    except ConnectionError:
        return False


def strange(*hosts: str) -> Certificate:
    """A certificate of an authority that no client knows."""
    issued = trustme.CA().issue_cert(*hosts)
    return Certificate(hosts, b"".join(blob.bytes() for blob in issued.cert_chain_pems), issued.private_key_pem.bytes())


def with_certificates(running: Running, *certificates: Certificate | Ordered) -> Snapshot:
    return dataclasses.replace(running.gateway.snapshot, certificates=certificates, version=2)


def sample(running: Running) -> Sample:
    return running.gateway.arms().samples[HANDSHAKES]


@pytest.mark.parametrize("knock", [over_tcp, over_quic])
async def test_a_certificate_that_clients_refuse_is_seen_on_the_share_that_is_shown_it(knock: Knock) -> None:
    async with origin(hello) as one, secure(one) as (running, ca):
        running.gateway.begin_trial(with_certificates(running, strange("localhost", "127.0.0.1")), 0.5, generation=1)
        taken = [await knock(running.port, ca) for _ in range(24)]
        assert {*taken} == {True, False}
        await wait_until(lambda: sample(running).current.exchanges == taken.count(True), within_seconds=5, what="these")
        running.clock.push(LOST_SECONDS)
        assert sample(running) == Sample(
            0.5, Tally(taken.count(True)), Tally(taken.count(False), failed=taken.count(False))
        )
        running.gateway.end_trial()
        assert all([await knock(running.port, ca) for _ in range(10)])


async def test_a_good_certificate_is_taken_and_is_in_force_after_the_swap() -> None:
    async with origin(hello) as one, secure(one) as (running, ca):
        candidate = with_certificates(running, certificate("localhost", "127.0.0.1"))
        running.gateway.begin_trial(candidate, 0.5, generation=1)
        assert all([await over_tcp(running.port, ca) for _ in range(20)])
        await wait_until(
            lambda: sample(running).current.exchanges + sample(running).candidate.exchanges == 20,
            within_seconds=5, what="all of them",
        )  # fmt: skip
        running.clock.push(LOST_SECONDS)
        found = sample(running)
        assert 0 < found.candidate.exchanges < 20 and found.candidate.failed == found.current.failed == 0
        running.gateway.swap(candidate)
        assert running.gateway.tls.trial is None
        assert await over_tcp(running.port, ca)


async def test_nothing_is_drawn_or_counted_where_both_documents_have_the_same_certificate() -> None:
    async with origin(hello) as one, secure(one) as (running, ca):
        gateway = running.gateway
        gateway.begin_trial(with_certificates(running, *gateway.snapshot.certificates), 0.5, generation=1)
        assert gateway.arms().samples == {}
        gateway.end_trial()
        more = with_certificates(running, *gateway.snapshot.certificates, strange("other.example"))
        gateway.begin_trial(more, 1.0, generation=2)
        assert all([await over_tcp(running.port, ca) for _ in range(5)])
        assert sample(running) == Sample(1.0), "only the other host's handshakes would be"


def test_what_is_kept_is_bounded_and_a_handshake_keeps_what_it_was_shown() -> None:
    clock, draws = Clock(), iter([0.9, 0.1] + [0.9] * (2 * PENDING_MAX))
    trial = HandshakeTrial(0.5, lambda: next(draws), clock)
    old, new = object(), object()
    assert trial.take("a", old, new) is old
    assert trial.take("b", old, new) is new
    assert (trial.take("a", old, new), trial.take("b", old, new)) == (old, new), "it asks again"
    for n in range(2 * PENDING_MAX):
        trial.take(n, old, new)
    trial.succeeded("b")
    trial.succeeded(2 * PENDING_MAX - 1)  # it was not kept
    clock.push(LOST_SECONDS)
    assert trial.sample() == Sample(0.5, Tally(PENDING_MAX - 1, failed=PENDING_MAX - 1), Tally(1))
