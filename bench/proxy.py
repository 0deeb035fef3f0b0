"""What one gateway worker costs per request, beside nginx as a proxy, in one run.

    .venv/bin/python -m bench.proxy [--seconds 5] [--rounds 3] [--connections 64]

One Meridian worker is pinned to a core, nginx (one worker, keep-alive upstream) to the same one; they take turns. The
upstream is a third nginx that answers 200 with a small body. wrk is the load, on the other core with the upstream.
CPU microseconds per request of the proxy's process (from /proc/PID/stat, user and system) are the figure that counts:
requests per second depend on what else the machine does.
"""

import argparse
import asyncio
import contextlib
import cProfile
import gc
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import uvloop

from meridian.core import model
from meridian.core.snapshot import compile_snapshot
from meridian.gateway.gateway import Gateway
from meridian.gateway.outcome import Silent

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
ROOT = Path(__file__).resolve().parent.parent
CPUS = sorted(os.sched_getaffinity(0))
PROXY_CPU, LOAD_CPU = str(CPUS[0]), str(CPUS[-1])

NGINX = """
daemon off; worker_processes 1; pid {home}/{name}.pid; error_log {home}/{name}.log warn;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 100000000; client_body_temp_path {home}/{name}-body;
  proxy_temp_path {home}/{name}-proxy; fastcgi_temp_path {home}/{name}-f; uwsgi_temp_path {home}/{name}-u;
  scgi_temp_path {home}/{name}-s;
  {body}
}}
"""
ORIGIN = """server {{ listen 127.0.0.1:{port} reuseport; default_type text/plain;
  location / {{ return 200 "hello, this is a small body\\n"; }} }}"""
PEER = """upstream origin {{ server 127.0.0.1:{origin}; keepalive 128; keepalive_requests 100000000; }}
server {{ listen 127.0.0.1:{port} reuseport; location / {{ proxy_pass http://origin; proxy_http_version 1.1;
  proxy_set_header Connection ""; proxy_set_header Host $http_host;
  proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto $scheme;
  proxy_set_header X-Forwarded-Host $http_host; proxy_set_header X-Request-Id $request_id; }} }}"""


@dataclass(frozen=True, slots=True)
class Measured:
    """One run of load."""

    requests_per_second: float
    cpu_microseconds: float
    failed: int


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def running(*command: str, cpu: str) -> Iterator[int]:
    """A pinned child that ends with the block."""
    process = subprocess.Popen(["taskset", "-c", cpu, *command], cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait(timeout=10)


@contextlib.contextmanager
def nginx(home: Path, name: str, body: str, *, cpu: str, port: int) -> Iterator[int]:
    """An nginx; gives its worker's process id."""
    config = home / f"{name}.conf"
    config.write_text(NGINX.format(home=home, name=name, body=body))
    with running("nginx", "-c", str(config), "-p", str(home), "-e", str(home / "error.log"), cpu=cpu) as pid:
        wait_for(port)
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        yield int(children[0])


def wait_for(port: int) -> None:
    """Until something answers on the port."""
    process = subprocess.run(
        ["curl", "-s", "-o", "/dev/null", "--retry", "300", "--retry-delay", "0", "--retry-max-time", "60",
         "--retry-connrefused", f"http://127.0.0.1:{port}/"],
        check=False,
    )  # fmt: skip
    assert process.returncode == 0, f"nothing answers on port {port}"


def cpu_seconds(pid: int) -> float:
    """User and system time of a process (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def load(pid: int, port: int, *, seconds: int, connections: int, headers: list[str]) -> Measured:
    """Runs wrk against the port while counting the CPU time of `pid`."""
    before = cpu_seconds(pid)
    extra = [item for header in headers for item in ("-H", header)]
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", *extra, f"http://127.0.0.1:{port}/api/products/1"]
    done = subprocess.run(["taskset", "-c", LOAD_CPU, *command], capture_output=True, text=True, check=True)
    used = cpu_seconds(pid) - before
    total = int(re.search(r"(\d+) requests in", done.stdout)[1])  # type: ignore[index] # wrk always says so
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)[1])  # type: ignore[index] # as above
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", done.stdout)
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", done.stdout)
    failed = (int(bad[1]) if bad else 0) + (sum(map(int, errors.groups())) if errors else 0)
    return Measured(rate, used / total * 1e6, failed)


def serve(port: int, origin: int, profile: str | None) -> None:
    """One gateway worker as nodes/ would run it, until SIGTERM."""
    document = model.Document.model_validate({
        "listeners": [{"name": "web", "bind": f"127.0.0.1:{port}", "protocols": ["h1"]}],
        "upstreams": [{"name": "origin", "endpoints": [{"address": f"127.0.0.1:{origin}"}]}],
        "routes": [
            {"name": "products", "match": {"path_prefix": "/api/products"}, "upstream": "origin"},
            {"name": "rest", "match": {"path_prefix": "/"}, "upstream": "origin"},
        ],
    })  # fmt: skip
    snapshot = compile_snapshot(document, {}, 1)

    async def run() -> None:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, stop.set)
        gateway = Gateway(snapshot, region="local", worker=0, loop=loop, report=Silent(), quiet=True)
        sock = socket.create_server(("127.0.0.1", port))
        await gateway.attach(snapshot.listeners[0], [sock])
        gc.collect()
        gc.freeze()
        gc.set_threshold(10_000, 20, 100)  # as nodes.compiling.tune
        await stop.wait()
        await gateway.close(0.0)

    profiler = cProfile.Profile() if profile else None
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        if profiler:
            profiler.enable()
        runner.run(run())
    if profiler and profile:
        profiler.disable()
        profiler.dump_stats(profile)


BROWSER = [
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0 Safari/537.36",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "Accept-Encoding: gzip, deflate, br",
    "Accept-Language: en-US,en;q=0.9",
    "Cookie: a=b; session=0123456789abcdef0123456789abcdef",
    "Cache-Control: max-age=0",
    "Upgrade-Insecure-Requests: 1",
    "Sec-Fetch-Mode: navigate",
]


def main() -> None:
    """Prints one line for each proxy and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--browser", action="store_true", help="send the fields of a browser")
    parser.add_argument("--profile", help="write a cProfile of the worker there (its figures are then of no use)")
    parser.add_argument("--serve", nargs=2, type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve[0], options.serve[1], options.profile)
        return
    for program in ("nginx", "wrk", "taskset", "curl"):
        if shutil.which(program) is None:
            sys.exit(f"{program} is not installed: apt-get install nginx wrk util-linux curl")
    origin, peer, ours = free_port(), free_port(), free_port()
    headers = BROWSER if options.browser else []
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="meridian-bench-")))
        stack.enter_context(nginx(home, "origin", ORIGIN.format(port=origin), cpu=LOAD_CPU, port=origin))
        body = PEER.format(port=peer, origin=origin)
        peer_pid = stack.enter_context(nginx(home, "peer", body, cpu=PROXY_CPU, port=peer))
        command = [sys.executable, "-m", "bench.proxy", "--serve", str(ours), str(origin)]
        command += ["--profile", options.profile] if options.profile else []
        our_pid = stack.enter_context(running(*command, cpu=PROXY_CPU))
        wait_for(ours)
        results: dict[str, list[Measured]] = {"nginx": [], "meridian": []}
        for _ in range(options.rounds):
            for name, pid, port in (("nginx", peer_pid, peer), ("meridian", our_pid, ours)):
                results[name].append(
                    load(pid, port, seconds=options.seconds, connections=options.connections, headers=headers)
                )
    rates, costs = {}, {}
    for name, runs in results.items():
        rates[name] = median(run.requests_per_second for run in runs)
        costs[name] = median(run.cpu_microseconds for run in runs)
        failed = sum(run.failed for run in runs)
        print(f"{name:10} {rates[name]:9.0f} requests/s  {costs[name]:6.1f} us CPU per request  {failed} failed")
    ratios = sorted(
        ours.cpu_microseconds / theirs.cpu_microseconds
        for ours, theirs in zip(results["meridian"], results["nginx"], strict=True)
    )
    print(f"ratio      {rates['meridian'] / rates['nginx']:9.2f} of its rate   {median(ratios):6.2f} times its CPU "
          f"({ratios[0]:.2f} to {ratios[-1]:.2f})")  # fmt: skip


if __name__ == "__main__":
    main()
