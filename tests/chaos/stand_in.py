"""A stand-in for `meridian local` with nodes small enough to see through: `stand_in.py FOLDER local status --json`.

A node is two processes in a session of their own: a launcher that restarts its worker at once, and a worker that
serves HTTP/1.1 and DNS; an etcd member is a process that sleeps. A worker's DNS names the nodes whose HTTP port
accepts connections. FOLDER/lab.json has the nodes and the ways in which they are broken on purpose:
`"errors-when-one-is-down"` answers 503 then, `"slow-dns"` never notices a death.
"""

import asyncio
import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

from chaosmeridian.processes import session_pids


def main(folder: Path, *words: str) -> int:
    lab: dict[str, Any] = json.loads((folder / "lab.json").read_text())
    match words:
        case ("local", "status", "--json"):
            sys.stdout.write(json.dumps(status(folder, lab)))
        case ("local", "start", name, "--json"):
            if name in lab["etcd"]:
                _start(folder, name, ["sleep", "3600"])
            elif name not in [node["name"] for node in lab["nodes"]]:
                sys.stderr.write(json.dumps({"error": {"message": f"no part {name}", "remedy": "name another"}}))
                return 2
            else:
                start(folder, lab, name)
            sys.stdout.write("{}")
        case ("launcher", name):
            while True:
                subprocess.run([sys.executable, __file__, str(folder), "worker", name], check=False)
        case ("worker", name):
            asyncio.run(Worker(lab, name).run())
    return 0


def status(folder: Path, lab: dict[str, Any]) -> dict[str, Any]:
    nodes: list[dict[str, Any]] = []
    for node in lab["nodes"]:
        launcher = _launcher_pid(folder, node["name"])
        pids = sorted(session_pids(launcher)) if launcher else []
        serving = _accepts(node)
        nodes.append(
            {
                "name": node["name"], "region": node["name"], "state": "serving" if serving else "stopped",
                "leader": serving and not any(one["leader"] for one in nodes), "pids": pids,
                "addresses": node["addresses"], "http": f"127.0.0.1:{node['http']}", "https": "",
                "dns": f"127.0.0.1:{node['dns']}", "admin": "",
            }
        )  # fmt: skip
    members = [(name, _launcher_pid(folder, name)) for name in lab["etcd"]]
    etcd = [{"name": name, "pid": pid if session_pids(pid) else 0, "endpoint": ""} for name, pid in members]
    return {"nodes": nodes, "etcd": etcd, "ca_file": lab["ca_file"], "token_file": ""}


def start(folder: Path, lab: dict[str, Any], name: str) -> None:
    _start(folder, name, [sys.executable, __file__, str(folder), "launcher", name])
    [node] = [node for node in lab["nodes"] if node["name"] == name]
    asyncio.run(_until_accepts(node))


def _start(folder: Path, name: str, command: list[str]) -> None:
    with (folder / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    (folder / f"{name}.pid").write_text(str(process.pid))


def _launcher_pid(folder: Path, name: str) -> int:
    path = folder / f"{name}.pid"
    return int(path.read_text()) if path.exists() else 0


def _accepts(node: dict[str, Any]) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", node["http"])) == 0


async def _until_accepts(node: dict[str, Any]) -> None:
    async with asyncio.timeout(20):
        while not _accepts(node):  # noqa: ASYNC110 - another process's port has no event here
            await asyncio.sleep(0.05)


class Worker(asyncio.DatagramProtocol):
    def __init__(self, lab: dict[str, Any], name: str) -> None:
        self._nodes: list[dict[str, Any]] = lab["nodes"]
        [self._own] = [node for node in self._nodes if node["name"] == name]
        self._broken: list[str] = lab["broken"]
        self._alive = self._nodes

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        server = await asyncio.start_server(self._serve, "127.0.0.1", self._own["http"])
        await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", self._own["dns"]))
        async with server:
            while True:
                self._alive = [node for node in self._nodes if node is self._own or _accepts(node)]
                await asyncio.sleep(0.2)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                short = len(self._alive) < len(self._nodes) and "errors-when-one-is-down" in self._broken
                word = b"503 Short" if short else b"200 OK"
                writer.write(b"HTTP/1.1 %b\r\ncontent-length: 3\r\n\r\nyes" % word)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, peer: tuple[str, int]) -> None:
        import dns.flags  # here, so that `local status`, a process each time, starts at once
        import dns.message
        import dns.rrset

        question = dns.message.from_wire(data)
        named = self._nodes if "slow-dns" in self._broken else self._alive
        addresses = [address for node in named for address in node["addresses"]]
        answer = dns.message.make_response(question)
        answer.flags |= dns.flags.AA
        answer.answer = [dns.rrset.from_text(question.question[0].name, 5, "IN", "A", *addresses)]
        self._transport.sendto(answer.to_wire(), peer)


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), *sys.argv[2:]))
