"""From nothing to a node, by the commands that an operator types: authority, token, etcd, node; then a renewal."""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from tests.nodes.node import Node, running
from tests.support import child_process, free_port, wait_until

from meridian.store.etcd_server import EtcdFiles, EtcdMember, etcd_command

HOST, WORLD = "127.0.0.1", "127.0.0.9"  # where nodes reach each other, and where clients reach them


def meridian(*words: object) -> str:
    command = [sys.executable, "-m", "meridian.cli.main", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


class Site:
    """An authority with its server, a member of etcd and a node, each joined with a token of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.authority = folder, folder / "authority"
        self.url = f"https://{HOST}:{free_port()}"
        self.etcd = EtcdMember("etcd-1", f"https://{HOST}:{free_port()}", f"https://{HOST}:{free_port()}",
                               folder / "etcd/data", self.files("etcd"))  # fmt: skip
        self.admin, self.peer = free_port(), free_port()

    def files(self, name: str) -> EtcdFiles:
        place = self.folder / name
        return EtcdFiles(place / "ca.pem", place / "certificate.pem", place / "private.key")

    def join(self, name: str, place: str, *more: str) -> None:
        token = meridian("pki", "token", self.authority, "--names", name, "--network", "127.0.0.0/8", *more)
        file = self.folder / f"{name}.token"
        file.write_text(token)
        meridian("pki", "join", "--authority", self.url, "--token-file", file, "--name", name, "--address", HOST,
                 "--to", self.folder / place)  # fmt: skip

    def flags(self) -> list[str]:
        files = self.files("node")
        return ["--name=eu-1", "--region=eu", f"--peer-address={HOST}", f"--advertise={WORLD}",
                "--workers=1", "--dns-port=0",
                f"--etcd={self.etcd.client_url}", f"--state={self.folder / 'state'}",
                f"--admin-port={self.admin}", f"--peer-port={self.peer}",
                f"--cluster-key-file={self.folder / 'node/cluster.key'}",
                *(f"--{of}-{what}={path}" for of in ("etcd", "peer")
                  for what, path in (("ca", files.ca), ("cert", files.certificate), ("key", files.key)))]  # fmt: skip

    def stored(self) -> bytes:
        """Everything in etcd."""
        files = self.files("etcd")
        command = ["etcdctl", f"--endpoints={self.etcd.client_url}", f"--cacert={files.ca}",
                   f"--cert={files.certificate}", f"--key={files.key}", "get", "--prefix", "/meridian/"]  # fmt: skip
        own = {name: value for name, value in os.environ.items() if not name.startswith("ETCD")} | {"ETCDCTL_API": "3"}
        return subprocess.run(command, capture_output=True, env=own, timeout=20, check=True).stdout

    def status(self) -> dict[str, object]:
        token = self.folder / "state/token"
        found: dict[str, object] = json.loads(
            meridian("status", "--admin", f"{HOST}:{self.admin}", "--token-file", token, "--json")
        )
        return found


@contextlib.asynccontextmanager
async def joined(folder: Path) -> AsyncIterator[tuple[Site, Node]]:
    site = Site(folder)
    meridian("pki", "init", site.authority, "--cluster", "test")
    port = site.url.rpartition(":")[2]
    serve = [sys.executable, "-m", "meridian.cli.main", "pki", "serve", str(site.authority), "--address", HOST]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ETCD")}
    with (
        (folder / "log").open("wb") as log,
        child_process(*serve, "--bind", HOST, "--port", port, stderr=log),
    ):
        # It retries until the authority answers.
        await asyncio.to_thread(site.join, "etcd-1", "etcd", "--no-cluster-key")
        await asyncio.to_thread(site.join, "eu-1", "node")
        command = etcd_command(site.etcd, [site.etcd], "t")
        with child_process(*command, env=environment, stderr=log, stdout=log):
            async with running(site.flags(), {}, standin=False) as node:
                await node.logged("child ready", worker="agent", within_seconds=30)
                yield site, node


@pytest.mark.timeout(180)
async def test_a_node_joins_with_a_token_and_takes_up_a_renewed_certificate(tmp_path: Path) -> None:
    async with joined(tmp_path) as (site, node):
        assert not (site.folder / "etcd/cluster.key").exists()

        async def reaches() -> bool:
            status = await asyncio.to_thread(site.status)
            return bool(status["store"]["reachable"] and status["nodes"])  # type: ignore[index]

        stored: Callable[[], bool | Awaitable[bool]] = reaches
        await wait_until(stored, within_seconds=30, what="the node reaches etcd", every_seconds=0.2)
        # Other nodes are told its address among them and not the world's, and it listens for them there only.
        assert f"{HOST}:{site.peer}".encode() in site.stored()
        assert f"{WORLD}:{site.peer}".encode() not in site.stored()
        assert heard_at(HOST, site.peer) and not heard_at(WORLD, site.peer)
        worker = node.pid("gateway-0")
        renewed = await asyncio.to_thread(
            meridian, "pki", "renew", "--authority", site.url, "--to", site.folder / "node", "--force"
        )
        assert renewed == "renewed"
        await node.logged("certificates changed, the agent starts again", within_seconds=15)
        await node.logged("child ready", worker="agent", count=2, within_seconds=20)
        await wait_until(stored, within_seconds=30, what="the node reaches etcd again", every_seconds=0.2)
        assert node.pid("gateway-0") == worker, "workers serve on"
        # Not due: nothing is changed, and the agent stays.
        assert meridian("pki", "renew", "--authority", site.url, "--to", site.folder / "node") == "not due yet"


def heard_at(address: str, port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex((address, port)) == 0


def test_the_commands_say_what_is_wrong(tmp_path: Path) -> None:
    folder = tmp_path / "authority"
    meridian("pki", "init", folder)
    for words, message in (
        (["init", folder], "holds an authority already"),
        (["token", tmp_path / "none", "--names", "a", "--network", "10.0.0.0/8"], "cannot read"),
        (["issue", folder, "--name", "a", "--address", "host", "--to", tmp_path / "a"], "is not an IP address"),
        (["renew", "--authority", "http://x", "--to", folder], "cannot read"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "meridian.cli.main", "pki", *map(str, words)],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr
