"""DNS over HTTPS through a real gateway to a real DNS worker: HTTP/1.1, HTTP/2 and HTTP/3, and for whom it steers."""

import asyncio
import base64
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import curl_cffi
import dns.message
import pytest
from tests.nodes.node import Node, running
from tests.nodes.site import Site, until, upstream
from tests.nodes.test_standalone import served

DNS = "application/dns-message"
QUERY = dns.message.make_query("shop.gw.example.com", "A", id=0).to_wire()


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with upstream() as port:
        yield Site(tmp_path, port)


def document(site: Site) -> str:
    """h1, h2 and h3 on one port, and DNS at /dns-query, with every query logged."""
    value = json.loads(site.secure_document("http://127.0.0.1:1"))
    del value["tracing"]
    value["listeners"][0]["trusted_proxies"] = ["127.0.0.1"]
    value["dns"] = {"log": {"sample_ratio": 1.0}}
    value["routes"] = [
        {"name": "dns", "match": {"path": "/dns-query"}, "dns": {}, "stages": [{"limit": "few"}]},
        {"name": "rest", "match": {"path_prefix": "/"}, "upstream": "app"},
    ]
    value["limits"] = [{"name": "few", "key": "client_ip", "rate": "1000/s", "burst": 1000}]
    return json.dumps(value)


async def ask(site: Site, version: Any, method: Any = "POST", **more: Any) -> curl_cffi.Response:
    """One request as curl makes it."""
    url = f"https://localhost:{site.web}/dns-query"
    if method == "GET":
        url += "?dns=" + base64.urlsafe_b64encode(QUERY).rstrip(b"=").decode()
    elif method == "POST":
        more = {"data": QUERY, "headers": {"content-type": DNS}} | more
    trusted: Any = str(site.folder / "ca.pem")  # a path is understood, whatever the types say
    return await asyncio.to_thread(
        curl_cffi.request, method, url, http_version=version, verify=trusted, timeout=10, **more
    )


def addresses(response: curl_cffi.Response) -> list[str]:
    return [record.address for rrset in dns.message.from_wire(response.content).answer for record in rrset]


async def test_every_protocol_and_method_and_who_asks(site: Site) -> None:
    async with served(site, document(site)) as node:
        await node.logged("serving", within_seconds=40)
        for version, number in (("v1", 2), ("v2", 3), ("v3only", 30)):
            for method in ("GET", "POST"):
                response = await ask(site, version, method)
                assert (response.status_code, response.http_version) == (200, number)
                assert response.headers["content-type"] == DNS
                assert response.headers["cache-control"] == "private, max-age=5"
                assert addresses(response) == ["127.0.0.1"]
        headers = {"content-type": DNS, "x-forwarded-for": "192.0.2.99, 203.0.113.9", "x-real-ip": "192.0.2.98"}
        assert addresses(await ask(site, "v2", headers=headers)) == ["127.0.0.1"]

        def clients() -> set[object]:
            return {entry["client"] for entry in node.log if entry.get("transport") == "https"}

        await until(lambda: clients() == {"127.0.0.0/24", "203.0.113.0/24"}, "who asked: the proxy, then its client")
        wrong = await ask(site, "v2", headers={"content-type": "text/plain"})
        assert (wrong.status_code, (await ask(site, "v2", "PUT")).status_code) == (415, 405)
        assert (await ask(site, "v2", data=bytes(70_000))).status_code == 413
        for flag in ("+https", "+https-get"):
            command = ["kdig", "+short", f"+tls-ca={site.folder / 'ca.pem'}", "+tls-hostname=localhost", "+https", flag,
                       "@127.0.0.1", "-p", str(site.web), "shop.gw.example.com", "A"]  # fmt: skip
            said = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=10)
            assert said.stdout.split() == ["127.0.0.1"], said.stderr


async def test_the_socket_outlives_the_dns_worker_and_a_launcher_that_was_killed(site: Site) -> None:
    text = document(site)

    async def answers() -> bool:
        response = await ask(site, "v2")
        return response.status_code == 200 and len(addresses(response)) == 1

    async def starts(node: Node) -> None:
        await node.logged("child ready", worker="agent", within_seconds=40)
        await until(lambda: site.call("GET", "/v1/status"), "admin API")
        await site.apply(text)
        await until(answers, "DNS over HTTPS")

    async with running(site.flags(), {}, standin=False) as node:
        await starts(node)
        socket_file = site.folder / "state" / "dns.sock"
        assert socket_file.stat().st_mode & 0o777 == 0o600
        os.kill(node.pid("dns-0"), signal.SIGKILL)
        await node.logged("child started", worker="dns-0", count=2)
        await until(answers, "DNS over HTTPS again")
        node.process.kill()
        await node.ended()
    async with running(site.flags(), {}, standin=False) as node:
        await starts(node)
