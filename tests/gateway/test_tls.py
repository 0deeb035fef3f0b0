"""Certificates by host over real TLS connections, and HTTP/2 through them with real clients."""

import asyncio
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from tests.gateway.echoing import EchoExchange, authority, certificate, run_command
from tests.support import wait_until

from meridian.core.snapshot import Certificate
from meridian.gateway import openssl
from meridian.gateway.connection import DownstreamConnection
from meridian.gateway.tls import CertificateError, TlsContexts


class Host:
    """A worker that only echoes."""

    begin = staticmethod(EchoExchange)
    coarse_now = 0.0
    clock = staticmethod(time.monotonic)

    def __init__(self) -> None:
        self.connections: set[DownstreamConnection] = set()
        self.refusals: list[str] = []
        self.handshakes: list[ssl.SSLObject] = []

    def opened(self, connection: DownstreamConnection) -> bool:
        self.connections.add(connection)
        return True

    def closed(self, connection: DownstreamConnection) -> None:
        self.connections.discard(connection)

    def handshaken(self, connection: ssl.SSLObject) -> None:
        self.handshakes.append(connection)

    def refused(self, status: int, why: str) -> None:
        self.refusals.append(why)

    def watch(self, connection: DownstreamConnection) -> None:
        raise AssertionError("all clients read")

    def failed(self, error: Exception) -> None:
        self.refusals.append(str(error))


@asynccontextmanager
async def gateway(contexts: TlsContexts, *protocols: str) -> AsyncIterator[tuple[Host, int]]:
    host = Host()
    server = await asyncio.get_running_loop().create_server(
        lambda: cast("asyncio.Protocol", DownstreamConnection(host, "secure", 0, tls=True)),
        "127.0.0.1",
        0,
        ssl=contexts.context_for(protocols or ("h1", "h2")),
    )
    try:
        yield host, server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for connection in list(host.connections):
            connection.close()
        await server.wait_closed()


def trusting(alpn: tuple[str, ...] = ()) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=authority().cert_pem.bytes().decode())
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


@asynccontextmanager
async def connected(
    port: int, name: str | None, context: ssl.SSLContext
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter, ssl.SSLObject]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name or "")
    try:
        yield reader, writer, writer.get_extra_info("ssl_object")
    finally:
        writer.close()
        try:
            await writer.wait_closed()
        except (ConnectionError, ssl.SSLError):
            pass


async def serial(port: int, name: str | None) -> int:
    """The serial number of the certificate that `name` is answered with."""
    context = trusting()
    context.check_hostname = False
    async with connected(port, name, context) as (_, _, tls):
        raw = tls.getpeercert(binary_form=True)
        assert raw is not None
        return x509.load_der_x509_certificate(raw).serial_number


def serial_of(one: Certificate) -> int:
    return x509.load_pem_x509_certificates(one.chain_pem)[0].serial_number


async def test_each_host_has_its_certificate() -> None:
    shop, other, wild = certificate("shop.example.com"), certificate("other.example.com"), certificate("*.example.net")
    async with gateway(TlsContexts([shop, other, wild])) as (_, port):
        expected = {
            "shop.example.com": shop,
            "SHOP.example.com": shop,
            "other.example.com": other,
            "a.example.net": wild,
            "a.b.example.net": shop,  # a wildcard stands for one label
            "example.net": shop,
            "unknown.example.org": shop,  # the first is the default
            None: shop,
        }
        for name, one in expected.items():
            assert await serial(port, name) == serial_of(one), name


@pytest.mark.parametrize(
    ("protocols", "offered", "chosen"),
    [
        (("h1", "h2", "h3"), ("http/1.1", "h2"), "h2"),
        (("h1",), ("h2", "http/1.1"), "http/1.1"),
        (("h1", "h2"), ("http/1.1",), "http/1.1"),
        (("h1", "h2"), ("spdy/1",), None),
    ],
)
async def test_alpn_follows_the_listener(
    protocols: tuple[str, ...], offered: tuple[str, ...], chosen: str | None
) -> None:
    contexts = TlsContexts([certificate("a.example.com"), certificate("b.example.com")])
    async with gateway(contexts, *protocols) as (_, port):
        for name in ("a.example.com", "b.example.com"):
            async with connected(port, name, trusting(offered)) as (_, _, tls):
                assert tls.selected_alpn_protocol() == chosen


async def test_a_replacement_is_for_new_handshakes_only() -> None:
    old, new, added = certificate("shop.example.com"), certificate("shop.example.com"), certificate("new.example.com")
    contexts = TlsContexts([old])
    async with (
        gateway(contexts) as (host, port),
        connected(port, "shop.example.com", trusting()) as (reader, writer, _),
    ):
        before = contexts.context_for(("h1", "h2"))
        contexts.replace([new, added])
        assert contexts.context_for(("h1", "h2")) is before
        assert await serial(port, "shop.example.com") == serial_of(new)
        assert await serial(port, "new.example.com") == serial_of(added)
        writer.write(b"GET /bytes/5 HTTP/1.1\r\nhost: shop.example.com\r\nconnection: close\r\n\r\n")
        assert b"\0\0\0\0\0" in await reader.read()
        assert host.refusals == []


async def test_sessions_resume_also_after_a_replacement() -> None:
    contexts = TlsContexts([certificate("shop.example.com")])
    async with gateway(contexts, "h1") as (_, port):

        def connect(session: ssl.SSLSession | None) -> tuple[ssl.SSLSession | None, bool]:
            with (
                socket.create_connection(("127.0.0.1", port)) as raw,
                client.wrap_socket(raw, server_hostname="shop.example.com", session=session) as tls,
            ):
                tls.sendall(b"GET /bytes/1 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
                while tls.recv(4096):
                    pass
                return tls.session, bool(tls.session_reused)

        client = trusting()
        session, reused = await asyncio.to_thread(connect, None)
        assert not reused
        session, reused = await asyncio.to_thread(connect, session)
        assert reused
        contexts.replace([certificate("shop.example.com")])
        _, reused = await asyncio.to_thread(connect, session)
        assert reused


async def s_client(port: int, *options: str) -> tuple[int, str]:
    """OpenSSL's client: its status, and what it said of the handshake."""
    status, out, _ = await run_command("openssl", "s_client", "-connect", f"127.0.0.1:{port}", *options)
    return status, out.decode(errors="replace")


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
async def test_what_a_client_can_verify_decides_between_ecdsa_and_rsa(version: str) -> None:
    """Whichever stands first in the document, and for each host by itself."""
    rsa, ecdsa = certificate("a.example.com", "b.example.com", rsa=True), certificate("a.example.com")
    async with gateway(TlsContexts([rsa, ecdsa])) as (_, port):
        for host, algorithms, kind in (
            ("a.example.com", "ECDSA+SHA256:RSA-PSS+SHA256", "ECDSA"),
            ("a.example.com", "RSA-PSS+SHA256:RSA+SHA256", "RSA"),
            ("b.example.com", "ECDSA+SHA256:RSA-PSS+SHA256", "RSA"),
        ):
            status, said = await s_client(port, version, "-servername", host, "-sigalgs", algorithms)
            assert status == 0 and f"Peer signature type: {kind}" in said, (host, algorithms)
        status, _ = await s_client(port, version, "-servername", "b.example.com", "-sigalgs", "ECDSA+SHA256")
        assert status != 0


def test_a_changed_certificate_of_two_is_taken_over_beside_the_other() -> None:
    rsa, ecdsa = certificate("a.example.com", rsa=True), certificate("a.example.com")
    contexts = TlsContexts([rsa])
    assert [quic.leaf.serial_number for quic in contexts.quic_certificates("a.example.com")] == [serial_of(rsa)]
    contexts.replace([rsa, ecdsa])
    found = [quic.leaf.serial_number for quic in contexts.quic_certificates("a.example.com")]
    assert found == [serial_of(ecdsa), serial_of(rsa)], "the cheaper one first"


@pytest.mark.parametrize(
    ("profile", "options", "taken"),
    [
        ("intermediate", ("-tls1_2",), True),
        ("intermediate", ("-tls1_3",), True),
        ("modern", ("-tls1_2",), False),
        ("modern", ("-tls1_3",), True),
        ("intermediate", ("-groups", "X25519"), True),
        ("intermediate", ("-groups", "P-384"), True),
        ("intermediate", ("-groups", "P-521"), False),
        ("intermediate", ("-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"), True),
        ("intermediate", ("-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-SHA384"), False),
    ],
)
async def test_profiles_are_mozillas(profile: str, options: tuple[str, ...], taken: bool) -> None:
    context = TlsContexts([certificate("a.example.com")]).context_for(("h1",), profile)
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0, ssl=context)
    async with server:
        status, _ = await s_client(server.sockets[0].getsockname()[1], *options)
        assert (status == 0) is taken


def test_the_calls_that_python_has_no_word_for_can_be_made() -> None:
    assert openssl.fault() == ""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with pytest.raises(openssl.OpensslError, match="P-1024"):
        openssl.set_groups(context, "P-1024")


async def test_old_protocol_versions_are_refused() -> None:
    async with gateway(TlsContexts([certificate("a.example.com")])) as (_, port):
        status, _, _ = await run_command(
            "openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-tls1_1", "-cipher", "DEFAULT:@SECLEVEL=0"
        )
        assert status != 0
        status, _, _ = await run_command("openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-tls1_2")
        assert status == 0


async def test_without_certificates_handshakes_are_refused_and_replace_mends_it() -> None:
    contexts = TlsContexts([])
    async with gateway(contexts) as (_, port):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await serial(port, "a.example.com")
        assert contexts.quic_certificates("a.example.com") == ()
        contexts.replace([certificate("a.example.com")])
        await serial(port, "a.example.com")


def encrypted(one: Certificate) -> bytes:
    key = serialization.load_pem_private_key(one.key_pem, password=None)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
    )


@pytest.mark.parametrize("fault", ["chain", "key", "other key", "encrypted key", "empty"])
def test_bad_certificates_are_named_and_change_nothing(fault: str) -> None:
    good = certificate("shop.example.com")
    bad = {
        "chain": Certificate(("bad.example.com",), b"-----BEGIN CERTIFICATE-----\nx\n", good.key_pem),
        "key": Certificate(("bad.example.com",), good.chain_pem, b"nonsense"),
        "other key": Certificate(("bad.example.com",), good.chain_pem, certificate("x").key_pem),
        "encrypted key": Certificate(("bad.example.com",), good.chain_pem, encrypted(good)),
        "empty": Certificate(("bad.example.com",), b"", b""),
    }[fault]
    contexts = TlsContexts([good])
    contexts.context_for(("h1", "h2"))
    with pytest.raises(CertificateError, match=r"bad\.example\.com") as caught:
        contexts.replace([good, bad])
    assert "PRIVATE" not in str(caught.value)
    assert caught.value.__cause__ is None
    with pytest.raises(CertificateError, match=r"bad\.example\.com"):
        TlsContexts([bad])
    (chosen,) = contexts.quic_certificates("bad.example.com")
    assert chosen.leaf.serial_number == serial_of(good)


def test_no_key_stays_in_a_file() -> None:
    contexts = TlsContexts([certificate("a.example.com"), certificate("b.example.com")])
    contexts.context_for(("h1", "h2"))
    open_files = [str(entry.readlink()) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]
    assert not any("certificate" in name for name in open_files)


def test_unchanged_certificates_are_taken_over() -> None:
    first, second = certificate("a.example.com"), certificate("b.example.com")
    contexts = TlsContexts([first])
    before = contexts.quic_certificates("a.example.com")
    contexts.replace([second, first])
    assert contexts.quic_certificates("a.example.com") is before
    contexts.context_for(("h1", "h2"))
    contexts.context_for(("h1",))
    contexts.replace([first, second])
    contexts.context_for(("h1", "h2", "h3"))


# HTTP/2 through all of it


@pytest.fixture
def trust_file(tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    path.write_bytes(authority().cert_pem.bytes())
    return path


async def test_curl_speaks_http2(trust_file: Path, tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(os.urandom(3 << 20))
    contexts = TlsContexts([certificate("default.example.com"), certificate("shop.example.com")])
    async with gateway(contexts) as (host, port):
        status, out, err = await run_command(
            "curl", "-sS", "--http2", "--cacert", str(trust_file), "--resolve", f"shop.example.com:{port}:127.0.0.1",
            "--data-binary", f"@{body}", "-D", str(tmp_path / "head"), f"https://shop.example.com:{port}/echo",
        )  # fmt: skip
        assert (status, err) == (0, b"")
        assert out == body.read_bytes()
        head = (tmp_path / "head").read_bytes()
        assert head.startswith(b"HTTP/2 200")
        assert b"x-protocol: h2" in head
        assert b"x-authority: shop.example.com:%d" % port in head
        assert host.refusals == []


async def test_h2load_finds_nothing_to_complain_about() -> None:
    async with gateway(TlsContexts([certificate("localhost")])) as (host, port):
        status, out, _ = await run_command(
            "h2load", "-n", "2000", "-c", "4", "-m", "32", f"https://127.0.0.1:{port}/bytes/100"
        )
        assert status == 0
        assert b"2000 succeeded, 0 failed, 0 errored, 0 timeout" in out
        assert host.refusals == []


async def test_httpx_speaks_http2_with_many_requests_at_once() -> None:
    async with (
        gateway(TlsContexts([certificate("localhost")])) as (host, port),
        httpx.AsyncClient(http2=True, verify=trusting()) as client,
    ):
        bodies = [os.urandom(20_000) for _ in range(60)]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(client.post(f"https://localhost:{port}/echo", content=body)) for body in bodies]
        for task, body in zip(tasks, bodies, strict=True):
            response = task.result()
            assert response.http_version == "HTTP/2"
            assert response.content == body
        assert len(host.connections) == 1


async def test_a_slow_reader_bounds_what_is_held(trust_file: Path) -> None:
    """32 MiB both ways under HTTP/2, the client reading at 16 MiB/s: the exchange never holds more than a window."""
    EchoExchange.held_max = 0
    async with gateway(TlsContexts([certificate("localhost")])) as (_, port):
        process = await asyncio.create_subprocess_exec(
            "curl", "-sS", "--http2", "--limit-rate", "16M", "--cacert", str(trust_file), "-T", "-",
            f"https://localhost:{port}/echo", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        sent, got = os.urandom(1 << 20), bytearray()

        async def feed(stdin: asyncio.StreamWriter) -> None:
            for _ in range(32):
                stdin.write(sent)
                await stdin.drain()
            stdin.close()

        async with asyncio.TaskGroup() as group:
            group.create_task(feed(process.stdin))
            while piece := await process.stdout.read(1 << 16):
                got += piece
        assert await process.wait() == 0
        assert bytes(got) == sent * 32
        assert EchoExchange.held_max <= 256 * 1024


async def test_drain_lets_an_open_stream_finish(trust_file: Path) -> None:
    async with gateway(TlsContexts([certificate("localhost")])) as (host, port), asyncio.TaskGroup() as group:
        url = f"https://localhost:{port}/bytes/60000000"
        curl = ("curl", "-sS", "--http2", "--limit-rate", "30M", "--cacert", str(trust_file))
        task = group.create_task(run_command(*curl, "-o", "/dev/null", "-w", "%{size_download}", url))
        connection = (await wait_until(lambda: list(host.connections), within_seconds=10, what="curl connects"))[0]
        await wait_until(lambda: connection.streams, within_seconds=10, what="the request arrives")
        connection.shut_down()
        assert await task == (0, b"60000000", b"")
        assert not host.connections
