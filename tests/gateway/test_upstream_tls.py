"""TLS to endpoints: whom the gateway believes, what it shows of itself, and what it says when it does not believe."""

import asyncio
import contextlib
import datetime
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import trustme
from tests.gateway.echoing import authority
from tests.gateway.harness import (
    Reader,
    Running,
    Writer,
    ask,
    document,
    get,
    hello,
    named,
    origin,
    read_message,
    serving,
    status,
    upstream,
)

from meridian.core.snapshot import Snapshot, Upstream, UpstreamTls
from meridian.gateway.upstream_tls import UpstreamContexts, UpstreamTlsError

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


def server_context(leaf: trustme.LeafCert | None = None, *, clients: trustme.CA | None = None) -> ssl.SSLContext:
    """An endpoint's; with `clients` it wants a certificate of that authority's."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    (leaf or authority().issue_cert("app.example", "127.0.0.1")).configure_cert(context)
    if clients is not None:
        clients.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def snapshot(own: int, *ports: int, files: dict[str, bytes] | None = None, version: int = 1, **tls: Any) -> Snapshot:
    """A gateway in front of endpoints that it trusts by the authority of the tests, unless `tls` says otherwise."""
    words = {"ca_file": "ca.pem", **tls}
    files = {"ca.pem": authority().cert_pem.bytes(), **(files or {})}
    tls = {name: value for name, value in words.items() if value is not None}
    return document(own, [upstream(*ports, tls=tls, connect_timeout_seconds=0.5)], files=files, version=version)


@contextlib.asynccontextmanager
async def before(*ports: int, **more: Any) -> AsyncIterator[Running]:
    async with serving(lambda own: snapshot(own, *ports, **more)) as running:
        yield running


async def test_endpoints_are_asked_for_by_name_and_verified() -> None:
    asked: list[str | None] = []
    context = server_context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    context.sni_callback = lambda _, name, __: asked.append(name)
    spoken: list[str | None] = []

    async def app(reader: Reader, writer: Writer) -> None:
        spoken.append(writer.get_extra_info("ssl_object").selected_alpn_protocol())
        await hello(reader, writer)

    async with origin(app, context) as port:
        async with before(port) as running:
            for _ in range(3):
                head, _ = await ask(running.port, get())
                assert status(head) == 200
        async with before(port, server_name="app.example") as running:
            assert status((await ask(running.port, get()))[0]) == 200
    assert asked == [None, "app.example"], "an address is verified and not sent; a kept connection shakes hands once"
    assert spoken == ["http/1.1", "http/1.1"]


@pytest.mark.parametrize(
    ("fault", "why", "said"),
    [
        ("expired", "tls_expired", b"tls_certificate_error; details=\"it has expired\""),
        ("not yet", "tls_not_valid_yet", b"tls_certificate_error"),
        ("name", "tls_name", b"tls_certificate_error; details=\"it is for another name\""),
        ("address", "tls_name", b"tls_certificate_error; details=\"it is for another name\""),
        ("authority", "tls_authority", b"tls_certificate_error"),
        ("system", "tls_authority", b"tls_certificate_error"),
        ("plain", "tls_protocol", b"tls_protocol_error; details=\"wrong_version_number\""),
    ],
)  # fmt: skip
async def test_who_is_not_believed_gets_nothing_and_the_reason_is_said(fault: str, why: str, said: bytes) -> None:
    leaf, tls = authority().issue_cert("app.example", "127.0.0.1"), dict[str, Any]()
    match fault:
        case "expired":
            leaf = authority().issue_cert("127.0.0.1", not_before=NOW - 2 * DAY, not_after=NOW - DAY)
        case "not yet":
            leaf = authority().issue_cert("127.0.0.1", not_before=NOW + DAY, not_after=NOW + 2 * DAY)
        case "name":
            tls = {"server_name": "other.example"}
        case "address":
            leaf = authority().issue_cert("127.0.0.2")
        case "authority":
            leaf = trustme.CA().issue_cert("127.0.0.1")
        case "system":
            tls = {"ca_file": None}
    context = None if fault == "plain" else server_context(leaf)
    seen = bytearray()

    async def app(reader: Reader, writer: Writer) -> None:
        seen.extend(await reader.read(3000))
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    async with origin(app, context) as port, before(port, **tls) as running:
        head, body = await ask(running.port, get("/secret"))
        assert status(head) == 502
        assert b"\r\nproxy-status: meridian; error=" + said in head
        assert b"cannot be reached safely" in body
        assert running.seen.outcomes[-1].why == why.replace("not_valid_yet", "not_yet_valid")
    assert b"secret" not in seen


async def test_unverified_endpoints_are_believed_whoever_they_are() -> None:
    stranger = trustme.CA().issue_cert("elsewhere.example", not_before=NOW - 2 * DAY, not_after=NOW - DAY)
    async with (
        origin(hello, server_context(stranger)) as port,
        before(port, verify=False, ca_file=None) as running,
    ):
        assert status((await ask(running.port, get()))[0]) == 200


async def test_another_endpoint_is_tried_and_the_bad_one_left_alone() -> None:
    bad, good = server_context(trustme.CA().issue_cert("127.0.0.1")), server_context()
    async with (
        origin(named(b"bad"), bad) as one,
        origin(named(b"good"), good) as two,
        before(one, two) as running,
    ):
        for _ in range(20):
            assert (await ask(running.port, get()))[1] == b"good"
        tries = [outcome.tries for outcome in running.seen.outcomes]
        assert max(tries) == 2 and tries[-5:] == [1] * 5, "it is ejected as one that refuses"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_the_gateway_shows_a_certificate_to_those_who_ask(version: ssl.TLSVersion) -> None:
    clients = trustme.CA()
    issued = clients.issue_cert(common_name="gateway")
    files = {"own.pem": issued.cert_chain_pems[0].bytes(), "own.key": issued.private_key_pem.bytes()}

    async def app(reader: Reader, writer: Writer) -> None:
        subject = dict(part[0] for part in writer.get_extra_info("peercert")["subject"])
        await named(subject["commonName"].encode())(reader, writer)

    context = server_context(clients=clients)
    context.minimum_version = context.maximum_version = version
    async with (
        origin(app, context) as port,
        before(port, cert_file="own.pem", key_file="own.key", files=files) as running,
    ):
        assert (await ask(running.port, get()))[1] == b"gateway"


@contextlib.contextmanager
def refusing(context: ssl.SSLContext) -> Iterator[int]:
    """An endpoint in a thread that says why it shakes no hands (the loop's own servers just close). Gives its port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    raw, _ = listening.accept()
                    with raw, contextlib.suppress(OSError), context.wrap_socket(raw, server_side=True) as secured:
                        secured.recv(1)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize(
    ("server", "mine", "said"),
    [
        (ssl.TLSVersion.TLSv1_2, {}, "handshake_failure"),
        (ssl.TLSVersion.TLSv1_3, {}, "certificate_required"),
        (ssl.TLSVersion.TLSv1_2, {"min_version": "1.3"}, "protocol_version"),
    ],
)
async def test_what_an_endpoint_says_against_us_is_passed_on(
    server: ssl.TLSVersion, mine: dict[str, str], said: str
) -> None:
    context = server_context(clients=trustme.CA())
    context.minimum_version = context.maximum_version = server
    with refusing(context) as port:
        async with before(port, **mine) as running:
            head, _ = await ask(running.port, get())
            assert status(head) == 502
            assert f'error=tls_alert_received; details="{said}"'.encode() in head
            assert running.seen.outcomes[-1].why == "tls_alert"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_sessions_are_resumed(version: ssl.TLSVersion) -> None:
    """Also of an endpoint that ends every connection, which needs it most."""
    reused: list[bool] = []

    async def app(reader: Reader, writer: Writer) -> None:
        await read_message(reader)
        reused.append(bool(writer.get_extra_info("ssl_object").session_reused))
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")

    context = server_context()
    context.minimum_version = context.maximum_version = version
    async with origin(app, context) as port, before(port) as running:
        for _ in range(4):
            assert status((await ask(running.port, get()))[0]) == 200
        running.gateway.swap(snapshot(running.port, port, version=2))
        assert status((await ask(running.port, get()))[0]) == 200
        assert reused == [False, True, True, True, True], "a document with the same words of TLS changes nothing"
        running.gateway.swap(snapshot(running.port, port, server_name="app.example", version=3))
        assert status((await ask(running.port, get()))[0]) == 200
        assert reused[-1] is False, "another name, another session"


async def test_a_handshake_that_failed_leaves_no_session_behind() -> None:
    """And keeps nobody from the next try."""
    shaken = 0

    async def app(reader: Reader, writer: Writer) -> None:
        nonlocal shaken
        shaken += 1
        if shaken == 1:
            writer.transport.abort()
        elif hello_bytes := await reader.read(1):
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n" + hello_bytes)  # no TLS

    async with origin(app) as port, before(port) as running:
        for _ in range(3):
            assert status((await ask(running.port, get()))[0]) == 502
        assert running.seen.outcomes[-1].why == "tls_protocol"


async def test_a_kept_connection_is_not_used_under_other_words() -> None:
    """Else an upstream that is told to verify would go on to believe for as long as there is traffic."""
    stranger = server_context(trustme.CA().issue_cert("127.0.0.1"))
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def app(reader: Reader, writer: Writer) -> None:
        while True:
            head, _ = await read_message(reader)
            if b"/slow" in head:
                asked.set()
                await go_on.wait()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async with origin(app, stranger) as port, before(port, verify=False, ca_file=None) as running:
        async with asyncio.TaskGroup() as tasks:
            slow = tasks.create_task(ask(running.port, get("/slow")))
            await asyncio.wait_for(asked.wait(), 5)
            assert status((await ask(running.port, get()))[0]) == 200  # leaves an idle one
            running.gateway.swap(snapshot(running.port, port, version=2))
            assert status((await ask(running.port, get()))[0]) == 502
            go_on.set()
        assert status(slow.result()[0]) == 200, "what was under way ends as it began"
        assert status((await ask(running.port, get()))[0]) == 502
        running.gateway.swap(document(running.port, [upstream(port)], version=3))
        assert status((await ask(running.port, get()))[0]) == 502, "it speaks TLS, and is spoken to in plain"


async def test_who_does_not_shake_hands_is_too_late() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with before(silent.getsockname()[1]) as running:
            head, _ = await ask(running.port, get())
            assert status(head) == 504


def of(tls: UpstreamTls, name: str = "app") -> Upstream:
    words = document(1, [upstream(1, name=name)]).upstreams[name]
    return Upstream(**{field: getattr(words, field) for field in words.__slots__} | {"tls": tls})


def test_contexts_are_shared_and_forgotten() -> None:
    one, two = UpstreamTls(), UpstreamTls(ca_pem=authority().cert_pem.bytes())
    contexts = UpstreamContexts()
    contexts.prepare([of(one), of(two), of(UpstreamTls(), "b")])
    before = contexts.of(one)
    assert before is contexts.of(UpstreamTls()) and before is not contexts.of(two)
    contexts.keep([of(one)])
    assert contexts.of(one) is before


@pytest.mark.parametrize("fault", ["no authority", "no key", "other key"])
def test_what_cannot_be_used_is_named_and_no_key_shown(fault: str) -> None:
    leaf, other = authority().issue_cert("a"), authority().issue_cert("b")
    chain, key = leaf.cert_chain_pems[0].bytes(), leaf.private_key_pem.bytes()
    tls, said = {
        "no authority": (UpstreamTls(ca_pem=b"nonsense"), "ca_file"),
        "no key": (UpstreamTls(chain_pem=chain, key_pem=b"nonsense"), "key_file"),
        "other key": (UpstreamTls(chain_pem=chain, key_pem=other.private_key_pem.bytes()), "KEY_VALUES_MISMATCH"),
    }[fault]
    with pytest.raises(UpstreamTlsError, match=r"^upstream app: ") as caught:
        UpstreamContexts().prepare([of(tls)])
    assert said in str(caught.value) and "PRIVATE" not in str(caught.value)
    assert "PRIVATE" not in repr(UpstreamTls(chain_pem=chain, key_pem=key))
