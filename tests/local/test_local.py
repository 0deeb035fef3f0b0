"""The local cluster, whole: started by the command, used by real clients, hurt, healed and ended.

One cluster for all tests here, in the order in which they stand: starting one costs several seconds.
"""

import asyncio
import json
import os
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import dns.asyncquery
import dns.edns
import dns.exception
import dns.message
import pytest
import pytest_asyncio
from curl_cffi import AsyncSession
from curl_cffi.const import CurlHttpVersion
from tests.cli.command import Ran, run
from tests.nodes.node import alive
from tests.support import ROOT, wait_until

NODES = ("eu-west-1", "us-east-1", "ap-south-1")
SUBNETS = {"127.0.0.11": "192.0.2.0", "127.0.0.12": "198.51.100.0", "127.0.0.13": "203.0.113.0"}
pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]


class Lab:
    """A cluster with its state in a folder of its own, and a document that tests may change."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        self.document = folder / "shop.yaml"
        shutil.copy(ROOT / "examples/shop.yaml", self.document)

    async def types(self, *arguments: str) -> Ran:
        ran = await run(*arguments, state=self.state, timeout_seconds=120)
        assert "Traceback" not in ran.all
        return ran

    async def up(self) -> Ran:
        ran = await self.types("local", "up", "--document", str(self.document))
        assert ran.code == 0, ran.all
        return ran

    async def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((await self.types("local", "status", "--json")).out)
        return found

    async def node(self, name: str) -> dict[str, Any]:
        return next(node for node in (await self.status())["nodes"] if node["name"] == name)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lab(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Lab]:
    found = Lab(tmp_path_factory.mktemp("local"))
    try:
        await found.up()
        yield found
    finally:
        await found.types("local", "down")


async def answered(server: str, subnet: str = "192.0.2.0") -> list[str]:
    """The addresses that the DNS server at this node's address answers for the shop, in order."""
    query = dns.message.make_query("shop.gw.example.com", "A", use_edns=0, options=[dns.edns.ECSOption(subnet, 24)])
    answer = await dns.asyncquery.udp(query, server, port=5300, timeout=2)
    return [record.address for found in answer.answer for record in found]


async def settled_without(address: str, within_seconds: float) -> None:
    """Waits until every other node's DNS server answers, and without `address`, and with both others."""
    others = set(SUBNETS) - {address}

    async def settled() -> bool:
        try:
            return [set(await answered(server)) for server in others] == [others, others]
        except dns.exception.DNSException:
            return False

    # Named, because mypy cannot tell what the result of an asynchronous condition is.
    condition: Callable[[], bool | Awaitable[bool]] = settled
    await wait_until(condition, within_seconds=within_seconds, what=f"DNS leaves {address} out")


async def fetch(url: str, ca: str, version: CurlHttpVersion = CurlHttpVersion.V1_1) -> tuple[int, str]:
    # A path to an authority is a value of `verify` that the library takes and its types do not name.
    verify: Any = ca
    async with AsyncSession(verify=verify, trust_env=False) as session:
        answer = await session.get(url, http_version=version, timeout=5)
        return answer.status_code, answer.headers.get("x-service", "")


async def test_three_nodes_serve_and_one_leads(lab: Lab) -> None:
    status = await lab.status()
    assert [node["name"] for node in status["nodes"]] == list(NODES)
    assert [node["state"] for node in status["nodes"]] == ["serving"] * 3
    assert sum(node["leader"] for node in status["nodes"]) == 1
    for node in status["nodes"]:
        assert len(node["pids"]) == 6  # launcher, zygote, agent, two gateway workers, DNS worker
        assert node["http"].endswith(":8080") and node["https"].endswith(":8443") and node["dns"].endswith(":5300")
        assert node["addresses"] == [node["admin"].removesuffix(":9900")]
    assert all(member["pid"] and member["endpoint"].startswith("https://") for member in status["etcd"])
    assert Path(status["token_file"]).read_text()


async def test_its_secrets_are_its_owner_s(lab: Lab) -> None:
    assert stat.S_IMODE(lab.state.stat().st_mode) == 0o700
    keys = [path for path in lab.state.rglob("*") if path.suffix == ".key" or path.name == "token"]
    assert len(keys) > 8
    assert {stat.S_IMODE(path.stat().st_mode) for path in keys} == {0o600}


async def test_up_again_is_quick_and_changes_nothing(lab: Lab) -> None:
    before = await lab.status()
    begun = time.monotonic()
    await lab.up()
    assert time.monotonic() - begun < 10
    after = await lab.status()
    assert [node["pids"] for node in after["nodes"]] == [node["pids"] for node in before["nodes"]]
    assert after["config_version"] == before["config_version"]


@pytest.mark.parametrize("name", NODES)
async def test_every_protocol_reaches_the_right_service(lab: Lab, name: str) -> None:
    node, ca = await lab.node(name), (await lab.status())["ca_file"]
    for path, service in (("/api/products", "products"), ("/api/orders", "orders"), ("/", "static")):
        assert await fetch(f"http://{node['http']}{path}", ca) == (200, service)
        for version in (CurlHttpVersion.V1_1, CurlHttpVersion.V2TLS, CurlHttpVersion.V3ONLY):
            assert await fetch(f"https://{node['https']}{path}", ca, version) == (200, service)


async def test_dns_answers_the_client_s_region_first(lab: Lab) -> None:
    for server in SUBNETS:
        for nearest, subnet in SUBNETS.items():
            found = await answered(server, subnet)
            assert found[0] == nearest
            assert set(found) == set(SUBNETS)


async def test_the_commands_that_up_shows_work(lab: Lab) -> None:
    shown = [line.strip() for line in (await lab.up()).out.splitlines() if line.startswith("    ")]
    wanted = [line for line in shown if line.startswith(("curl", "dig")) and "--http3" not in line]
    assert len(wanted) == 5
    for line in wanted:
        process = await asyncio.create_subprocess_shell(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out, err = await asyncio.wait_for(process.communicate(), 10)
        assert process.returncode == 0, err
        assert b'"service": "products"' in out if line.startswith("curl") else b"127.0.0.1" in out
    assert (await lab.types("status")).code == 0


async def test_a_changed_document_is_applied_by_apply_and_by_up(lab: Lab) -> None:
    version = (await lab.status())["config_version"]
    lab.document.write_text(lab.document.read_text().replace("a shop behind Meridian", "a changed shop"))
    ran = await lab.types("apply", "--now", str(lab.document))
    assert ran.code == 0, ran.all
    assert all(f"{name} has version {version + 1}" in ran.out for name in NODES)
    lab.document.write_text(lab.document.read_text().replace("a changed shop", "another shop"))
    await lab.up()
    assert (await lab.status())["config_version"] == version + 2


async def test_a_region_is_drained_and_comes_back(lab: Lab) -> None:
    assert (await lab.types("drain", "ap-south")).out == "ap-south is draining\n"
    await settled_without("127.0.0.13", within_seconds=5)
    assert (await fetch("http://127.0.0.13:8080/api/products", ""))[0] == 200  # whoever still asks is still served
    assert (await lab.types("undrain", "ap-south")).out == "ap-south is serving\n"
    unknown = await lab.types("drain", "mars")
    assert (unknown.code, "there is no node and no region 'mars'" in unknown.err) == (2, True)


async def test_a_node_leaves_and_comes_back(lab: Lab) -> None:
    assert (await lab.types("local", "stop", "us-east-1")).out == "us-east-1 is stopped\n"
    assert (await lab.node("us-east-1"))["state"] == "stopped"
    await settled_without("127.0.0.12", within_seconds=5)
    assert (await lab.types("local", "stop", "us-east-1")).out == "us-east-1 is not running\n"
    assert (await lab.types("local", "start", "us-east-1")).code == 0
    assert (await lab.node("us-east-1"))["state"] == "serving"


async def test_a_killed_node_is_seen_and_started_again(lab: Lab) -> None:
    node = await lab.node("ap-south-1")
    for pid in node["pids"]:
        os.kill(pid, signal.SIGKILL)
    await settled_without("127.0.0.13", within_seconds=10)
    killed = await lab.node("ap-south-1")
    assert (killed["state"], killed["pids"], killed["leader"]) == ("stopped", [], False)
    assert (await lab.types("local", "start", "ap-south-1")).code == 0
    assert (await lab.node("ap-south-1"))["state"] == "serving"


async def test_without_etcd_nodes_serve_and_apply_says_why_it_cannot(lab: Lab) -> None:
    for member in ("etcd-1", "etcd-2", "etcd-3"):
        assert (await lab.types("local", "stop", member)).code == 0
    ran = await lab.types("apply", str(lab.document))
    assert ran.code == 1
    assert "127.0.0.11:23790" in ran.err and "nodes go on serving" in ran.err
    status = await lab.types("status")
    assert status.code == 0
    assert "not reachable" in status.out
    for server in SUBNETS:
        assert (await fetch(f"http://{server}:8080/api/products", ""))[0] == 200
        assert len(await answered(server)) == 3
    found = await lab.status()
    assert not found["store"]["reachable"]
    assert [member["pid"] for member in found["etcd"]] == [0, 0, 0]
    await lab.up()
    assert [node["state"] for node in (await lab.status())["nodes"]] == ["serving"] * 3


async def test_a_second_cluster_is_told_that_the_ports_are_taken(lab: Lab, tmp_path: Path) -> None:
    ran = await run("local", "up", "--document", str(lab.document), state=tmp_path / "other")
    assert ran.code == 2
    assert "the local cluster's ports are taken" in ran.err
    assert "127.0.0.11:8443: Address already in use" in ran.err
    assert ran.err.count("meridian: ") == 1 and "Traceback" not in ran.err


async def test_down_ends_all_and_status_still_works(lab: Lab) -> None:
    before = await lab.status()
    ran = await lab.types("local", "down")
    assert ran.code == 0
    assert all(name in ran.out for name in (*NODES, "etcd-1", "services-us-east"))
    for node in before["nodes"]:
        assert not any(
            alive(pid) for pid in node["pids"]
        )  # a zombie is its parent's to collect, here the machine's init
    after = await lab.status()
    assert {node["state"] for node in after["nodes"]} == {"stopped"}
    assert (await lab.types("local", "down")).out == "nothing was running\n"
    assert (await lab.types("status")).code == 1
