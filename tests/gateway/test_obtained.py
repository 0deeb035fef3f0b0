"""Certificates that the cluster obtains, at the gateway: placeholders until they come, then they are in use; and what
authorities ask for over HTTP."""

import asyncio
import ssl

import pytest
from tests.gateway.echoing import certificate
from tests.gateway.harness import document, serving, upstream
from tests.gateway.test_tls import connected, gateway, serial, serial_of, trusting

from meridian.core.snapshot import Certificate, Ordered, Snapshot
from meridian.gateway.answers import CHALLENGE
from meridian.gateway.handshakes import HandshakeTrial
from meridian.gateway.tls import CertificateError, TlsContexts

HOST = "shop.example.com"
ORDERED = Ordered((HOST,), "1f")


def pair(one: Certificate) -> tuple[bytes, bytes]:
    return one.chain_pem, one.key_pem


async def test_a_placeholder_is_shown_until_there_is_a_certificate_and_then_it_at_once() -> None:
    contexts, real = TlsContexts([ORDERED]), certificate(HOST)
    async with gateway(contexts, "h1") as (_, port):
        with pytest.raises(ssl.SSLCertVerificationError, match="self-signed"):
            await serial(port, HOST)
        unbelieving = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        unbelieving.check_hostname, unbelieving.verify_mode = False, ssl.CERT_NONE
        async with connected(port, HOST, unbelieving) as (reader, writer, _):
            contexts.obtain({"1f": pair(real), "2e": pair(certificate("other.example.com"))})
            assert await serial(port, HOST) == serial_of(real)
            writer.write(b"GET /bytes/5 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            assert b"\0\0\0\0\0" in await reader.read(), "a connection that was open before goes on"
        renewed = certificate(HOST)
        contexts.obtain({"1f": pair(renewed)})
        assert await serial(port, HOST) == serial_of(renewed)
        (quic,) = contexts.quic_certificates(HOST)
        assert quic.leaf.serial_number == serial_of(renewed)
        contexts.replace([ORDERED, certificate("more.example.com")])
        assert await serial(port, HOST) == serial_of(renewed), "a change of the document loses none"


@pytest.mark.parametrize("there", [HOST, "*.example.com"])
async def test_a_placeholder_takes_the_place_of_no_certificate(there: str) -> None:
    """So that a host moves from files to an authority, and nobody sees it."""
    before, real = certificate(there), certificate(HOST)
    contexts = TlsContexts([ORDERED, before])
    async with gateway(contexts, "h1") as (_, port):
        assert await serial(port, HOST) == await serial(port, None) == serial_of(before)
        contexts.replace([ORDERED])
        contexts.obtain({"1f": pair(real)})
        assert await serial(port, HOST) == serial_of(real)


async def test_a_candidate_has_what_was_obtained_too() -> None:
    contexts, real = TlsContexts([certificate(HOST)]), certificate(HOST)
    async with gateway(contexts, "h1") as (_, port):
        contexts.try_out([ORDERED], HandshakeTrial(1.0, lambda: 0.0, asyncio.get_running_loop().time))
        contexts.obtain({"1f": pair(real)})
        assert await serial(port, HOST) == serial_of(real)


async def test_one_that_cannot_be_used_changes_nothing() -> None:
    contexts, real = TlsContexts([ORDERED]), certificate(HOST)
    contexts.obtain({"1f": pair(real)})
    with pytest.raises(CertificateError, match=HOST) as refused:
        contexts.obtain({"1f": (real.chain_pem, certificate(HOST).key_pem)})
    assert "PRIVATE" not in str(refused.value)
    async with gateway(contexts, "h1") as (_, port), connected(port, HOST, trusting()):
        assert await serial(port, HOST) == serial_of(real)
        contexts.replace([ORDERED])
        assert await serial(port, HOST) == serial_of(real)


def redirecting(port: int) -> Snapshot:
    secure = {"name": "secure", "bind": "127.0.0.1:8443", "protocols": ["h1", "h2"]}
    files, own = {"cert_file": "a.pem", "key_file": "a.key"}, certificate(HOST)
    plain = {"name": "web", "bind": f"127.0.0.1:{port}", "protocols": ["h1"], "https_redirect": True}
    return document(
        port, [upstream(1)], listeners=[plain, secure], certificates=[{"hosts": [HOST], **files}],
        files={"a.pem": own.chain_pem, "a.key": own.key_pem},
    )  # fmt: skip


async def asked(port: int, target: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET %b HTTP/1.1\r\nhost: %b\r\nconnection: close\r\n\r\n" % (target, HOST.encode()))
    try:
        return await reader.read()
    finally:
        writer.close()


async def test_an_authority_finds_its_proof_and_all_else_goes_its_way() -> None:
    async with serving(redirecting) as running:
        running.gateway.prove({b"token": b"token.thumbprint"})
        found = await asked(running.port, CHALLENGE + b"token")
        assert found.startswith(b"HTTP/1.1 200 ") and found.endswith(b"\r\n\r\ntoken.thumbprint")
        for target in (CHALLENGE + b"another", CHALLENGE, b"/token"):
            assert (await asked(running.port, target)).startswith(b"HTTP/1.1 308 ")
        running.gateway.prove({})
        assert (await asked(running.port, CHALLENGE + b"token")).startswith(b"HTTP/1.1 308 ")
