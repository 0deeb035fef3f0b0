"""NOTIFY: what is owed, decided without a network; then what a secondary sees, by dnspython."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator

import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.tsig
import dns.tsigkeyring
import pytest
from tests.dns.running import running
from tests.dns.world import make_view
from tests.support import wait_until

from meridian_dns.notify import FIRST_SECONDS, SENDS_PER_TURN, TRIES_MAX, Notices, Notifier
from meridian_dns.server import DnsServer
from meridian_dns.transfer import History, Offer, Secondary, Transfers, copy_of
from meridian_dns.tsig import Key
from meridian_dns.zone import ZoneSet
from meridian_dns.zone_building import build_zone

SECRET = b"c2VjcmV0IG9mIDMyIGJ5dGVzLCBvZiBubyB3b3J0aCE="
KEY = Key.from_text("key.example", "hmac-sha256", SECRET)


def transfers(serial: int, *targets: tuple[str, int], zones: int = 1, key: Key | None = None) -> Transfers:
    secondaries = tuple(Secondary((), key.name if key else None, target) for target in targets)
    offers = {}
    for i in range(zones):
        zone = build_zone(f"z{i}.example.com", ["ns.example.net"], [], serial=serial)
        offers[zone.origin] = Offer(History(copy_of(zone, {})), secondaries)
    return Transfers(offers, {key.name: key} if key else {})


def test_one_notice_is_owed_for_each_zone_and_secondary_and_the_newest_wins() -> None:
    notices = Notices()
    notices.owe(transfers(1, ("192.0.2.1", 53), ("192.0.2.2", 53), zones=2), 0.0)
    assert len(notices) == 4 and len(notices.take_due(0.0)) == 4
    old = notices.take_due(FIRST_SECONDS)[0]
    notices.owe(transfers(2, ("192.0.2.1", 53)), 5.0)
    assert len(notices) == 1 and notices.deadline() == 5.0, "what is gone is owed no more, what is new is due at once"
    notices.acknowledge(old[0], old[1].soa)
    assert len(notices) == 1, "an answer to the old serial says nothing of the new one"
    ((target, notice),) = notices.take_due(5.0)
    assert notice.soa.rdatas[0][-20:-16] == b"\0\0\0\2"
    notices.acknowledge(target, notice.soa)
    assert notices.deadline() is None
    notices.owe(transfers(2, ("192.0.2.1", 53)), 6.0)
    assert not len(notices), "nothing changed"


def test_tries_are_further_and_further_apart_and_end(caplog: pytest.LogCaptureFixture) -> None:
    notices = Notices()
    notices.owe(transfers(1, ("192.0.2.1", 53)), 0.0)
    sent = []
    with caplog.at_level(logging.WARNING):
        while (due := notices.deadline()) is not None:
            sent += [due for _ in notices.take_due(due)]
    assert sent == [0.0, 1.0, 3.0, 7.0, 15.0, 31.0] and len(sent) == TRIES_MAX
    assert notices.given_up == 1 and "192.0.2.1:53 does not acknowledge NOTIFY of z0.example.com." in caplog.text


def test_a_turn_sends_a_bounded_number() -> None:
    notices = Notices()
    notices.owe(transfers(1, ("192.0.2.1", 53), zones=50), 0.0)
    assert [len(notices.take_due(0.0)) for _ in range(4)] == [SENDS_PER_TURN, SENDS_PER_TURN, 10, 0]


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(5)
        yield sock


def test_a_secondary_is_told_again_until_its_answer_fits(listening: socket.socket) -> None:
    """An answer with a wrong signature, or with none, could come from anybody: it ends nothing."""
    server = DnsServer(ZoneSet(), make_view(), None)
    port = listening.getsockname()[1]
    ring = {"key.example.": SECRET.decode()}
    with running(server) as here:
        here.on_loop(lambda: server.swap(transfers=transfers(7, ("127.0.0.1", port), key=KEY)))
        for spoil in ("unsigned", "wrong key", ""):
            data, peer = listening.recvfrom(4096)
            assert peer[0] == here.host, "it comes from the address that the secondary knows"
            told = dns.message.from_wire(data, keyring=dns.tsigkeyring.from_text(ring))
            assert told.opcode() == dns.opcode.NOTIFY and told.flags & dns.flags.AA and told.had_tsig
            assert told.question[0].name.to_text() == "z0.example.com."
            assert told.answer[0].to_rdataset()[0].serial == 7
            answer = dns.message.make_response(told)
            if spoil == "unsigned":
                answer.tsig = None
            elif spoil:
                answer.use_tsig(dns.tsig.Key("key.example", b"x" * 32))
            listening.sendto(answer.to_wire(), peer)
            if spoil:
                assert len(server.notifier.notices) == 1
        asyncio.run(wait_until(lambda: not len(server.notifier.notices), within_seconds=2, what="it is acknowledged"))
        assert server.notices_given_up == 0


def test_an_answer_from_elsewhere_is_nobodys_and_a_refusal_is_logged(
    listening: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    port = listening.getsockname()[1]

    async def run() -> None:
        loop = asyncio.get_running_loop()
        notifier = Notifier(loop.time, lambda: 0.0)
        listening.setblocking(False)
        task = loop.create_task(notifier.run(["127.0.0.1"]))
        notifier.announce(transfers(7, ("127.0.0.1", port)))
        data, peer = await loop.sock_recvfrom(listening, 4096)
        answer = dns.message.make_response(dns.message.from_wire(data))
        answer.set_rcode(dns.rcode.NOTAUTH)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(answer.to_wire(), peer)
            listening.sendto(data, peer)  # its own NOTIFY back
            data, peer = await loop.sock_recvfrom(listening, 4096)  # so it is told again
        listening.sendto(data[:2] + answer.to_wire()[2:], peer)
        await wait_until(lambda: not len(notifier.notices), within_seconds=2, what="it is acknowledged")
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    with caplog.at_level(logging.WARNING):
        asyncio.run(run())
    assert "refuses NOTIFY of z0.example.com.: rcode 9" in caplog.text


def test_a_target_without_a_route_is_logged_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    server = DnsServer(ZoneSet(), make_view(), None)
    with running(server) as here, caplog.at_level(logging.WARNING):
        here.on_loop(lambda: server.swap(transfers=transfers(7, ("2001:db8::1", 53), ("192.0.2.1", 53))))
        asyncio.run(wait_until(lambda: caplog.text.count("sent") > 1, within_seconds=3, what="both are logged"))
        assert len(server.notifier.notices) == 2
