"""The launcher with stand-in children, as real processes: what the operator and the clients of a node see."""

import asyncio
import json
import os
import signal
import socket
import sys
import time
from datetime import datetime
from pathlib import Path

import pytest
from tests.nodes.node import Node, alive, command_name, rss_mb, running, show
from tests.nodes.site import until
from tests.support import free_port, wait_until

from meridian.nodes.launcher import LINGER_SECONDS_MAX, TELL_SECONDS


class Lab:
    """Flags and ports of one node."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.web, self.dns, self.admin = free_port(), free_port(), free_port()
        self.listen = folder / "listen.json"
        self.want(self.web)

    def want(self, *ports: int) -> None:
        self.listen.write_text(
            json.dumps([["gateway", kind, "127.0.0.1", port, "web"] for port in ports for kind in ("tcp", "udp")])
        )

    def flags(self, *more: str) -> list[str]:
        return [
            "--name=one", "--region=here", "--address=127.0.0.1", f"--dns-port={self.dns}", "--workers=2",
            f"--admin-port={self.admin}", f"--state={self.folder / 'state'}", *more,
        ]  # fmt: skip

    @property
    def environment(self) -> dict[str, str]:
        return {"STANDIN_LISTEN": str(self.listen)}


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


class Client:
    """One connection to the stand-in gateway."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def open(self) -> "Client":
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        return self

    async def ask(self, text: str) -> list[str]:
        self.writer.write(text.encode() + b"\n")
        answer = await asyncio.wait_for(self.reader.readline(), 10)
        if not answer:
            raise ConnectionResetError("closed without an answer")
        return answer.decode().split(maxsplit=2)

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            pass


async def ask(port: int, text: str = "x") -> list[str]:
    client = await Client(port).open()
    try:
        return await client.ask(text)
    finally:
        await client.close()


async def answers(port: int) -> bool:
    return bool(await ask(port))


async def refuses(port: int) -> bool:
    try:
        await ask(port)
    except ConnectionError:
        return True
    return False


async def serving(node: Node) -> None:
    for worker in ("gateway-0", "gateway-1", "dns-0"):
        await node.logged("standin serves", worker=worker, count=2)
    for worker in ("gateway-0", "gateway-1", "dns-0"):
        await node.logged("standin frame", worker=worker)


async def test_a_node_serves_and_is_small(lab: Lab) -> None:
    async with running(lab.flags(), lab.environment) as node:
        await serving(node)
        worker, pid, _ = await ask(lab.web)
        assert int(pid) == node.pid(worker)
        memory = rss_mb(node.process.pid)
        show(f"launcher: {memory:.1f} MB")
        assert memory < 25
        names = {command_name(node.pid(w)) for w in ("agent", "gateway-1", "dns-0")}
        assert names == {"mrd-agent", "mrd-gateway-1", "mrd-dns-0"}
        assert b"one/gateway-1" in Path(f"/proc/{node.pid('gateway-1')}/cmdline").read_bytes()


async def test_nothing_heavy_is_in_the_launcher() -> None:
    heavy = ("asyncio", "ssl", "pydantic", "grpc", "google.protobuf", "cryptography", "http", "typing_extensions")
    code = f"import sys, meridian.nodes.launcher; print([name for name in {heavy} if name in sys.modules])"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert output == b"[]\n"


async def test_what_is_forked_has_one_thread_and_nothing_open() -> None:
    code = """
import os, meridian.nodes.agent, meridian.nodes.gateway_worker, meridian.nodes.dns_worker
with open("/proc/self/status") as status:
    print(*[line.split()[1] for line in status if line.startswith("Threads")])
print([number for number in range(3, 64) if os.path.exists(f"/proc/self/fd/{number}")])
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert output == b"1\n[]\n"


async def test_both_workers_hold_a_udp_socket_of_their_own(lab: Lab) -> None:
    async with running(lab.flags(), lab.environment) as node:
        await serving(node)
        pids = set()
        for _ in range(64):  # the kernel spreads by the client's port
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.settimeout(5)
                client.sendto(b"?", ("127.0.0.1", lab.web))
                pids.add(int((await asyncio.to_thread(client.recv, 100)).decode()))
        assert pids == {node.pid("gateway-0"), node.pid("gateway-1")}


@pytest.mark.parametrize("what", ["web", "dns", "admin"])
@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
async def test_a_taken_port_is_one_clear_message(lab: Lab, what: str, kind: socket.SocketKind) -> None:
    if what == "admin" and kind is socket.SOCK_DGRAM:
        what = "dns"
    port = getattr(lab, what)
    with socket.socket(socket.AF_INET, kind) as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # even one that would share
        other.bind(("127.0.0.1", port))
        if kind is socket.SOCK_STREAM:
            other.listen()
        async with running(lab.flags(), lab.environment) as node:
            assert await node.ended() == 2
    assert len(node.words) == 1
    assert f"port {port} on 127.0.0.1 is taken" in node.words[0]


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--workers=0", "--workers 0: must be between 1 and 256"),
        ("--name=A b", "--name 'A b': use at most 63"),
        ("--address=nowhere", "--address 'nowhere' is not an IP address"),
        ("--peer-key=/no/such", "--peer-key /no/such: there is no such file"),
        ("--state=/proc/nope", "--state /proc/nope"),
        ("--user=no-such-user", "--user no-such-user: there is no such user"),
    ],
)
async def test_bad_flags_are_one_clear_message(lab: Lab, flag: str, message: str) -> None:
    async with running(lab.flags(flag), lab.environment) as node:
        assert await node.ended() == 2
    assert len(node.words) == 1 and not node.log
    assert message in node.words[0]


async def test_a_child_that_cannot_start_ends_the_node_with_its_reason(lab: Lab) -> None:
    async with running(lab.flags(), lab.environment | {"STANDIN_FAIL": "agent"}) as node:
        assert await node.ended() == 2
    assert node.words == ["meridian node: the stand-in was told to fail\n"]


async def test_a_killed_worker_loses_only_its_own_connections(lab: Lab) -> None:
    async with running(lab.flags(), lab.environment) as node:
        await serving(node)
        clients = [await Client(lab.web).open() for _ in range(20)]
        owners = [(await client.ask("who"))[0] for client in clients]
        victim = owners[0]
        os.kill(node.pid(victim), signal.SIGKILL)
        await node.logged("child ended", worker=victim, exit=-9)
        for client, owner in zip(clients, owners, strict=True):
            if owner != victim:
                assert (await client.ask("still"))[2] == "still\n"
            await client.close()
        for _ in range(20):
            await ask(lab.web)
        entry = await node.logged("child started", worker=victim, restarts=1)
        assert entry["pid"] != node.entries("child started", worker=victim)[0]["pid"]
        await node.logged("standin frame", worker=victim, count=2)


async def test_connections_queued_while_all_workers_are_dead_are_served(lab: Lab) -> None:
    async with running(lab.flags("--workers=1"), lab.environment) as node:
        await node.logged("standin serves", worker="gateway-0", count=2)
        await node.logged("child started", worker="gateway-0")  # which may be heard of after the child itself
        os.kill(node.pid("gateway-0"), signal.SIGKILL)
        await node.logged("child ended", worker="gateway-0")
        answers = await asyncio.gather(*(ask(lab.web, str(i)) for i in range(50)))
        await node.logged("child started", worker="gateway-0", count=2)
        assert {int(answer[1]) for answer in answers} == {node.pid("gateway-0")}


async def test_workers_serve_on_without_an_agent_and_hear_the_next_one(lab: Lab) -> None:
    async with running(lab.flags(), lab.environment) as node:
        await serving(node)
        client = await Client(lab.web).open()
        before = await client.ask("before")
        first = node.pid("agent")
        os.kill(first, signal.SIGKILL)
        await node.logged("standin lost", worker=before[0])
        assert (await client.ask("after"))[:2] == before[:2]
        await node.logged("child started", worker="agent", restarts=1)
        second = node.pid("agent")
        for worker in ("gateway-0", "gateway-1", "dns-0"):
            await node.logged("standin frame", worker=worker, version=second)
        assert (await client.ask("again"))[:2] == before[:2]
        await client.close()


async def test_children_outlive_a_killed_zygote_and_are_made_by_the_next_one(lab: Lab) -> None:
    async with running(lab.flags(), lab.environment) as node:
        await serving(node)
        client = await Client(lab.web).open()
        before = await client.ask("before")
        os.kill(node.pid("zygote"), signal.SIGKILL)
        await node.logged("child started", worker="zygote", restarts=1)
        assert (await client.ask("after"))[:2] == before[:2]
        os.kill(node.pid(before[0]), signal.SIGKILL)
        await node.logged("child started", worker=before[0], restarts=1)
        await node.logged("standin frame", worker=before[0], count=2)
        await client.close()


async def test_a_killed_launcher_leaves_no_orphan(lab: Lab) -> None:
    async with running(lab.flags(), lab.environment) as node:
        await serving(node)
        client = await Client(lab.web).open()  # a connection that stays open must not keep a worker alive
        await client.ask("x")
        pids = [node.pid(worker) for worker in ("zygote", "agent", "gateway-0", "gateway-1", "dns-0")]
        began = time.monotonic()
        os.kill(node.process.pid, signal.SIGKILL)
        await wait_until(lambda: not any(map(alive, pids)), within_seconds=5.5, what="all children gone")
        show(f"orphans gone after {time.monotonic() - began:.1f} s")
        await client.close()


async def test_sigterm_drains(lab: Lab) -> None:
    async with running(lab.flags(), lab.environment | {"STANDIN_LINGER": "1"}) as node:
        await serving(node)
        client = await Client(lab.web).open()
        await client.ask("x")
        node.process.send_signal(signal.SIGTERM)
        lingers = await node.logged("node lingers", seconds=1.0 + TELL_SECONDS)
        assert await ask(lab.web)  # a client that had the address from DNS is served
        told = await node.logged("standin tells its clients to go", worker="gateway-0")
        # Not before answers of DNS have aged: it would come back by a new connection, again and again.
        aged = datetime.fromisoformat(told["time"]) - datetime.fromisoformat(lingers["time"])
        assert aged.total_seconds() >= 0.9
        assert await ask(lab.web)  # and the others hear it with their next answer
        await until(lambda: refuses(lab.web), "new clients are refused at once")
        assert (await client.ask("hang up"))[2] == "hang up\n"  # the exchange under way is finished
        await client.close()
        assert await node.ended() == 0
        assert node.entries("node ended", killed=False)


async def test_a_node_whose_agent_cannot_say_that_it_leaves_serves_on_until_the_others_know(lab: Lab) -> None:
    async with running(lab.flags(), lab.environment) as node:
        await serving(node)
        os.kill(node.pid("agent"), signal.SIGSTOP)
        node.process.send_signal(signal.SIGTERM)
        await node.logged("node lingers", seconds=LINGER_SECONDS_MAX)
        assert await ask(lab.web)
        node.process.send_signal(signal.SIGTERM)
        assert await node.ended(3) == 1


async def test_a_second_sigterm_kills(lab: Lab) -> None:
    async with running(lab.flags(), lab.environment) as node:
        await serving(node)
        client = await Client(lab.web).open()
        await client.ask("x")
        node.process.send_signal(signal.SIGTERM)
        await node.logged("node leaves")
        node.process.send_signal(signal.SIGTERM)
        assert await node.ended(3) == 1
        await client.close()


async def test_new_listeners_are_bound_and_a_refused_set_changes_nothing(lab: Lab) -> None:
    async with running(lab.flags(), lab.environment) as node:
        await serving(node)
        second = free_port()
        with socket.socket() as other:
            other.bind(("127.0.0.1", second))
            other.listen()
            lab.want(lab.web, second)
            os.kill(node.pid("agent"), signal.SIGKILL)  # the next agent asks for the new set
            refused = await node.logged("standin refused", worker="agent")
            assert f"port {second} on 127.0.0.1 is taken" in refused["problems"][0]
            assert (await ask(lab.web))[2] == "x\n"
        os.kill(node.pid("agent"), signal.SIGKILL)

        await until(lambda: answers(second), "the new listener serves")
        assert (await ask(lab.web))[2] == "x\n"


async def test_a_reader_that_stops_reading_the_log_blocks_nobody(lab: Lab) -> None:
    async with running(lab.flags("--workers=1"), lab.environment | {"STANDIN_NOISE": "2000"}) as node:
        await until(lambda: answers(lab.web), "the port is bound")
        first = int((await ask(lab.web))[1])
        assert node.process.stderr is not None
        transport = node.process.stderr._transport  # type: ignore[attr-defined]  # no public door to it
        transport.pause_reading()
        try:
            os.kill(first, signal.SIGKILL)
            # Served by a worker that has written two megabytes of log, more than all buffers, that nobody reads.
            assert int((await ask(lab.web))[1]) != first
        finally:
            transport.resume_reading()
        await node.logged("lines dropped")


async def test_hangup_replaces_workers_and_open_connections_are_finished_by_the_old_ones(lab: Lab) -> None:
    async with running(lab.flags(), lab.environment) as node:
        await serving(node)
        clients = [await Client(lab.web).open() for _ in range(10)]
        for client in clients:
            await client.ask("x")
        before = {worker: node.pid(worker) for worker in ("agent", "gateway-0", "gateway-1", "dns-0")}
        node.process.send_signal(signal.SIGHUP)
        handed = await node.logged("upgrade", state="draining", agent="kept: it holds the store in its memory")
        assert (handed["old_version"], handed["new_version"], handed["workers"]) == ("1", "2", 3)
        assert int((await ask(lab.web))[1]) not in before.values()
        assert {int((await client.ask("still"))[1]) for client in clients} <= set(before.values())
        node.process.send_signal(signal.SIGHUP)  # while the first ones still finish
        await node.logged("upgrade", number=2, state="over")
        for client in clients:
            assert (await client.ask("hang up"))[2] == "hang up\n"
            await client.close()
        await until(lambda: not any(alive(pid) for worker, pid in before.items() if worker != "agent"), "they leave")
        assert alive(before["agent"]) and (await ask(lab.web))[2] == "x\n"


@pytest.mark.parametrize(
    ("order", "reason"),
    [("failed", "it was told to fail"), ("dies", "of the new version ended")],
)
async def test_successors_that_cannot_serve_change_nothing(lab: Lab, order: str, reason: str) -> None:
    orders = lab.folder / "upgrade"
    orders.write_text(order)
    async with running(lab.flags(), lab.environment | {"STANDIN_UPGRADE": str(orders)}) as node:
        await serving(node)
        client = await Client(lab.web).open()
        before = await client.ask("before")
        node.process.send_signal(signal.SIGHUP)
        failed = await node.logged("upgrade", state="failed")
        assert reason in failed["reason"]
        assert (await client.ask("after"))[:2] == before[:2]
        orders.write_text("")
        node.process.send_signal(signal.SIGHUP)
        await node.logged("upgrade", number=2, state="draining")
        assert (await client.ask("again"))[:2] == before[:2]
        await client.close()
        over = await node.logged("upgrade", number=2, state="over")
        assert (over["connections"], over["cut"], over["lost"]) == (1, 0, 0)


async def test_code_that_cannot_be_read_changes_nothing_and_the_code_before_makes_the_next_worker(lab: Lab) -> None:
    installed = lab.folder / "installed"
    installed.symlink_to(Path(sys.executable).parent)
    broken = lab.folder / "broken"
    broken.mkdir()
    (broken / "python").symlink_to("/bin/false")
    flags = lab.flags("--workers=1", f"--python={installed / 'python'}")
    async with running(flags, lab.environment) as node:
        await node.logged("standin serves", worker="gateway-0", count=2)
        await node.logged("child started", worker="gateway-0")  # which may be heard of after the child itself
        installed.unlink()
        installed.symlink_to(broken)
        node.process.send_signal(signal.SIGHUP)
        failed = await node.logged("upgrade", state="failed")
        assert "of the new version ended: its log says why" in failed["reason"]
        os.kill(node.pid("gateway-0"), signal.SIGKILL)
        await node.logged("child started", worker="gateway-0", restarts=1)
        assert int((await ask(lab.web))[1]) == node.pid("gateway-0")
        assert node.entries("child started", worker="zygote", restarts=1) == []


async def test_one_upgrade_at_a_time_and_a_node_that_leaves_begins_none(lab: Lab) -> None:
    orders = lab.folder / "upgrade"
    orders.write_text("silent")
    async with running(lab.flags(), lab.environment | {"STANDIN_UPGRADE": str(orders)}) as node:
        await serving(node)
        node.process.send_signal(signal.SIGHUP)
        await node.logged("upgrade", state="preparing")
        node.process.send_signal(signal.SIGHUP)
        await node.logged("no upgrade", reason="an upgrade is under way already")
        node.process.send_signal(signal.SIGTERM)
        await node.logged("node leaves")
        node.process.send_signal(signal.SIGHUP)
        await node.logged("no upgrade", reason="the node leaves")
        assert await node.ended() == 0


async def test_an_old_worker_that_dies_is_counted_and_a_new_one_is_started_again(lab: Lab) -> None:
    async with running(lab.flags("--workers=1"), lab.environment) as node:
        await node.logged("standin serves", worker="gateway-0", count=2)
        await node.logged("child started", worker="gateway-0")  # which may be heard of after the child itself
        client = await Client(lab.web).open()
        old = int((await client.ask("x"))[1])
        node.process.send_signal(signal.SIGHUP)
        await node.logged("upgrade", state="draining", agent="kept: it holds the store in its memory")
        os.kill(old, signal.SIGKILL)
        assert (await node.logged("upgrade", state="over"))["lost"] == 1
        new = node.pid("gateway-0")
        os.kill(new, signal.SIGKILL)
        await node.logged("child started", worker="gateway-0", restarts=1)
        assert int((await ask(lab.web))[1]) not in (old, new)
        await client.close()
