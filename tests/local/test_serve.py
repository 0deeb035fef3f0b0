"""`meridian serve` by the command: a demo's certificate is made, requests pass, mistakes are one message."""

import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from curl_cffi import AsyncSession
from curl_cffi.requests.exceptions import RequestException
from tests.cli.command import run
from tests.support import ROOT, child_process, free_port, wait_until

SERVICES = "127.0.9.31"  # no local cluster uses it


def document(port: int) -> str:
    return f"""\
listeners:
  - {{name: secure, bind: "127.0.0.1:{port}", protocols: [h1, h2]}}
certificates:
  - {{hosts: [shop.example.com], cert_file: tls/shop.pem, key_file: tls/shop.key}}
upstreams:
  - {{name: products, endpoints: [{{address: "{SERVICES}:7001"}}]}}
routes:
  - {{name: products, upstream: products}}
"""


async def test_serve_makes_the_demo_s_certificate_and_serves(tmp_path: Path) -> None:
    port, state = free_port(), tmp_path / "state"
    file = tmp_path / "shop.yaml"
    file.write_text(document(port))
    command = [sys.executable, "-m", "meridian.cli.main", "serve", str(file), "--dns-port=0"]
    command.append(f"--admin-port={free_port()}")
    environment = os.environ | {"MERIDIAN_LOCAL": str(state)}
    services = [sys.executable, str(ROOT / "examples/shop_services.py"), f"demo={SERVICES}"]
    log = (tmp_path / "log").open("wb")
    with log, child_process(*services), child_process(*command, env=environment, stderr=log) as serving:
        verify: Any = str(state / "tls/ca.pem")

        async def answers() -> bool:
            async with AsyncSession(verify=verify, trust_env=False) as session:
                try:
                    answer = await session.get(f"https://localhost:{port}/api/products", timeout=2)
                except RequestException:
                    return False
                return bool(answer.status_code == 200 and answer.json()["service"] == "products")

        condition: Callable[[], bool | Awaitable[bool]] = answers
        await wait_until(condition, within_seconds=40, what="the gateway answers", every_seconds=0.1)
        serving.send_signal(signal.SIGINT)
        assert serving.wait(timeout=20) == 0
    assert str(state / "tls/ca.pem") in (tmp_path / "log").read_text()


async def test_a_taken_port_is_one_message(tmp_path: Path) -> None:
    file = tmp_path / "plain.yaml"
    port = free_port()
    file.write_text((ROOT / "examples/minimal.yaml").read_text().replace("127.0.0.1:8080", f"127.0.0.1:{port}"))
    with child_process(sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)):
        await wait_until(lambda: _listens(port), within_seconds=20, what="the port is taken")
        ran = await run("serve", file, "--dns-port=0", f"--admin-port={free_port()}", state=tmp_path / "state")
    assert ran.code == 2
    assert f"{port}" in ran.err and "taken" in ran.err
    assert ran.err.count("meridian serve: ") == 1 and "Traceback" not in ran.err


def _listens(port: int) -> bool:
    return f"0100007F:{port:04X} 00000000:0000 0A" in Path("/proc/net/tcp").read_text()
