"""Load against real servers that misbehave on purpose: whatever goes wrong is counted, and nothing else is."""

import asyncio
import hashlib
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import dns.message
import dns.rrset
import pytest
from tests.chaos.servers import BODY, HOST, Authority, h1_server, h2_server, h3_server, make_authority
from tests.support import free_port

from chaosmeridian.connections.shot import Expectation, Target
from chaosmeridian.following import follow
from chaosmeridian.load import Offer, Turns, offer_load, parse_offer
from chaosmeridian.tally import Tally

EXPECTATION = Expectation(body_bytes=len(BODY), sha256=hashlib.sha256(BODY).hexdigest(), contains=b"right")
PROTOCOLS = ("h1", "h1s", "h2", "h3")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


@asynccontextmanager
async def server(protocol: str, authority: Authority) -> AsyncIterator[Target]:
    servers: dict[str, Callable[[], AbstractAsyncContextManager[int]]] = {
        "h1": h1_server,
        "h1s": lambda: h1_server(authority),
        "h2": lambda: h2_server(authority),
        "h3": lambda: h3_server(authority),
    }
    async with servers[protocol]() as port:
        yield Target(protocol, "127.0.0.1", port)


async def offer_to(
    target: Target, authority: Authority, path: str = "/ok", count: int = 20, timeout_seconds: float = 3.0
) -> Tally:
    """Offers `count` requests within 0.2 s."""
    return await offer_load(
        Offer(
            (target,),
            rate_per_second=count / 0.2,
            seconds=0.2,
            host=HOST,
            paths=(path,),
            ca_file=authority.ca_file,
            timeout_seconds=timeout_seconds,
            connect_timeout_seconds=1.0,
            expectation=EXPECTATION,
        )
    )


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_right_answers_count_as_answered(protocol: str, authority: Authority) -> None:
    async with server(protocol, authority) as target:
        tally = await offer_to(target, authority)
    assert (tally.offered, tally.answered, tally.failed, tally.reasons) == (20, 20, 0, {}), tally.examples
    assert 0 < tally.p50_seconds <= tally.p99_seconds <= tally.max_seconds < 1
    assert tally.protocols[protocol].answered == 20
    assert tally.connections <= 6
    assert sum(part.offered for part in tally.timeline) == 20


async def test_chunked_bodies_and_interim_answers(authority: Authority) -> None:
    async with server("h1", authority) as target:
        tally = await offer_to(target, authority, "/chunked")
    assert tally.answered == 20, tally.examples


@pytest.mark.parametrize(
    ("protocol", "path", "reason"),
    [
        ("h1", "/status", "status"),
        ("h1", "/cut", "cut"),
        ("h1", "/long", "body"),
        ("h1", "/other", "body"),
        ("h1", "/drop", "lost"),
        ("h1", "/garbage", "protocol"),
        ("h1s", "/cut", "cut"),
        ("h2", "/status", "status"),
        ("h2", "/cut", "cut"),
        ("h2", "/reset", "reset"),
        ("h2", "/drop", "lost"),
        ("h2", "/refuse-all", "refused"),
        ("h3", "/status", "status"),
        ("h3", "/reset", "reset"),
        ("h3", "/drop", "lost"),
        ("h3", "/refuse-all", "refused"),
    ],
)
async def test_every_wrong_answer_counts_with_its_reason(
    protocol: str, path: str, reason: str, authority: Authority
) -> None:
    async with server(protocol, authority) as target:
        tally = await offer_to(target, authority, path, count=10)
    assert tally.offered == tally.failed == 10
    assert reason in tally.reasons, tally.examples
    # A connection that is lost takes what else is under way on it along.
    assert tally.reasons.keys() <= {reason, "lost"}
    first = tally.examples[0]
    assert (first.protocol, first.target) == (protocol, str(target))
    assert sum(part.failed for part in tally.timeline) == 10


@pytest.mark.parametrize(("protocol", "path"), [("h2", "/short"), ("h3", "/cut")])
async def test_a_body_that_ends_before_its_length_counts(protocol: str, path: str, authority: Authority) -> None:
    """The libraries close the whole connection for it (a malformed message); the reason is what that looks like."""
    async with server(protocol, authority) as target:
        tally = await offer_load(
            Offer(
                (target,), rate_per_second=50, seconds=0.2, host=HOST, paths=(path,), ca_file=authority.ca_file,
                expectation=Expectation(),
            )
        )  # fmt: skip
    assert tally.offered == tally.failed == 10


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_silence_counts_as_timeout(protocol: str, authority: Authority) -> None:
    async with server(protocol, authority) as target:
        tally = await offer_to(target, authority, "/hang", count=4, timeout_seconds=0.3)
    assert tally.reasons == {"timeout": 4}, tally.examples
    assert 0.29 < tally.examples[0].after_seconds < 1.5


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_a_closed_port_counts_as_a_failure_to_connect(protocol: str, authority: Authority) -> None:
    tally = await offer_to(Target(protocol, "127.0.0.1", free_port()), authority, count=4, timeout_seconds=2.0)
    assert tally.reasons == {"connect": 4}, tally.examples


@pytest.mark.parametrize(("asked", "served"), [("h2", "h1s"), ("h1s", "h1")])
async def test_another_protocol_than_asked_counts(asked: str, served: str, authority: Authority) -> None:
    async with server(served, authority) as target:
        tally = await offer_to(Target(asked, target.address, target.port), authority, count=4, timeout_seconds=2.0)
    assert tally.reasons == {"connect": 4}, tally.examples


async def test_an_untrusted_certificate_counts(authority: Authority, tmp_path: Path) -> None:
    stranger = make_authority(tmp_path)
    for protocol in ("h1s", "h2", "h3"):
        async with server(protocol, stranger) as target:
            tally = await offer_to(target, authority, count=4, timeout_seconds=2.0)
        assert tally.reasons == {"connect": 4}, tally.examples


@pytest.mark.parametrize("path", ["/close", "/closes-later"])
async def test_connections_that_the_server_closes_between_requests_are_normal(path: str, authority: Authority) -> None:
    async with server("h1", authority) as target:
        # slow enough that no request is under way when the server closes
        tally = await offer_load(
            Offer((target,), rate_per_second=20, seconds=0.5, host=HOST, paths=(path,), expectation=EXPECTATION)
        )
    assert (tally.answered, tally.failed) == (10, 0), tally.examples
    assert tally.connections == 10


@pytest.mark.parametrize("protocol", ["h2", "h3"])
async def test_refused_requests_go_again(protocol: str, authority: Authority) -> None:
    async with server(protocol, authority) as target:
        tally = await offer_to(target, authority, "/refuse", count=10)
    assert (tally.answered, tally.failed) == (10, 0), tally.examples
    assert tally.sent_again > 0


@pytest.mark.parametrize("protocol", ["h2", "h3"])
async def test_goaway_lets_streams_end_and_sends_the_unprocessed_again(protocol: str, authority: Authority) -> None:
    """Six at once on two connections, each of which answers its first and says that the others were not processed."""
    async with server(protocol, authority) as target:
        tally = await offer_load(
            Offer(
                (target,), rate_per_second=60_000, seconds=0.0001, host=HOST, paths=("/goaway",),
                ca_file=authority.ca_file, expectation=EXPECTATION, timeout_seconds=3.0,
            )
        )  # fmt: skip
    assert (tally.answered, tally.failed) == (6, 0), tally.examples
    assert tally.sent_again > 0
    assert tally.connections > 2


async def test_a_stall_shows_in_every_request_scheduled_meanwhile(authority: Authority) -> None:
    """One connection's server that stalls for 0.3 s: a closed loop would show one slow request, this shows all."""
    loop = asyncio.get_running_loop()
    async with server("h2", authority) as target:
        stalled = loop.call_later(0.1, _stall, 0.3)
        tally = await offer_load(
            Offer((target,), rate_per_second=100, seconds=0.6, host=HOST, ca_file=authority.ca_file, paths=("/ok",))
        )
        stalled.cancel()
    assert tally.answered == 60
    assert sum(part.max_seconds > 0.05 for part in tally.timeline) >= 3
    assert tally.max_seconds > 0.25


def _stall(seconds: float) -> None:
    """Holds the one loop that server and generator share here."""
    import time

    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        pass


def test_turns_follow_the_mix_and_rotate_targets() -> None:
    targets = (Target("h1", "a", 1), Target("h1", "b", 1), Target("h2", "a", 2), Target("h3", "a", 2))
    turns = Turns(Offer(targets, 1, 100, HOST, mix={"h1": 60, "h2": 30, "h3": 10}))
    chosen = [turns.next() for _ in range(100)]
    assert [chosen.count(target) for target in targets] == [30, 30, 30, 10]
    assert chosen[:10].count(targets[3]) == 1  # evenly, not in bunches


def test_turns_keep_to_those_whom_dns_answers() -> None:
    targets = (Target("h1", "a", 1), Target("h1", "b", 1), Target("h2", "a", 2))
    turns = Turns(Offer(targets, 1, 100, HOST, mix={"h1": 50, "h2": 50}))
    turns.keep({"b"})
    assert {str(turns.next()) for _ in range(20)} == {"h1=b:1", "h2=a:2"}  # none of h2 is left, so all that there were
    turns.keep({"a", "b"})
    assert {str(turns.next()) for _ in range(20)} == {"h1=a:1", "h1=b:1", "h2=a:2"}


async def test_a_name_is_followed() -> None:
    class Names(asyncio.DatagramProtocol):
        def __init__(self) -> None:
            self.address = "127.0.0.11"

        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
            question = dns.message.from_wire(data)
            answer = dns.message.make_response(question)
            answer.answer.append(dns.rrset.from_text(question.question[0].name, 1, "IN", "A", self.address))
            self.transport.sendto(answer.to_wire(), address)

    loop = asyncio.get_running_loop()
    transport, names = await loop.create_datagram_endpoint(Names, local_addr=("127.0.0.1", 0))
    seen: asyncio.Queue[frozenset[str]] = asyncio.Queue()
    servers = [f"127.0.0.1:{free_port()}", f"127.0.0.1:{transport.get_extra_info('sockname')[1]}"]
    following = loop.create_task(follow("shop.example.com", servers, seen.put_nowait))
    try:
        async with asyncio.timeout(10):
            assert await seen.get() == {"127.0.0.11"}  # of the second server: the first one is not there
            names.address = "127.0.0.12"
            while await seen.get() != {"127.0.0.12"}:
                pass
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        transport.close()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--host", "x"],
        ["--host", "x", "--target", "h9=127.0.0.1:80"],
        ["--host", "x", "--target", "h1=127.0.0.1"],
        ["--host", "x", "--target", "h1=127.0.0.1:80", "--mix", "h2=1"],
        ["--host", "x", "--target", "h1=127.0.0.1:80", "--rate", "0"],
        ["--host", "x", "--target", "h1=127.0.0.1:80", "--follow", "a.name"],
        ["--host", "x", "--target", "h1=127.0.0.1:80", "--ca-file", "/nowhere"],
    ],
)
def test_a_wrong_command_exits_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        parse_offer(arguments)
    assert exit.value.code == 2
    assert "error:" in capsys.readouterr().err


async def test_as_a_process_it_offers_500_a_second_for_half_a_core(authority: Authority) -> None:
    async with AsyncExitStack() as stack:
        targets = [await stack.enter_async_context(server(protocol, authority)) for protocol in ("h1", "h2", "h3")]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "chaosmeridian.load", "--json", "--rate", "500", "--seconds", "2", "--host", HOST,
            "--ca-file", authority.ca_file, "--path", "/ok", "--expect-contains", "right answer",
            *(part for target in targets for part in ("--target", str(target))), stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        output, _ = await process.communicate()
    tally = Tally.from_json(output)
    assert process.returncode == 0, tally.examples
    assert (tally.offered, tally.failed) == (1000, 0)
    assert {name: counts.offered for name, counts in tally.protocols.items()} == {"h1": 600, "h2": 300, "h3": 100}
    assert tally.cpu_seconds / tally.seconds < 0.5
    assert Tally.from_json(tally.to_json()) == tally


async def test_a_process_that_is_asked_to_stop_prints_its_tally_and_a_failed_one_exits_1(authority: Authority) -> None:
    async with server("h1", authority) as target:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "chaosmeridian.load", "--json", "--rate", "50", "--seconds", "60", "--host", HOST,
            "--path", "/ok", "--path", "/status", "--target", str(target), stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        await asyncio.sleep(1.0)
        process.terminate()
        output, _ = await process.communicate()
    tally = json.loads(output)
    assert process.returncode == 1
    assert 0 < tally["reasons"]["status"] <= tally["offered"] < 200
