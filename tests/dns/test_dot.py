"""DNS over TLS: the clients that there are, padding, zone transfers inside it, and what holds no place for long."""

import asyncio
import contextlib
import socket
import ssl
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import dns.edns
import dns.message
import dns.query
import pytest
import trustme
from tests.dns.running import Running, running
from tests.dns.test_secondary import put, secondary
from tests.dns.world import ORIGIN, make_view, make_zone, make_zones
from tests.support import wait_until

from meridian.core.snapshot import Certificate
from meridian.gateway.tls import TlsContexts
from meridian_dns.message import PADDING_BLOCK_BYTES, padded
from meridian_dns.server import DnsServer
from meridian_dns.tls import HANDSHAKES_MAX

AUTHORITY = trustme.CA()


def certificate(*hosts: str) -> Certificate:
    issued = AUTHORITY.issue_cert(*hosts)
    chain = b"".join(pem.bytes() for pem in issued.cert_chain_pems)
    return Certificate(hosts, chain, issued.private_key_pem.bytes())


@pytest.fixture(params=["asyncio", "uvloop"])
def here(request: pytest.FixtureRequest) -> Iterator[Running]:
    server = DnsServer(make_zones(), make_view(), None, idle_seconds=1.0)
    context = TlsContexts([certificate("ns1.gw.example.com"), certificate("ns2.gw.example.com")]).context_for(["dot"])
    with running(server, loop=request.param, tls_context=context) as started:
        yield started
    assert started.server.counters.errors == 0


def client_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    context.set_alpn_protocols(["dot"])
    return context


def connect(here: Running, host: str = "ns1.gw.example.com") -> ssl.SSLSocket:
    sock = socket.create_connection((here.host, here.tls_port), timeout=5)
    return client_context().wrap_socket(sock, server_hostname=host)


def test_dnspython_and_kdig_ask_and_check_the_certificate(here: Running, tmp_path: Path) -> None:
    query = dns.message.make_query("fixed.gw.example.com", "A", use_edns=0)
    for host in ("ns1.gw.example.com", "ns2.gw.example.com"):
        answer = dns.query.tls(
            query, here.host, port=here.tls_port, timeout=5, ssl_context=client_context(), server_hostname=host
        )
        assert len(answer.answer[0]) == 2
    authority = tmp_path / "ca.pem"
    authority.write_bytes(AUTHORITY.cert_pem.bytes())
    command = ["kdig", "+short", f"+tls-ca={authority}", "+tls-hostname=ns1.gw.example.com", f"@{here.host}", "-p",
               str(here.tls_port), "fixed.gw.example.com", "A"]  # fmt: skip
    said = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
    assert sorted(said.split()) == ["192.0.2.1", "192.0.2.2"]


def test_the_protocol_is_named_and_queries_are_pipelined(here: Running) -> None:
    wire = dns.message.make_query("fixed.gw.example.com", "A").to_wire()
    with connect(here) as client, client.makefile("rb") as stream:
        assert client.selected_alpn_protocol() == "dot"
        client.sendall(b"".join(struct.pack("!HH", len(wire), id_) + wire[2:] for id_ in range(300)))
        for id_ in range(300):
            (size,) = struct.unpack("!H", stream.read(2))
            assert stream.read(size)[:2] == struct.pack("!H", id_)


@pytest.mark.parametrize("name", ["fixed", "missing", "big"])
def test_answers_to_who_speaks_edns_are_padded_and_others_are_not(here: Running, name: str) -> None:
    with connect(here) as client, client.makefile("rb") as stream:
        for edns in (-1, 0):
            type_ = "TXT" if name == "big" else "A"
            wire = dns.message.make_query(f"{name}.gw.example.com", type_, use_edns=edns).to_wire()
            client.sendall(struct.pack("!H", len(wire)) + wire)
            reply = stream.read(struct.unpack("!H", stream.read(2))[0])
            answer = dns.message.from_wire(reply)
            codes = [option.otype for option in answer.options]
            assert (dns.edns.OptionType.PADDING in codes) is (edns == 0)
            assert edns or len(reply) % PADDING_BLOCK_BYTES == 0
    query = dns.message.make_query(f"{name}.gw.example.com", "A", use_edns=0)
    assert not dns.query.tcp(query, here.host, port=here.port, timeout=5).options, "only where nobody can look inside"


def test_padding_leaves_alone_what_it_cannot_fill() -> None:
    header = struct.pack("!6H", 1, 0x8180, 0, 0, 0, 1)
    for reply in (header[:-2] + b"\0\0", header + b"\1a\0" + struct.pack("!HHIH", 1, 1, 0, 4) + b"abcd"):
        assert padded(reply) == reply
    opt = b"\0" + struct.pack("!HHIH", 41, 1232, 0, 65_500) + struct.pack("!HH", 3, 65_496) + bytes(65_496)
    assert padded(header + opt) == header + opt, "a message has no more than 65,535 bytes"


def test_a_zone_is_transferred_inside_tls() -> None:
    """RFC 9103; dig is the client."""
    context = TlsContexts([certificate("ns1.gw.example.com")]).context_for(["dot"])
    with running(DnsServer(make_zones(), make_view(), None), tls_context=context) as here:
        made = put(here, make_zone(), secondary(keyed=False))
        command = ["dig", "+tls", "+noall", "+answer", f"@{here.host}", "-p", str(here.tls_port), ORIGIN, "AXFR"]
        said = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
        count = sum(len(one.rdatas) for one in made.sets.values())
        assert len([line for line in said.splitlines() if line and line[0] != ";"]) == count + 2


def test_a_certificate_is_replaced_while_connections_live() -> None:
    contexts = TlsContexts([certificate("old.example")])
    with running(DnsServer(make_zones(), make_view(), None), tls_context=contexts.context_for(["dot"])) as here:
        with connect(here, "old.example") as client:
            here.on_loop(lambda: contexts.replace([certificate("new.example")]))
            with connect(here, "new.example"):
                pass
            wire = dns.message.make_query("fixed.gw.example.com", "A").to_wire()
            client.sendall(struct.pack("!H", len(wire)) + wire)
            assert client.recv(2)
        with pytest.raises(ssl.SSLCertVerificationError):
            connect(here, "old.example")


def test_idle_clients_and_those_that_speak_no_tls_are_closed(here: Running) -> None:
    began = time.monotonic()
    with connect(here) as idle:
        asyncio.run(wait_until(lambda: here.server.tcp_connections == 1, within_seconds=2, what="it is open"))
        with contextlib.suppress(OSError):
            assert idle.recv(1) == b""
    assert 0.8 < time.monotonic() - began < 3
    with socket.create_connection((here.host, here.tls_port), timeout=5) as plain:
        plain.sendall(b"\0\5hello, is this DNS?")
        with contextlib.suppress(ConnectionResetError):
            while plain.recv(1000):
                pass  # an alert may come first
    asyncio.run(wait_until(lambda: here.server.tcp_connections == 0, within_seconds=2, what="nothing is left"))


def test_a_handshake_that_is_broken_off_ends_itself_alone(here: Running) -> None:
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100)
    for at in (0, 1, 5, 6, 40):
        for reset in (b"\1\0\0\0\0\0\0\0", b"\0" * 8):
            with socket.create_connection((here.host, here.tls_port), timeout=5) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
                client.sendall(hello[:at])
    with connect(here) as client:
        assert client.selected_alpn_protocol() == "dot"


def test_those_who_only_connect_are_bounded_and_keep_nobody_out_for_long(here: Running) -> None:
    def ask() -> bool:
        with connect(here):
            return True

    with contextlib.ExitStack() as clients:
        silent = [clients.enter_context(socket.create_connection((here.host, here.tls_port), timeout=5))
                  for _ in range(HANDSHAKES_MAX)]  # fmt: skip
        with pytest.raises(OSError, match=r"reset|EOF|closed"):
            connect(here)
        assert here.server.tcp_refused == 1
        silent[0].close()
        asyncio.run(wait_until(ask, within_seconds=2, what="a place is free again"))
