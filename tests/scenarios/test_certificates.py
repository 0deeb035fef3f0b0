"""Certificates that the running cluster obtains by itself: once for all nodes, proven at all of them, renewed without
a dropped connection, and not twice when the leader dies in the middle."""

import asyncio
import contextlib
import os
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from tests import acme_server
from tests.acme_server import AcmeServer
from tests.local_cluster import LocalCluster, LocalNode, ask_dns
from tests.scale import TIMES
from tests.support import wait_until

HTTP_HOST = "certified.gw.example.com"
DNS_HOSTS = ("wild.gw.example.com", "*.wild.gw.example.com")
WINDOW = (8.0, 9.0)  # seconds after it was made, when the authority wants a first certificate to be renewed
MOMENTS = ["gate", "mint"] if TIMES > 1 else ["gate"]
SERVED_SECONDS = 20.0  # two orders one after the other, of a dozen requests each; with room for a busy machine
RESUMED_SECONDS = 30.0  # and a new leader before


@pytest.fixture
def authority(cluster: LocalCluster) -> Iterator[AcmeServer]:
    with acme_server.running() as server:
        nodes = list(cluster.nodes().values())
        server.behaviour.http = [address_of(node.http) for node in nodes]
        server.behaviour.dns = [address_of(node.dns) for node in nodes]
        yield server
    cluster.run("apply", "--now", "--force", str(cluster.document))


def address_of(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


def written(cluster: LocalCluster, server: AcmeServer, folder: Path, *certificates: str) -> str:
    """A document with these certificates, and an authority for each kind of challenge."""
    (folder / "authority.pem").write_bytes(server.ca_pem)
    authorities = "".join(
        f"  - {{name: {kind}, directory: {server.directory!r}, ca_file: authority.pem, challenge: {kind}}}\n"
        for kind in ("http-01", "dns-01")
    )
    entries = "".join(f"  - {one}\n" for one in certificates)
    source = cluster.document.read_text().replace("certificates:\n", f"acme:\n{authorities}certificates:\n{entries}", 1)
    document = folder / "certified.yaml"
    document.write_text(source)
    return str(document)


def entry(kind: str, *hosts: str) -> str:
    quoted = ", ".join(f'"{host}"' for host in hosts)
    return f"{{hosts: [{quoted}], acme: {kind}}}"


@contextlib.asynccontextmanager
async def connected(
    node: LocalNode, host: str, server: AcmeServer
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A TLS connection that believes the authority alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=server.root_pem)
    address = address_of(node.https)
    reader, writer = await asyncio.open_connection(*address, ssl=context, server_hostname=host)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError, ssl.SSLError):
            await writer.wait_closed()


async def serial_at(node: LocalNode, host: str, server: AcmeServer) -> int:
    """The serial number of what a node serves; OSError while it is not of the authority."""
    async with connected(node, host, server) as (_, writer):
        der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    return x509.load_der_x509_certificate(der).serial_number


async def obtained(cluster: LocalCluster, host: str, server: AcmeServer, within_seconds: float, before: int = 0) -> int:
    """The serial number of the certificate that all nodes serve, when it is one, and another than `before`."""
    nodes = list(cluster.nodes().values())

    async def same() -> int:
        serials = {await serial_at(node, host, server) for node in nodes}
        return serials.pop() if len(serials) == 1 and before not in serials else 0

    what = f"one certificate for {host} at all nodes"
    try:
        return await wait_until(same, within_seconds=within_seconds, what=what, every_seconds=0.2)
    except AssertionError as error:
        raise AssertionError(f"{error}; {cluster.status()['certificates']}") from error


async def asked(connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], host: str) -> bytes:
    reader, writer = connection
    writer.write(f"GET /.meridian/health HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"content-length"))
    await reader.readexactly(length)
    return head.split(b"\r\n")[0]


def serials_for(server: AcmeServer, host: str) -> list[int]:
    return [
        one.serial_number
        for one in server.issued
        if host in one.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
            x509.DNSName
        )
    ]  # fmt: skip


async def test_certificates_are_obtained_once_served_by_all_and_renewed_in_use(
    cluster: LocalCluster, authority: AcmeServer, tmp_path: Path
) -> None:
    nodes = list(cluster.nodes().values())
    authority.behaviour.bad_nonces = 1
    authority.behaviour.window = WINDOW
    document = written(cluster, authority, tmp_path, entry("http-01", HTTP_HOST), entry("dns-01", *DNS_HOSTS))
    await asyncio.to_thread(cluster.run, "apply", "--now", document)
    found = {
        host: await obtained(cluster, host, authority, SERVED_SECONDS) for host in (HTTP_HOST, "a.wild.gw.example.com")
    }
    first = found[HTTP_HOST]
    assert serials_for(authority, HTTP_HOST)[0] == first and len(authority.accounts) == 1
    assert len([order for order in authority.orders if order.replaces is None]) == 2, "one for each certificate"
    assert set(authority.looked) == {*authority.behaviour.http, *authority.behaviour.dns}, "at every node"
    async with connected(nodes[0], HTTP_HOST, authority) as open_before:
        assert b" 200 " in await asked(open_before, HTTP_HOST)
        await obtained(cluster, HTTP_HOST, authority, SERVED_SECONDS + WINDOW[1], before=first)
        assert b" 200 " in await asked(open_before, HTTP_HOST), "a connection that was open before goes on"
    assert len(serials_for(authority, HTTP_HOST)) == 2
    for node in nodes:
        assert ask_dns(node.dns, "_acme-challenge.wild.gw.example.com", kind="TXT") == [], "proofs are gone"
    status = cluster.status()["certificates"]
    assert [one["state"] for one in status] == ["valid", "valid"] and not any(one["reason"] for one in status)


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_leader_that_dies_in_the_middle_costs_no_second_certificate(
    cluster: LocalCluster, authority: AcmeServer, tmp_path: Path, moment: str
) -> None:
    """`gate`: while the authority looks at proofs; `mint`: while it makes the certificate."""
    held = getattr(authority.behaviour, moment)
    held.clear()
    nodes = list(cluster.nodes().values())
    host = f"{moment}.gw.example.com"
    document = written(cluster, authority, tmp_path, entry("http-01", host))
    await asyncio.to_thread(cluster.run, "apply", "--now", document)
    await wait_until(
        lambda: authority.looking if moment == "gate" else authority.orders[0].status == "processing",
        within_seconds=SERVED_SECONDS, what="the order under way", every_seconds=0.1,
    )  # fmt: skip
    leader = next(node for node in nodes if node.leader)
    assert b"placeholder" in await asyncio.to_thread(shown_by, leader, host), "until there is one"
    os.kill(leader.pids_of("agent")[0], signal.SIGKILL)
    held.set()
    serial = await obtained(cluster, host, authority, RESUMED_SECONDS)
    assert serials_for(authority, host) == [serial] and len(authority.orders) == 1


def shown_by(node: LocalNode, host: str) -> bytes:
    """What a node shows to a client that believes everybody, DER."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(address_of(node.https)) as sock,
        context.wrap_socket(sock, server_hostname=host) as tls,
    ):
        return tls.getpeercert(binary_form=True) or b""
