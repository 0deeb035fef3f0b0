"""Probes against real sockets that answer, refuse, hang, talk nonsense, and speak TLS."""

import asyncio
import re
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import grpc
import pytest
import trustme
from tests.control.parts import compiled, probe
from tests.support import free_port

from meridian.control.members import Endpoints, MemberRecord
from meridian.control.prober import Subject
from meridian.control.probing import NODE_PATH, NODE_TLS, any_answer, endpoint_subjects, node_subjects, round_trip_of
from meridian.core.health import Policy
from meridian.core.snapshot import UpstreamTls
from meridian.core.upstream_words import Endpoint, Health, Upstream
from meridian.core.verdicts import NodeVerdict, Standing, Verdict

POLICY = Policy(1.0, 0.2, 0.3, 2, 3)


@asynccontextmanager
async def server(
    answer: bytes | None,
    context: ssl.SSLContext | None = None,
    tls: UpstreamTls = NODE_TLS,
    thinks_seconds: float = 0.0,
) -> AsyncIterator[Subject]:
    """Answers every request so; None: never. Yields the subject to probe."""
    seen: list[bytes] = []
    handling: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (task := asyncio.current_task()) is not None:
            handling.add(task)
        try:
            seen.append(await reader.readuntil(b"\r\n\r\n"))
        except (OSError, asyncio.IncompleteReadError):  # it was only connected to, or not believed
            writer.close()
            return
        await asyncio.sleep(thinks_seconds)
        if answer is not None:
            writer.write(answer)
        else:
            await reader.read()
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        yield Subject("127.0.0.1", port, "/healthz", POLICY, tls=None if context is None else tls)
        await asyncio.gather(*handling)
        if answer is not None:
            assert seen[0].startswith(f"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n".encode())


@pytest.mark.parametrize(
    ("answer", "alive", "well"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", True, True),
        (b"HTTP/1.0 301 Moved\r\n\r\n", True, True),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", True, False),
        (b"HTTP/1.1 503\r\n\r\n", True, False),
        (b"SSH-2.0-OpenSSH\r\n", False, False),
        (b"HTTP/1.1 abc\r\n", False, False),
        (b"x" * 100_000, False, False),
        (b"", False, False),
        (None, False, False),
    ],
)
async def test_answers(answer: bytes | None, alive: bool, well: bool) -> None:
    async with server(answer) as subject:
        assert await any_answer(subject) is alive
        assert await probe(subject) is well


async def test_a_round_trip_is_told_as_the_kernel_timed_it_however_slow_the_answer() -> None:
    told: list[tuple[str, float]] = []
    async with server(b"HTTP/1.1 200 OK\r\n\r\n", thinks_seconds=0.1) as subject:
        assert await any_answer(subject, lambda host, seconds: told.append((host, seconds)))
    ((host, seconds),) = told
    assert host == "127.0.0.1"
    assert 0.0 < seconds < 0.05, "the way there and back, without the time that the server took"


def test_the_kernel_s_figure_is_the_one_that_ss_shows() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.create_connection(listening.getsockname()) as sock:
        shown = subprocess.run(
            ["ss", "-tinH", "src", f"127.0.0.1:{sock.getsockname()[1]}"], capture_output=True, text=True, check=True
        ).stdout
        found = re.search(r"minrtt:([0-9.]+)", shown)
        assert found is not None, shown
        assert round_trip_of(sock) == pytest.approx(float(found[1]) / 1000)


async def test_a_closed_port_is_no_answer() -> None:
    assert not await any_answer(Subject("127.0.0.1", free_port(), "/", POLICY))


async def test_what_is_a_good_status_is_the_operators_to_say() -> None:
    async with server(b"HTTP/1.1 401 Who\r\n\r\n") as subject:
        assert not await probe(subject)
        assert await probe(replace(subject, statuses=("2xx", "401")))
        assert not await probe(replace(subject, statuses=("400", "5xx")))


async def test_the_host_of_a_probe_is_the_operators_to_say() -> None:
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        assert await probe(Subject("127.0.0.1", port, "/", POLICY, authority="shop.example.com"))
    assert b"\r\nHost: shop.example.com\r\n" in heads[0]


async def test_a_connection_is_enough_for_tcp() -> None:
    taken = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        taken.set()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        assert await probe(Subject("127.0.0.1", port, "/", POLICY, kind="tcp"))
        await asyncio.wait_for(taken.wait(), 5)
    assert not await probe(Subject("127.0.0.1", free_port(), "/", POLICY, kind="tcp"))


async def test_grpc_is_asked_by_its_own_health_protocol() -> None:
    """The server speaks plain bytes: 0x08 is field 1 as a number, 0x0a field 1 as text."""
    statuses, asked = {b"": b"\x08\x01", b"\x0a\x04shop": b"\x08\x02", b"\x0a\x04slow": None}, list[bytes]()

    async def check(question: bytes, context: grpc.aio.ServicerContext) -> bytes:
        asked.append(question)
        if question not in statuses:
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        answer = statuses[question]
        if answer is None:
            await asyncio.Event().wait()
        assert answer is not None
        return answer

    handler = grpc.method_handlers_generic_handler(
        "grpc.health.v1.Health", {"Check": grpc.unary_unary_rpc_method_handler(check)}
    )
    grpc_server = grpc.aio.server(handlers=[handler])
    port = grpc_server.add_insecure_port("127.0.0.1:0")
    await grpc_server.start()
    try:
        patient = replace(POLICY, timeout_seconds=5.0)
        subject = Subject("127.0.0.1", port, "/", patient, kind="grpc")
        assert await probe(subject)
        assert not await probe(replace(subject, service="shop"))
        assert not await probe(replace(subject, service="none"))
        assert not await probe(replace(subject, service="slow", policy=replace(POLICY, timeout_seconds=0.2)))
        assert asked[:2] == [b"", b"\x0a\x04shop"]
    finally:
        await grpc_server.stop(None)
    assert not await probe(replace(subject, port=free_port()))


async def test_what_is_no_grpc_is_not_well() -> None:
    async with server(b"HTTP/1.1 200 OK\r\n\r\n") as subject:
        assert await probe(subject)
        assert not await probe(replace(subject, kind="grpc"))


async def test_tls_is_asked_for_life_and_not_for_identity() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("elsewhere.example").configure_cert(context)
    async with server(b"HTTP/1.1 200 OK\r\n\r\n", context) as subject:
        assert await any_answer(replace(subject, policy=replace(POLICY, timeout_seconds=2.0)))


async def test_an_endpoint_that_traffic_would_not_believe_is_down() -> None:
    ca, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1", "app.example").configure_cert(context)
    strict = UpstreamTls(ca_pem=ca.cert_pem.bytes())
    async with server(b"HTTP/1.1 200 OK\r\n\r\n", context) as subject:
        patient = replace(subject, policy=replace(POLICY, timeout_seconds=2.0))
        for kind in ("http", "tcp"):
            for tls, well in (
                (strict, True),
                (replace(strict, server_name="app.example"), True),
                (replace(strict, server_name="other.example"), False),
                (replace(strict, ca_pem=trustme.CA().cert_pem.bytes()), False),
                (replace(NODE_TLS, server_name="other.example"), True),
                (UpstreamTls(), False),  # the system knows nothing of this authority
            ):
                assert await probe(replace(patient, kind=kind, tls=tls)) is well, (kind, tls)


async def test_grpc_is_asked_over_tls() -> None:
    async def check(question: bytes, context: grpc.aio.ServicerContext) -> bytes:
        return b"\x08\x01"

    ca = trustme.CA()
    issued, root = ca.issue_cert("app.example"), ca.cert_pem.bytes()
    pair = (issued.private_key_pem.bytes(), b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    handler = grpc.method_handlers_generic_handler(
        "grpc.health.v1.Health", {"Check": grpc.unary_unary_rpc_method_handler(check)}
    )
    grpc_server = grpc.aio.server(handlers=[handler])
    # It wants to see a certificate of its authority's.
    port = grpc_server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair], root, True))
    await grpc_server.start()
    try:
        tls = UpstreamTls(True, "app.example", root, pair[1], pair[0])
        subject = Subject("127.0.0.1", port, "/", replace(POLICY, timeout_seconds=5.0), tls=tls, kind="grpc")
        assert await probe(subject)
        for bad in (replace(tls, chain_pem=None, key_pem=None), replace(tls, server_name="b.example")):
            quick = replace(POLICY, timeout_seconds=0.5)
            assert not await probe(replace(subject, tls=bad, policy=quick))
    finally:
        await grpc_server.stop(None)


def test_endpoints_of_upstreams_with_a_policy_are_subjects() -> None:
    asked = Health(path="/up", interval_seconds=2, timeout_seconds=0.5, rise=1, fall=4)
    upstreams = [
        Upstream(
            name="one", endpoints=(Endpoint(address="10.0.0.1:80"), Endpoint(address="[2001:db8::1]:81")), health=asked
        ),
        Upstream(name="two", endpoints=(Endpoint(address="10.0.0.1:80"),)),
    ]
    policy = Policy(2, 0.2, 0.5, 1, 4)
    assert endpoint_subjects(compiled(*upstreams)) == {
        ("one", "10.0.0.1:80"): Subject("10.0.0.1", 80, "/up", policy),
        ("one", "[2001:db8::1]:81"): Subject("2001:db8::1", 81, "/up", policy),
    }


def test_how_endpoints_are_probed_is_as_the_document_says() -> None:
    asked = Health(kind="grpc", service="shop", host="shop.test", jitter=0.3, statuses=("204",))
    upstream = Upstream(name="one", endpoints=(Endpoint(address="a:80"),), health=asked)
    (subject,) = endpoint_subjects(compiled(upstream)).values()
    assert (subject.kind, subject.service, subject.authority, subject.statuses) == (
        "grpc", "shop", "shop.test", ("204",),
    )  # fmt: skip
    assert subject.policy.jitter == 0.3


def test_nodes_are_probed_on_the_address_that_dns_publishes() -> None:
    own = MemberRecord("a", "a.1", "eu", ("192.0.2.1",), Endpoints("10.0.0.1:8080"))
    members = {
        "a": own,
        "b": MemberRecord("b", "b.1", "us", ("192.0.2.2",), Endpoints(https="10.0.0.2:8443")),
        "c": MemberRecord("c", "c.1", "us", ("192.0.2.3",)),
        "d": MemberRecord("d", "d.1", "us", (), Endpoints("10.0.0.4:8080")),
    }
    forgotten = {"e": NodeVerdict("e", "ap", ("192.0.2.5",), Standing.WITHDRAWN)}
    subjects = node_subjects(own, members, Verdict(1, 1, forgotten))
    assert {name: (s.host, s.port, s.path, s.tls) for name, s in subjects.items()} == {
        "b": ("192.0.2.2", 8443, NODE_PATH, NODE_TLS),
        "c": ("192.0.2.3", 8080, NODE_PATH, None),  # it says nothing yet: our own port
        "e": ("192.0.2.5", 8080, NODE_PATH, None),
    }
    assert node_subjects(replace(own, endpoints=Endpoints()), {"c": members["c"]}, Verdict()) == {}
