"""What a rollout samples besides exchanges, on the real cluster: a certificate that clients refuse, a zone that lost a
name. Neither needs a single request to be found."""

import asyncio
import itertools
import json
import ssl
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from pathlib import Path

import dns.asyncquery
import dns.message
import trustme
from tests.local_cluster import LocalCluster
from tests.nodes.node import show

BACK_SECONDS = 10.0
AFFECTED_MAX = 0.05
HOST = "shop.example.com"

Ask = Callable[[str], Awaitable[bool]]


async def asked(cluster: LocalCluster, document: Path, ask: Ask, places: Iterable[str], rate: int) -> Counter[bool]:
    """Asks `places` in turn, `rate` times a second, from a second before a document is applied in stages to half a
    second after it was undone; returns how many went well, and how many did not."""
    tally, waiting, over = Counter[bool](), set[asyncio.Task[None]](), asyncio.Event()

    async def count(place: str) -> None:
        tally[await ask(place)] += 1

    async def offer() -> None:
        turns, loop = list(places), asyncio.get_running_loop()
        began = loop.time()
        for turn in itertools.count():
            await asyncio.sleep(began + turn / rate - loop.time())  # of a time that is past: at once
            if over.is_set():
                break
            task = loop.create_task(count(turns[turn % len(turns)]))
            waiting.add(task)
            task.add_done_callback(waiting.discard)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(offer())
        await asyncio.sleep(1)
        done = await asyncio.to_thread(cluster.run, "apply", "--force", str(document), check=False)
        await asyncio.sleep(0.5)
        over.set()
    await asyncio.gather(*waiting)
    assert done.returncode == 1, done.stdout + done.stderr
    return tally


def ended(cluster: LocalCluster) -> tuple[str, float]:
    """Why the last rollout was undone, and how many seconds after its beginning."""
    found = json.loads(cluster.run("rollout", "status", "--json").stdout)
    assert found["stage"] == "undone", found
    began, ended = (datetime.fromisoformat(found[word]) for word in ("at", "ended"))
    return found["detail"], (ended - began).total_seconds()


async def test_a_certificate_that_clients_refuse_is_undone(cluster: LocalCluster, tmp_path: Path) -> None:
    cluster.run("apply", "--now", "--force", str(cluster.document))
    issued = trustme.CA().issue_cert(HOST, "localhost")
    (tmp_path / "tls").mkdir()
    issued.private_key_pem.write_to_path(str(tmp_path / "tls" / "shop.key"))
    (tmp_path / "tls" / "shop.pem").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    document = tmp_path / "changed.yaml"
    document.write_text(cluster.document.read_text())
    context = ssl.create_default_context(cafile=cluster.ca_file)

    async def knock(place: str) -> bool:
        host, _, port = place.rpartition(":")
        dial = asyncio.get_running_loop().create_connection
        try:
            transport, _ = await dial(asyncio.Protocol, host, int(port), ssl=context, server_hostname=HOST)
        except ssl.SSLCertVerificationError:
            return False
        transport.close()
        return True

    places = [node.https for node in cluster.nodes().values()]
    tally = await asked(cluster, document, knock, places, rate=100)
    why, seconds = ended(cluster)
    show(f"a certificate of a stranger: back after {seconds:.1f} s, {tally[False]} of {tally.total()}: {why}")
    assert "TLS handshakes" in why and "failed" in why
    assert seconds <= BACK_SECONDS
    assert 0 < tally[False] <= AFFECTED_MAX * tally.total()
    assert all([await knock(place) for place in places for _ in range(10)]), "what is in force is shown to all again"


async def test_a_zone_that_lost_a_name_is_undone_and_no_client_has_missed_it(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    cluster.run("apply", "--now", "--force", str(cluster.document))
    text = cluster.document.read_text()
    document, record = tmp_path / "changed.yaml", '      - {name: about, type: TXT, value: "a shop behind Meridian"}\n'
    assert record in text
    document.write_text(text.replace(record, ""))
    query = dns.message.make_query("about.gw.example.com", "TXT")

    async def ask(place: str) -> bool:
        host, _, port = place.rpartition(":")
        return bool((await dns.asyncquery.udp(query, host, timeout=5, port=int(port))).answer)

    began = time.monotonic()
    tally = await asked(cluster, document, ask, [node.dns for node in cluster.nodes().values()], rate=200)
    why, seconds = ended(cluster)
    show(f"a zone without a name: back after {seconds:.1f} s of {time.monotonic() - began:.1f}: {why}")
    assert "DNS questions" in why and "got no records" in why
    assert seconds <= BACK_SECONDS
    assert tally[False] == 0 and tally[True] > 400
