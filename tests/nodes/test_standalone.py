"""`meridian serve` as an operator meets it: one process, a file, real clients."""

import asyncio
import contextlib
import functools
import json
import os
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import dns.asyncquery
import dns.message
import dns.query
import httpx
import pytest
from tests.dns.secondary import KEY_NAME, SECRET, Knot, knot
from tests.nodes.node import Node, rss_mb, show
from tests.nodes.site import Load, Site, check_spans, until, upstream
from tests.support import ROOT, free_port
from tests.telemetry.otlp_receiver import OtlpReceiver


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with upstream() as port:
        yield Site(tmp_path, port)


@contextlib.asynccontextmanager
async def served(site: Site, document: str, *flags: str) -> AsyncIterator[Node]:
    """`meridian serve` on the document; ends with it."""
    file = site.folder / "gateway.yaml"
    file.write_text(document)  # a test's own small file
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "meridian.nodes.standalone", str(file),
        f"--dns-port={site.dns}", f"--admin-port={site.admin}", *flags,
        stderr=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.DEVNULL, limit=2**20, start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    node = Node(process)
    reader = asyncio.get_running_loop().create_task(node.read())
    try:
        yield node
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        await reader


async def test_it_serves_and_follows_its_file(site: Site) -> None:
    async with served(site, site.document()) as node:
        await node.logged("serving", within_seconds=40)
        assert (await site.get("/hello")).endswith(b"/hello")
        answer = await dns.asyncquery.udp(dns.message.make_query("shop.gw.example.com.", "A"), "127.0.0.1", 5, site.dns)
        assert [str(record) for rrset in answer.answer for record in rrset] == ["127.0.0.1"]
        told = await explained(site, node, f"http://127.0.0.1:{site.web}/hello")
        assert [one["route"] for one in told["routes"] if one["takes"]] == ["all"] and told["status"] == 0
        show(f"meridian serve: {rss_mb(node.process.pid):.1f} MB")
        load = Load(site.web, 4)
        file = site.folder / "gateway.yaml"
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(load.run())
            file.write_text(site.document("/load"))  # a test's own small file
            await until(lambda: missing(site, "/elsewhere"), "the changed file is in force")
            file.write_text("listeners: [")  # as above
            await node.logged("document not taken, the one before stays in force")
            file.write_text(site.document("/"))  # as above
            node.process.send_signal(signal.SIGHUP)
            await until(lambda: present(site, "/elsewhere"), "the file is read again")
            load.stop()
        assert load.answered > 50 and load.failures == []
        node.process.send_signal(signal.SIGTERM)
        assert await node.ended() == 0
        assert "Traceback" not in "".join(node.words)


async def explained(site: Site, node: Node, url: str) -> Any:
    """What it says of a request, by its admin API."""
    token = Path(str(node.entries("serving")[0]["token_file"])).read_text().strip()
    async with httpx.AsyncClient(headers={"authorization": f"Bearer {token}"}) as client:
        answer = await client.post(f"http://127.0.0.1:{site.admin}/v1/explain/request", json={"url": url})
    return answer.raise_for_status().json()


async def test_a_renewed_certificate_is_served_without_a_word(site: Site) -> None:
    """A broken file keeps the old one; clients under load notice nothing."""
    document = site.secure_document("http://127.0.0.1:1")
    async with served(site, document) as node:
        await node.logged("serving", within_seconds=40)
        before = await asyncio.to_thread(site.shown)
        failures: list[BaseException] = []
        stop = asyncio.Event()

        async def ask_on() -> int:
            """On a connection that is kept, and on new ones."""
            trusting = ssl.create_default_context()
            trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
            answered = 0
            async with httpx.AsyncClient(verify=trusting, http2=True) as kept:
                while not stop.is_set():
                    try:
                        async with httpx.AsyncClient(verify=trusting) as fresh:
                            for one in (kept, fresh):
                                answer = await one.get(f"https://localhost:{site.web}/x")
                                assert answer.status_code == 200
                                answered += 1
                    except (httpx.HTTPError, AssertionError) as error:
                        failures.append(error)
            return answered

        async with asyncio.TaskGroup() as tasks:
            asking = tasks.create_task(ask_on())
            (site.folder / "shop.pem").write_text("broken")
            await node.logged("document not taken, the one before stays in force")
            assert await asyncio.to_thread(site.shown) == before
            site.secure_document("http://127.0.0.1:1")  # issues another one
            await until(lambda: changed(site, before), "the new certificate is served")
            stop.set()
        assert asking.result() > 20 and failures == []


async def shares_tickets(site: Site, token: str) -> bool:
    async with httpx.AsyncClient(headers={"authorization": f"Bearer {token}"}) as client:
        told = (await client.get(f"http://127.0.0.1:{site.admin}/metrics")).text
    return any(line.startswith("meridian_tls_tickets_shared") and line.endswith(" 1.0") for line in told.splitlines())


async def changed(site: Site, before: str) -> bool:
    return await asyncio.to_thread(site.shown) != before


async def missing(site: Site, path: str) -> bool:
    return (await site.get(path)).startswith(b"HTTP/1.1 404")


async def present(site: Site, path: str) -> bool:
    return (await site.get(path)).startswith(b"HTTP/1.1 200")


async def test_all_protocols_and_traces(site: Site) -> None:
    with OtlpReceiver() as receiver:
        document = site.secure_document(receiver.endpoint)
        port = free_port()
        async with served(site, document, f"--dns-tls-port={port}") as node:
            await node.logged("serving", within_seconds=40)
            await site.check_protocols()
            token = Path(str(node.entries("serving")[0]["token_file"])).read_text().strip()
            await until(lambda: shares_tickets(site, token), "the leader's secret of tickets has come to the worker")
            query = dns.message.make_query("shop.gw.example.com.", "A")
            ask = functools.partial(
                dns.query.tls, query, "127.0.0.1", port=port, timeout=5, verify=str(site.folder / "ca.pem"),
                server_hostname="shop.example.com",
            )  # fmt: skip
            assert (await asyncio.to_thread(ask)).answer, "DNS over TLS, under the same certificate"
            answer = await dns.asyncquery.quic(
                query, "127.0.0.1", port=port, timeout=5, verify=str(site.folder / "ca.pem"),
                server_hostname="shop.example.com",
            )  # fmt: skip
            assert answer.answer, "and DNS over QUIC, on the same port"
            await asyncio.to_thread(receiver.wait_for, lambda spans: len(spans) >= 6, within_seconds=10)
            check_spans(receiver.spans, exchanges=3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("listeners: [", "not YAML"),
        ('{"listners": []}', "did you mean 'listeners'?"),
        ('{"listeners": [{"name": "a", "bind": "0.0.0.0:1", "protocols": ["h2"]}]}', "there is no certificate"),
        ("ordered", "meridian serve keeps nothing"),
        ("missing", "shop.pem: No such file or directory"),
        ("taken web", "is taken by another program"),
        ("taken dns", "--dns-port: udp port"),
        ("taken admin", "--admin-port: tcp port"),
    ],
)
async def test_what_is_wrong_at_start_is_one_message(site: Site, change: str, message: str) -> None:
    document = change if change.startswith(("{", "listeners")) else site.document()
    if change == "missing":
        secure = [{"name": "a", "bind": f"127.0.0.1:{site.web}", "protocols": ["h2"]}]
        files = [{"hosts": ["a.example"], "cert_file": "shop.pem", "key_file": "shop.key"}]
        document = site.document(listeners=secure, certificates=files)
    if change == "ordered":
        authority = {"name": "a", "directory": "https://acme.example/directory"}
        wanted = [{"hosts": ["a.example.com"], "acme": "a"}]
        document = site.document(acme=[authority], certificates=wanted)
    kind = socket.SOCK_DGRAM if change == "taken dns" else socket.SOCK_STREAM
    port = {"taken web": site.web, "taken dns": site.dns, "taken admin": site.admin}.get(change, 0)
    with socket.socket(socket.AF_INET, kind) as other:
        other.bind(("127.0.0.1", port))
        if kind is socket.SOCK_STREAM:
            other.listen()
        async with served(site, document) as node:
            assert await node.ended(40) == 2
    assert not node.log, json.dumps(node.log)
    assert node.words[0].startswith("meridian serve: ") and message in "".join(node.words)
    assert "Traceback" not in "".join(node.words)


async def test_a_file_that_is_not_there_is_one_message(site: Site) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "meridian.nodes.standalone", "/no/such.yaml", stderr=asyncio.subprocess.PIPE
    )
    _, words = await process.communicate()
    assert (process.returncode, words) == (2, b"meridian serve: /no/such.yaml: No such file or directory\n")


async def test_a_real_secondary_follows_the_file(site: Site) -> None:
    """From the operator's words to another program's answers, by TSIG, AXFR, NOTIFY and IXFR."""
    port = free_port()
    (site.folder / "ns2.key").write_bytes(SECRET + b"\n")

    def document(address: str) -> str:
        fixed = [{"name": f"host{i}", "type": "A", "value": "192.0.2.9"} for i in range(40)]
        shop = {"name": "shop", "type": "A", "steer": {"regions": ["eu"]}}
        zone = {
            "name": "gw.example.com", "nameservers": ["ns.example.net"], "serial_offset": 2_026_000_000,
            "secondaries": [{"address": f"127.0.0.1:{port}", "tsig_key": KEY_NAME}], "records": [*fixed, shop],
        }  # fmt: skip
        key = {"name": KEY_NAME, "secret_file": "ns2.key"}
        regions = [{"name": "eu", "addresses": [address]}]
        return site.document(zones=[zone], tsig_keys=[key], regions=regions)

    async def answered(found: Knot, address: str) -> bool:
        return await asyncio.to_thread(found.answers, "shop.gw.example.com.", "A") == [address]

    async with served(site, document("192.0.2.1")) as node:
        await node.logged("serving", within_seconds=40)
        with knot(site.folder, "gw.example.com", site.dns, port=port, algorithm="hmac-sha256") as found:
            await until(lambda: answered(found, "192.0.2.1"), "the zone is transferred")
            serial = found.serial()
            assert serial is not None and serial > 2_026_000_000
            (site.folder / "gateway.yaml").write_text(document("192.0.2.2"))  # a test's own small file
            await until(lambda: answered(found, "192.0.2.2"), "the change is followed")
            assert found.serial() == serial + 1
            assert "IXFR, incoming" in found.log()
        assert SECRET.decode() not in "".join(node.words)
