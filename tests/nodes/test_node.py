"""A real node: launcher, agent, gateway and DNS workers as processes, with the embedded store."""

import asyncio
import contextlib
import functools
import json
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import dns.asyncquery
import dns.message
import pytest
import trustme
from tests.nodes.node import STANDIN, Node, alive, rss_mb, running, show
from tests.nodes.site import Load, Site, ask, check_spans, serving_with, until, upstream
from tests.support import free_port
from tests.telemetry.otlp_receiver import OtlpReceiver

WORKERS = ("gateway-0", "gateway-1", "dns-0")


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with upstream() as port:
        yield Site(tmp_path, port)


@contextlib.asynccontextmanager
async def serving(site: Site, *flags: str) -> AsyncIterator[Node]:
    """A node that serves the site's document."""
    async with running(site.flags(*flags), {}, standin=False) as node:
        await node.logged("child ready", worker="agent", within_seconds=40)
        await until(lambda: status_of(site), "admin API")
        await site.apply(site.document())
        yield node


async def status_of(site: Site) -> dict[str, object]:
    found: dict[str, object] = await site.call("GET", "/v1/status")
    return found


async def addresses(site: Site) -> set[str]:
    question = dns.message.make_query("shop.gw.example.com.", "A")
    answer = await dns.asyncquery.udp(question, "127.0.0.1", port=site.dns, timeout=5)
    return {record.address for rrset in answer.answer for record in rrset}


async def test_a_node_serves_and_says_what_it_is(site: Site) -> None:
    async with serving(site) as node:
        assert (await site.get("/hello")).endswith(b"/hello")
        assert await addresses(site) == {"127.0.0.1"}
        status = await site.call("GET", "/v1/status")
        assert status["nodes"][0]["http"] == f"127.0.0.1:{site.web}"
        told = await site.call("POST", "/v1/explain/request", {"url": f"http://127.0.0.1:{site.web}/hello"})
        assert (told["node"], told["config_version"], told["status"]) == ("one", 1, 0)
        assert [(one["address"], one["next"]) for one in told["endpoints"]] == [(f"127.0.0.1:{site.upstream}", True)]
        assert {(w["kind"], w["slot"], w["config_version"]) for w in status["workers"]} == {
            ("gateway", 0, 1), ("gateway", 1, 1), ("dns", 0, 1),
        }  # fmt: skip
        await until(
            lambda: has_metric(site, 'meridian_requests_total{route="all",status="2xx",worker="gateway-'), "metrics"
        )
        await until(
            lambda: has_metric(site, 'meridian_dns_answers_total{rcode="NOERROR",type="A",worker="dns-0"} 1.0'), "dns"
        )
        pids = {"launcher": node.process.pid} | {worker: node.pid(worker) for worker in ("agent", *WORKERS)}
        memory = {name: rss_mb(pid) for name, pid in pids.items()}
        show(", ".join(f"{name} {mb:.1f} MB" for name, mb in memory.items()))
        assert memory["launcher"] < 25 and memory["agent"] < 120
        assert max(memory[worker] for worker in WORKERS) < 80


async def test_answers_are_kept_until_they_are_purged(site: Site) -> None:
    route = {"name": "all", "upstream": "app", "stages": [{"cache": {"ttl_seconds": 600}}]}
    async with serving(site):
        await site.apply(site.document(routes=[route]))
        for _ in range(20):  # both workers have it then, or one of them alone takes all connections
            await site.get("/kept")
        assert b"cache-status: meridian; hit" in await site.get("/kept")
        assert await site.call("POST", "/v1/cache/purges", {"path_prefix": "/other"}) == {"number": 1}
        assert await site.call("POST", "/v1/cache/purges", {"path": "/kept"}) == {"number": 2}

        async def purged() -> bool:
            return b"fwd=uri-miss" in await site.get("/kept")

        await until(purged, "the purge in a worker")


async def has_metric(site: Site, text: str) -> bool:
    return text in str(await site.call("GET", "/metrics"))


async def test_a_changed_document_under_load_fails_no_request(site: Site) -> None:
    async with serving(site, "--capacity=2000/s"):
        load = Load(site.web, 16)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(load.run())
            for number in range(5):
                routes = [{"name": f"all{number}", "match": {"path_prefix": "/"}, "upstream": "app"}]
                await site.apply(site.document(routes=routes))
            await until(lambda: region_of(site, load=5.0), "the load is told")
            load.stop()
        show(f"{load.answered} answers over 5 changes, slowest {load.slowest_seconds * 1000:.0f} ms")
        assert load.answered > 100 and load.failures == []


async def region_of(site: Site, load: float) -> bool:
    """Whether status and metrics tell the region's capacity, and so much of a load."""
    regions = (await site.call("GET", "/v1/status"))["regions"]
    if not regions:
        return False  # no verdict has named it yet
    (region,) = regions
    assert (region["capacity"], region["share"]) == (2000.0, 1.0)
    page = str(await site.call("GET", "/metrics"))
    assert 'meridian_region_capacity{region="eu",worker="agent"} 2000.0' in page
    assert 'meridian_region_share{region="eu",worker="agent"} 1.0' in page
    assert 'meridian_region_load{region="eu",worker="agent"} ' in page
    return bool(region["load"] >= load)


async def test_all_protocols_through_two_workers_and_their_traces(site: Site) -> None:
    with OtlpReceiver() as receiver:
        document = site.secure_document(receiver.endpoint)
        async with running(site.flags(), {}, standin=False) as node:
            await node.logged("child ready", worker="agent", within_seconds=40)
            await until(lambda: status_of(site), "admin API")
            await site.apply(document)
            for _ in range(4):  # each on connections of their own: the kernel spreads them over the workers
                await site.check_protocols()
            await asyncio.to_thread(receiver.wait_for, lambda spans: len(spans) >= 24, within_seconds=10)
        check_spans(receiver.spans, exchanges=12)
        assert {span.resource["meridian.node"] for span in receiver.spans} == {"one"}


async def test_tls_sessions_resume_on_whichever_worker(site: Site) -> None:
    async with serving(site):
        await site.apply(site.secure_document("http://127.0.0.1:1"))
        for slot in range(2):
            shares = f'meridian_tls_tickets_shared{{worker="gateway-{slot}"}} 1.0'
            await until(functools.partial(has_metric, site, shares), "the secret has come to it")
        first = await asyncio.to_thread(site.session, None)
        resumed = [(await asyncio.to_thread(site.session, first[0]))[1] for _ in range(16)]
        assert not first[1] and all(resumed), "sixteen connections meet both workers, but once in 30,000 times"


async def test_listeners_come_and_go_with_the_document(site: Site) -> None:
    async with serving(site) as node:
        second = free_port()
        web = {"name": "web", "bind": f"0.0.0.0:{site.web}", "protocols": ["h1"]}
        more = {"name": "more", "bind": f"0.0.0.0:{second}", "protocols": ["h1"]}
        with socket.create_server(("127.0.0.1", second)):
            version = await site.apply(site.document(listeners=[web, more]), waits=False)
            await node.logged("document refused", worker="agent", version=version)
            status = await site.call("GET", "/v1/status")
            assert f"more: tcp port {second} on 127.0.0.1 is taken" in status["nodes"][0]["config_refused"]
            assert (await site.get("/still")).endswith(b"/still")
        await until(lambda: acknowledged(site, version), "the port is free: tried again")
        assert (await ask(second, "/second")).endswith(b"/second")
        reader, writer = await asyncio.open_connection("127.0.0.1", second)
        assert await exchange(reader, writer, "/before") == b"/before"
        await site.apply(site.document(listeners=[web]))
        await until(lambda: refuses(second), "the port is closed")
        assert await exchange(reader, writer, "/after") == b"/after"  # an open connection is in use
        writer.close()
        assert (await site.get("/first")).endswith(b"/first")


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> bytes:
    writer.write(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    return await reader.readexactly(length)


async def refuses(port: int) -> bool:
    try:
        await ask(port)
    except ConnectionRefusedError:
        return True
    return False


async def test_a_killed_worker_comes_back_and_nothing_queued_is_lost(site: Site) -> None:
    async with serving(site, "--workers=1") as node:
        os.kill(node.pid("gateway-0"), signal.SIGKILL)
        await node.logged("child ended", worker="gateway-0", exit=-9)
        answers = await asyncio.gather(*(site.get(f"/{number}") for number in range(50)))
        assert all(answer.endswith(b"/%d" % number) for number, answer in enumerate(answers))


async def test_workers_serve_on_without_the_agent(site: Site) -> None:
    async with serving(site) as node:
        load = Load(site.web, 8)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(load.run())
            os.kill(node.pid("agent"), signal.SIGKILL)
            for worker in WORKERS:
                await node.logged("agent lost, serving on", worker=worker)
            assert await addresses(site) == {"127.0.0.1"}
            for worker in WORKERS:
                await node.logged("agent connected", worker=worker, count=2, within_seconds=30)
            # The store was in the agent's memory; the document is on disk.
            await until(lambda: acknowledged(site, 1), "the document is back")
            await site.apply(site.document("/load"))
            load.stop()
        assert load.answered > 50 and load.failures == []


async def acknowledged(site: Site, version: int) -> bool:
    status = await site.call("GET", "/v1/status")
    return bool(status["nodes"]) and status["nodes"][0]["config_version"] == version


async def test_sigterm_lets_an_exchange_end(site: Site) -> None:
    release = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nhalf")
        await release.wait()
        writer.write(b"half")
        await reader.read()

    async with serving_with(slow) as site.upstream, serving(site) as node:
        answer = asyncio.get_running_loop().create_task(site.get("/slow"))
        await until(lambda: has_metric(site, 'meridian_exchanges{worker="gateway-'), "under way")
        node.process.send_signal(signal.SIGTERM)
        await node.logged("node is left out by the cluster", worker="agent")
        release.set()
        assert (await answer).endswith(b"halfhalf")
        assert await node.ended() == 0


async def test_a_cold_start_without_the_store_serves_the_copy_on_disk(site: Site) -> None:
    async with serving(site) as node:
        node.process.send_signal(signal.SIGTERM)
        assert await node.ended() == 0
    flags = cluster_flags(site, free_port())
    async with running(site.flags(*flags), {}, standin=False) as node:
        await node.logged("document in force", worker="agent", version=1, within_seconds=40)
        assert (await site.get("/cold")).endswith(b"/cold")
        assert await addresses(site) == {"127.0.0.1"}
        status = await site.call("GET", "/v1/status")
        assert status["store"]["reachable"] is False and status["store"]["detail"]
        with pytest.raises(RuntimeError, match="503"):
            await site.apply(site.document("/other"))


def cluster_flags(site: Site, peer_port: int) -> list[str]:
    """Of a node of a cluster whose etcd is away."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    files = {"ca": authority.cert_pem.bytes(), "cert": certificate.cert_chain_pems[0].bytes(),
             "key": certificate.private_key_pem.bytes()}  # fmt: skip
    flags = ["--etcd=https://127.0.0.1:1", f"--peer-port={peer_port}"]
    for name, content in files.items():
        path = site.folder / name
        path.write_bytes(content)
        path.chmod(0o600)
        flags += [f"--peer-{name}={path}", f"--etcd-{name}={path}"]
    return flags


async def test_a_taken_port_for_peers_is_one_message(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        async with running(site.flags(*cluster_flags(site, port)), {}, standin=False) as node:
            assert await node.ended(40) == 2
    assert node.words == [
        f"meridian node: cannot listen for peers on 127.0.0.1:{port}: is another node running here?\n"
    ]


async def test_a_killed_launcher_takes_all_with_it(site: Site) -> None:
    async with serving(site) as node:
        pids = [node.pid(worker) for worker in ("agent", *WORKERS)]
        reader, writer = await asyncio.open_connection("127.0.0.1", site.web)
        writer.write(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")  # an idle connection stays open
        os.kill(node.process.pid, signal.SIGKILL)
        await until(lambda: not any(map(alive, pids)), "all gone", within_seconds=5.5)
        writer.close()


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--cluster-key-file={folder}/short", "the cluster key has 5 bytes"),
        ("--token-file={folder}/open", "others may read it; make it private with: chmod 600"),
        ("--etcd=http://127.0.0.1:1", "--peer-ca, --peer-cert and --peer-key are missing"),
        ("--etcd=nonsense", "nonsense"),
    ],
)
async def test_what_an_agent_cannot_start_with_is_one_message(site: Site, flag: str, message: str) -> None:
    for name, mode in (("short", 0o600), ("open", 0o644)):
        path = site.folder / name
        path.write_text("short")  # a test's own small file
        path.chmod(mode)  # as above
    others = [f"--{role}-module={STANDIN}" for role in ("gateway", "dns")]  # quicker to start
    flags = site.flags(flag.format(folder=site.folder), *others, workers=1)
    async with running(flags, {}, standin=False) as node:
        assert await node.ended(40) == 2
    assert len(node.words) == 1 and message in node.words[0]
    assert "Traceback" not in json.dumps(node.log)
