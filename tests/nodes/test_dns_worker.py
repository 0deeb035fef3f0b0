"""The DNS worker's duties on real sockets: what a document changes, the next query sees."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator

import dns.asyncquery
import dns.edns
import dns.flags
import dns.message
import pytest
from tests.nodes.test_checks import issue

from meridian.control.messages import verdict_to_proto
from meridian.core.judging import QUESTIONS, Arms, Sample, Tally, judge
from meridian.core.verdicts import Verdict
from meridian.nodes.compiling import Unfit
from meridian.nodes.dns_worker import DnsDuties
from meridian.nodes.settings import Settings
from meridian.nodes.trials import arms_from_proto
from meridian_proto.v1.channel_pb2 import Config, CookieSecrets, Frame, Trial

HOST = "127.0.0.1"


def config(version: int, **more: object) -> Config:
    document = {
        "listeners": [{"name": "web", "bind": "0.0.0.0:80", "protocols": ["h1"]}],
        "zones": [{"name": "gw.example.com", "nameservers": ["ns.example.net"],
                   "records": [{"name": "www", "type": "A", "value": "192.0.2.1"}]}],
    }  # fmt: skip
    return Config(version=version, document=json.dumps(document | more).encode())


async def test_a_limit_of_answers_comes_stays_and_goes_with_the_document() -> None:
    duties = DnsDuties(Settings("one", "eu", advertise=(HOST,)))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind((HOST, 0))
        port = udp.getsockname()[1]

        async def is_answered() -> bool:
            query = dns.message.make_query("www.gw.example.com", "A")
            answer = await dns.asyncquery.udp(query, HOST, timeout=5, port=port)
            assert bool(answer.answer) is not bool(answer.flags & dns.flags.TC)
            return bool(answer.answer)

        limit = {"limit": {"rate": "1/h", "burst": 2, "slip": 1}}
        duties.compile(config(1, dns=limit))()
        duties.on_sockets({("udp", HOST, port): udp})
        running = asyncio.get_running_loop().create_task(duties.run())
        assert [await is_answered() for _ in range(3)] == [True, True, False]
        duties.compile(config(2, dns=limit))()
        assert not await is_answered(), "the same limit gives no fresh burst"
        duties.compile(config(3))()
        assert await is_answered()
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
    throttled = next(series for series in duties.series() if series.name == "meridian_dns_throttled_total")
    assert throttled.value == 2


async def test_a_cookie_is_known_to_another_worker_and_over_a_change_of_the_secret() -> None:
    """A limit that admits nothing shows it: who brings a cookie that is valid is answered all the same."""
    old, new = bytes(16), bytes(range(16))
    limit: dict[str, object] = {"limit": {"rate": "1/h", "burst": 1, "slip": 1}}
    async with contextlib.AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(serving(limit)) for _ in range(2)]
        for duties, _ in workers:
            duties.on_state(Frame(cookie_secrets=CookieSecrets(secrets=[old])))

        async def ask(port: int, cookie: bytes) -> tuple[bool, bytes]:
            option = dns.edns.GenericOption(dns.edns.OptionType.COOKIE, cookie)
            query = dns.message.make_query("www.gw.example.com", "A", options=[option])
            answer = await dns.asyncquery.udp(query, HOST, timeout=5, port=port)
            return bool(answer.answer), b"".join(option.to_wire() or b"" for option in answer.options)

        (_, first_port), (two, second_port) = workers
        _, given = await ask(first_port, b"client's")
        assert len(given) == 24
        await ask(second_port, b"client's")
        assert await ask(second_port, b"client's" + bytes(16)) == (False, b""), "over the limit, and no proof"
        assert await ask(second_port, given) == (True, given)
        two.on_state(Frame(cookie_secrets=CookieSecrets(secrets=[new, old])))
        assert await ask(second_port, given) == (True, given), "of the secret before"
        two.on_state(Frame(cookie_secrets=CookieSecrets(secrets=[b"short"])))
        assert await ask(second_port, given) == (True, given), "nonsense from an agent changes nothing"
        two.on_state(Frame(cookie_secrets=CookieSecrets(secrets=[new])))
        assert await ask(second_port, given) == (False, b""), "its secret is gone"


async def test_queries_are_logged_and_traced_while_the_document_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    all_of_them = {"sample_ratio": 1.0}
    frames: list[Frame] = []
    async with serving({"log": all_of_them, "trace": all_of_them}) as (duties, port):
        query = dns.message.make_query("www.gw.example.com", "A")
        await dns.asyncquery.udp(query, HOST, timeout=5, port=port)
        duties.tick(frames.append)
        duties.compile(config(2))()
        await dns.asyncquery.udp(query, HOST, timeout=5, port=port)
        duties.tick(frames.append)
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    (logged,) = (line for line in lines if line.get("log") == "dns")
    ((span,),) = (frame.spans.spans for frame in frames)
    assert (logged["name"], logged["zone"]) == ("www.gw.example.com", "gw.example.com")
    assert span.attributes["dns.question.name"] == "www.gw.example.com" and span.trace_id.hex() == logged["trace_id"]


@contextlib.asynccontextmanager
async def serving(settings: dict[str, object]) -> AsyncIterator[tuple[DnsDuties, int]]:
    """Duties that serve the zone over UDP, and on which port."""
    duties = DnsDuties(Settings("one", "eu", advertise=(HOST,)))
    duties.compile(config(1, dns=settings))()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind((HOST, 0))
        duties.on_sockets({("udp", *udp.getsockname()): udp})
        running = asyncio.get_running_loop().create_task(duties.run())
        try:
            yield duties, udp.getsockname()[1]
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running


async def test_a_candidate_answers_a_share_of_the_questions_beside_what_is_in_force_and_says_how() -> None:
    duties, sent = DnsDuties(Settings("one", "eu", advertise=(HOST,))), list[Frame]()
    duties.compile(config(1))()
    other = [{"name": "gw.example.com", "nameservers": ["ns.example.net"], "records": []}]

    def ask() -> bool:
        query = dns.message.make_query("www.gw.example.com", "A")
        reply = duties._server.respond(query.to_wire(), HOST)
        assert reply is not None
        return bool(dns.message.from_wire(reply).answer)

    def told() -> Arms | None:
        sent.clear()
        duties.tick(sent.append)
        return arms_from_proto(0.5, sent[0].tallies) if sent else None

    assert ask() and told() is None
    duties.on_state(Frame(trial=Trial(version=2, generation=7, share=1.0)))
    assert ask() and told() is None, "there is no candidate yet"
    duties.compile_candidate(config(2, zones=other))()
    for _ in range(30):
        assert ask(), "what is in force is answered"
    found = told()
    assert found is not None and sent[0].tallies.generation == 7
    assert found.samples[QUESTIONS] == Sample(0.5, Tally(30), Tally(30, unrouted=30))
    assert "30 of 30 DNS questions (100.0 %) got no records" in str(judge(found))
    duties.on_state(Frame(verdict=verdict_to_proto(Verdict(1, 1), 0.0)))
    assert ask() and told() != found, "its counts go on under the next verdict"
    duties.on_state(Frame(trial=Trial(version=2, generation=8, share=0.5)))
    again = told()
    assert again is not None and again.samples[QUESTIONS].candidate.exchanges == 0, "each stage counts from nothing"
    duties.compile_candidate(config(0))()
    assert told() is None and ask()


def test_certificates_are_wanted_only_where_tls_is_served() -> None:
    chain, key = issue()
    named = {"certificates": [{"hosts": ["a.example"], "cert_file": "a.pem", "key_file": "a.key"}]}
    plain = DnsDuties(Settings("one", "eu", advertise=(HOST,)))
    plain.compile(config(1, **named))()
    with_tls = DnsDuties(Settings("one", "eu", advertise=(HOST,), dns_tls_port=853))
    with pytest.raises(Unfit, match=r"the contents of a\.pem did not come with the document"):
        with_tls.compile(config(1, **named))
    complete = config(1, **named)
    complete.files.update({"a.pem": chain, "a.key": chain})
    with pytest.raises(Unfit, match=r"certificate for a\.example"):
        with_tls.compile(complete)
    complete.files.update({"a.key": key})
    with_tls.compile(complete)()
