"""What a steered answer costs, beside the servers that do the same: gdnsd, PowerDNS (geoip) and Knot (geoip).

    .venv/bin/python -m bench.dns_peers [--seconds 5] [--only meridian,gdnsd]

Each serves `shop.gw.example.com` by the client's subnet (EDNS), with one thread on one core; dnsperf asks from the
other core, a thousand subnets in turn. Queries per second depend on what else the machine does; CPU microseconds per
query of the server's process (/proc/PID/stat, user and system) hardly do. Servers that are not installed are named as
NOT RUN: apt-get install dnsperf gdnsd pdns-server pdns-backend-geoip knot knot-module-geoip
"""

import argparse
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.dns_udp import queries
from tests.dns.mmdb import write_mmdb

CPUS = sorted(os.sched_getaffinity(0))
SERVER_CPU, LOAD_CPU = str(CPUS[0]), str(CPUS[-1])
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
EAST, WEST = "10.0.0.0/9", "10.128.0.0/9"
ZONE = """$ORIGIN gw.example.com.
$TTL 30
@ SOA ns1.gw.example.com. hostmaster.gw.example.com. 1 3600 600 604800 60
@ NS ns1.gw.example.com.
ns1 A 192.0.2.53
"""
GDNSD = """options => {{ listen => 127.0.0.1:{port}, udp_threads => 1, tcp_threads => 1, edns_client_subnet => true,
  run_dir => {home}, state_dir => {home} }}
plugins => {{ geoip => {{
  maps => {{ m => {{ datacenters => [eu, us], nets => {{ {east} => [eu], {west} => [us] }} }} }},
  resources => {{ shop => {{ map => m, dcmap => {{
    eu => {{ addrs_v4 => 192.0.2.11 }}, us => {{ addrs_v4 => 192.0.2.21 }} }} }} }}
}} }}
"""
PDNS = """launch=geoip
geoip-zones-file={home}/zones.yaml
geoip-database-files=mmdb:{home}/geo.mmdb
local-address=127.0.0.1
local-port={port}
edns-subnet-processing=yes
receiver-threads=1
distributor-threads=1
socket-dir={home}
disable-syslog=yes
loglevel=2
security-poll-suffix=
"""
PDNS_ZONES = """domains:
- domain: gw.example.com
  ttl: 30
  records:
    gw.example.com:
    - soa: ns1.gw.example.com hostmaster.gw.example.com 1 3600 600 604800 60
    - ns: ns1.gw.example.com
    shop.eu.gw.example.com:
    - a: 192.0.2.11
    shop.na.gw.example.com:
    - a: 192.0.2.21
  services:
    shop.gw.example.com: ['shop.%cn.gw.example.com', 'shop.eu.gw.example.com']
"""
KNOT = """server:
  listen: 127.0.0.1@{port}
  rundir: {home}
  udp-workers: 1
  tcp-workers: 1
  background-workers: 1
  edns-client-subnet: on
database:
  storage: {home}
mod-geoip:
  - id: shop
    config-file: {home}/shop.yaml
    ttl: 30
    mode: subnet
zone:
  - domain: gw.example.com
    file: {home}/gw.zone
    zonefile-sync: -1
    module: mod-geoip/shop
"""
KNOT_SHOP = """shop.gw.example.com:
  - net: {east}
    A: 192.0.2.11
  - net: {west}
    A: 192.0.2.21
"""


@dataclass(frozen=True, slots=True)
class Peer:
    """A server: the program that must be there, and its command once its files are written."""

    program: str
    command: Callable[[Path, int], list[str]]


def _meridian(home: Path, port: int) -> list[str]:
    return [sys.executable, "-m", "bench.dns_peers", "--serve", str(port)]


def _gdnsd(home: Path, port: int) -> list[str]:
    (home / "config").write_text(GDNSD.format(port=port, home=home, east=EAST, west=WEST))
    (home / "zones").mkdir()
    zone = ZONE.replace("$ORIGIN gw.example.com.\n", "") + "shop 30 DYNA geoip!shop\n"
    (home / "zones" / "gw.example.com").write_text(zone)
    return ["/usr/sbin/gdnsd", "-c", str(home), "start"]


def _pdns(home: Path, port: int) -> list[str]:
    (home / "pdns.conf").write_text(PDNS.format(port=port, home=home))
    (home / "zones.yaml").write_text(PDNS_ZONES)
    europe, america = (
        {"continent": {"code": code}, "country": {"iso_code": c}} for code, c in (("EU", "DE"), ("NA", "US"))
    )
    write_mmdb(home / "geo.mmdb", {EAST: europe, WEST: america})
    return ["/usr/sbin/pdns_server", f"--config-dir={home}", "--daemon=no", "--guardian=no"]


def _knot(home: Path, port: int) -> list[str]:
    (home / "knot.conf").write_text(KNOT.format(port=port, home=home))
    (home / "shop.yaml").write_text(KNOT_SHOP.format(east=EAST, west=WEST))
    (home / "gw.zone").write_text(ZONE + "shop A 192.0.2.99\n")
    return ["/usr/sbin/knotd", "-c", str(home / "knot.conf")]


PEERS = {
    "gdnsd": Peer("/usr/sbin/gdnsd", _gdnsd),
    "powerdns": Peer("/usr/lib/x86_64-linux-gnu/pdns/libgeoipbackend.so", _pdns),
    "knot": Peer("/usr/lib/x86_64-linux-gnu/knot/modules-3.2/geoip.so", _knot),
    "meridian": Peer(sys.executable, _meridian),
}


def serve(port: int) -> None:
    """Our server alone, until killed."""
    import asyncio

    import uvloop
    from bench.dns_udp import holdings

    from meridian_dns.server import DnsServer, Doors

    async def run() -> None:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", port))
        zones, view = holdings("dns")
        await DnsServer(zones, view, None).serve(Doors(udp=[sock]))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


def cpu_seconds(pid: int) -> float:
    """User and system time of all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def is_answering(port: int, query: bytes) -> bool:
    """Whether a server gives an address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(0.2)
        client.connect(("127.0.0.1", port))
        try:
            client.send(query)
            answer = client.recv(4096)
        except OSError:
            return False
        return answer[3] & 0xF == 0 and answer[7] > 0


def measure(name: str, seconds: int) -> str:
    """One server under load: a line to print."""
    peer = PEERS[name]
    if not Path(peer.program).exists() or shutil.which("dnsperf") is None:
        return f"{name:10} NOT RUN: not installed"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    asked = queries("dns")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        home.chmod(0o755)
        (home / "queries").write_bytes(b"".join(len(one).to_bytes(2, "big") + one for one in asked))
        log = (home / "log").open("wb")
        command = ["taskset", "-c", SERVER_CPU, *peer.command(home, port)]
        server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            deadline = time.monotonic() + 20
            while not is_answering(port, asked[0]):
                if time.monotonic() > deadline or server.poll() is not None:
                    return f"{name:10} NOT RUN: it does not answer: {(home / 'log').read_text()[-300:]}"
                with contextlib.suppress(subprocess.TimeoutExpired):
                    server.wait(0.1)
            load = [
                "taskset",
                "-c",
                LOAD_CPU,
                "dnsperf",
                "-B",
                "-d",
                str(home / "queries"),
                "-s",
                "127.0.0.1",
                "-p",
                str(port),
            ]
            subprocess.run([*load, "-l", "1", "-q", "64"], check=True, capture_output=True)
            before = cpu_seconds(server.pid)
            found = subprocess.run(
                [*load, "-l", str(seconds), "-q", "64"], check=True, capture_output=True, text=True
            ).stdout
            spent = cpu_seconds(server.pid) - before
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)
            server.wait()
            log.close()
    completed = re.search(r"Queries completed:\s+(\d+)", found)
    lost = re.search(r"Queries lost:\s+(\d+)", found)
    codes = re.search(r"Response codes:\s+(.*)", found)
    assert completed and lost and codes, found
    count = int(completed[1])
    return (
        f"{name:10} {count / seconds:9.0f} queries/s {spent / count * 1e6:7.2f} us CPU per query"
        f"  {lost[1]} lost  {codes[1]}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--only", default=",".join(PEERS))
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return
    for name in options.only.split(","):
        print(measure(name, options.seconds), flush=True)


if __name__ == "__main__":
    main()
