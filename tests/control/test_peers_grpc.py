"""The mesh over real sockets and real mutual TLS."""

import asyncio
import time

import grpc
import pytest
import trustme
from tests.control.parts import running
from tests.support import free_port, wait_until

from meridian.control.peers import PeerPortTaken
from meridian.control.peers_grpc import GrpcPeers, PeerTls
from meridian.core.health import Sight
from meridian.core.verdicts import NodeVerdict, Report, Standing, Verdict
from meridian_proto.v1.spending_pb2 import Letter

HOST = "127.0.0.1"


class Ear:
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.reports: list[Report] = []
        self.verdicts: list[Verdict] = []
        self.beats: list[tuple[int, int]] = []
        self.letters: list[Letter] = []

    def on_report(self, report: Report) -> None:
        self.reports.append(report)

    def on_verdict(self, verdict: Verdict) -> None:
        self.verdicts.append(verdict)

    def on_beat(self, fence: int, version: int) -> None:
        self.beats.append((fence, version))

    def on_letter(self, letter: Letter) -> None:
        self.letters.append(letter)


def issue(authority: trustme.CA) -> PeerTls:
    issued = authority.issue_cert(HOST)
    return PeerTls(authority.cert_pem.bytes(), issued.cert_chain_pems[0].bytes(), issued.private_key_pem.bytes())


def report(sequence: int, observer: str = "a") -> Report:
    return Report(observer, "eu", f"{observer}.1", 1, sequence, {"b": Sight.UP})


TLS = issue(trustme.CA())


def peers(tls: PeerTls = TLS, port: int = 0) -> GrpcPeers:
    return GrpcPeers(f"{HOST}:{port}", tls, time.monotonic)


async def port_of(node: GrpcPeers) -> int:
    return await wait_until(lambda: node.port, within_seconds=5, what="listening")


async def test_reports_go_up_and_verdicts_come_down() -> None:
    a, b, heard_a, heard_b = peers(), peers(), Ear(), Ear()
    async with running(a.run(heard_a), b.run(heard_b)):
        b.publish(Verdict(3, 1))
        a.send(report(1))  # before anyone is connected: it waits
        a.set_peers({"b": f"{HOST}:{await port_of(b)}"})
        await wait_until(lambda: heard_b.reports, within_seconds=5, what="the first report")
        assert heard_b.reports[0].sights == {"b": Sight.UP}
        assert 0 <= heard_b.reports[0].age_seconds < 5
        await wait_until(lambda: heard_a.verdicts == [Verdict(3, 1)], within_seconds=5, what="the verdict in force")
        a.send(report(2))
        await wait_until(lambda: heard_b.reports[-1].sequence == 2, within_seconds=0.5, what="the second, at once")
        changed = Verdict(3, 2, {"a": NodeVerdict("a", "eu", ("192.0.2.1",), Standing.SERVING)})
        b.publish(changed)
        await wait_until(lambda: heard_a.verdicts[-1] == changed, within_seconds=0.5, what="the next verdict, at once")
        assert heard_a.reports == []


async def test_beats_reach_who_is_connected_and_nobody_later() -> None:
    a, b, c, heard_a, heard_c = peers(), peers(), peers(), Ear(), Ear()
    async with running(a.run(heard_a), b.run(Ear()), c.run(heard_c)):
        where = {"b": f"{HOST}:{await port_of(b)}"}
        b.publish(Verdict(3, 1))
        a.set_peers(where)
        await wait_until(lambda: heard_a.verdicts, within_seconds=5, what="the verdict in force")
        for _ in range(2):
            before = len(heard_a.beats)
            b.beat(3, 1)
            await wait_until(lambda before=before: len(heard_a.beats) > before, within_seconds=1, what="a beat")  # type: ignore[misc]  # bound at once
        assert heard_a.beats == [(3, 1), (3, 1)]
        assert heard_a.verdicts == [Verdict(3, 1)]
        c.set_peers(where)
        await wait_until(lambda: heard_c.verdicts, within_seconds=5, what="the verdict in force")
        assert heard_c.beats == []


async def test_letters_reach_the_node_they_are_for_and_none_waits_for_one_that_is_away() -> None:
    a, b, heard_a, heard_b = peers(), peers(), Ear(), Ear()
    async with running(a.run(heard_a), b.run(heard_b)):
        a.deliver("b", Letter(to="b/0", body=b"nobody is there"))
        a.set_peers({"b": f"{HOST}:{await port_of(b)}", "c": f"{HOST}:{free_port(HOST)}"})
        a.send(report(1))
        await wait_until(lambda: heard_b.reports, within_seconds=5, what="the link")
        letters = [Letter(to=f"b/{number % 2}", body=b"%d" % number) for number in range(1000)]
        for number, letter in enumerate(letters):
            a.deliver("b", letter)
            a.deliver("c", letter)
            if number % 100 == 0:
                await asyncio.sleep(0)
        await wait_until(lambda: heard_b.letters == letters, within_seconds=5, what="all letters, in order, once")
        assert heard_a.letters == []


async def test_only_the_latest_report_waits_for_a_peer_that_is_away_and_says_its_age() -> None:
    a, port, heard = peers(), free_port(HOST), Ear()
    async with running(a.run(Ear())):
        a.set_peers({"b": f"{HOST}:{port}"})
        for sequence in range(1, 50):
            a.send(report(sequence))
        await asyncio.sleep(0.5)
        async with running(peers(port=port).run(heard)):
            await wait_until(lambda: heard.reports, within_seconds=5, what="a report after the peer came")
            assert [r.sequence for r in heard.reports] == [49]
            assert heard.reports[0].age_seconds >= 0.4


async def test_a_peer_that_comes_again_is_found_again() -> None:
    a, port = peers(), free_port(HOST)
    async with running(a.run(Ear())):
        a.set_peers({"b": f"{HOST}:{port}"})
        for boot in range(3):
            heard = Ear()
            async with running(peers(port=port).run(heard)):

                def arrived(boot: int = boot, heard: Ear = heard) -> bool:
                    a.send(report(boot + 1))
                    return bool(heard.reports)

                await wait_until(arrived, within_seconds=5, what=f"boot {boot} hears", every_seconds=0.1)


async def test_a_renewed_link_is_told_the_verdict_again() -> None:
    a, b, heard = peers(), peers(), Ear()
    async with running(a.run(heard), b.run(Ear())):
        b.publish(Verdict(5, 7))
        a.set_peers({"b": f"{HOST}:{await port_of(b)}"})
        await wait_until(lambda: len(heard.verdicts) == 1, within_seconds=5, what="the verdict")
        a.renew()
        await wait_until(lambda: len(heard.verdicts) == 2, within_seconds=5, what="the same verdict again")


async def test_a_certificate_of_another_authority_is_not_heard() -> None:
    stranger, b, heard = peers(issue(trustme.CA())), peers(), Ear()
    async with running(stranger.run(Ear()), b.run(heard)):
        stranger.set_peers({"b": f"{HOST}:{await port_of(b)}"})
        stranger.send(report(1, "stranger"))
        await asyncio.sleep(1.0)
        assert heard.reports == []
        plain = grpc.aio.insecure_channel(f"{HOST}:{b.port}")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await plain.channel_ready()
        await plain.close()


async def test_a_taken_port_is_one_clear_error() -> None:
    a = peers()
    async with running(a.run(Ear())):
        port = await port_of(a)
        with pytest.raises(PeerPortTaken, match=f"127.0.0.1:{port}"):
            await peers(port=port).run(Ear())


async def test_a_peer_that_is_taken_off_is_left_alone() -> None:
    a, b, heard = peers(), peers(), Ear()
    async with running(a.run(Ear()), b.run(heard)):
        a.set_peers({"b": f"{HOST}:{await port_of(b)}"})
        a.send(report(1))
        await wait_until(lambda: heard.reports, within_seconds=5, what="the first report")
        a.set_peers({})
        await asyncio.sleep(0.1)
        a.send(report(2))
        await asyncio.sleep(0.3)
        assert len(heard.reports) == 1
