"""Documents are read whole, and beside a loop that goes on."""

import asyncio
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import uvloop
from tests.nodes.node import show

from meridian.core import model
from meridian.nodes import compiling
from meridian.nodes.compiling import Unfit, read_document
from meridian.nodes.gateway_worker import GatewayDuties
from meridian.nodes.settings import Settings
from meridian_proto.v1.channel_pb2 import Config


def document(routes: int) -> bytes:
    return json.dumps({
        "listeners": [{"name": "web", "bind": "0.0.0.0:8080", "protocols": ["h1"]}],
        "regions": [{"name": "eu"}],
        "limits": [{"name": "each", "rate": "10/s", "burst": 20}],
        "upstreams": [
            {"name": f"u{n}", "endpoints": [{"address": f"10.0.0.{m}:80", "region": "eu"} for m in (1, 2, 3)]}
            for n in range(max(1, routes // 10))
        ],
        "routes": [
            {"name": f"r{n}", "match": {"host": f"h{n % 50}.example.com", "path_prefix": f"/{n}", "methods": ["GET"]},
             "upstream": f"u{n // 10}", "stages": [{"limit": "each"}]}
            for n in range(routes)
        ],
        "zones": [{"name": "gw.example.com", "nameservers": ["ns1.gw.example.com"],
                   "records": [{"name": "shop", "type": "A", "steer": {"regions": ["eu"]}}]}],
    }).encode()  # fmt: skip


def test_piece_by_piece_it_is_the_same_document() -> None:
    whole = model.Document.model_validate_json(document(30))
    sent = whole.model_dump_json(exclude_unset=True).encode()
    assert read_document(sent) == whole
    assert read_document(sent, leave_out=("zones",)).zones == ()
    assert read_document(sent, leave_out=("routes", "upstreams")).zones == whole.zones


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (b"not json", "cannot be read"),
        (b'{"listeners": []}', "listeners"),
        (document(1).replace(b'"path_prefix"', b'"path_prefiks"'), "path_prefiks"),
        (document(1).replace(b'"type": "A"', b'"type": "X"'), "type"),
    ],
)
def test_what_is_no_document_is_refused(change: bytes, message: str) -> None:
    with pytest.raises(Unfit, match=message):
        read_document(change)


def test_the_loop_goes_on_while_a_thousand_routes_are_compiled() -> None:
    """The bound is 10 ms. Other programs on this machine may take longer turns than that: the best of five counts."""
    data = document(1000)

    async def measure() -> list[float]:
        loop = asyncio.get_running_loop()
        duties = GatewayDuties(Settings("one", "eu", advertise=("127.0.0.1",)), 0, b"x" * 32)
        worst = []
        with ThreadPoolExecutor(1) as thread:
            for version in range(1, 6):
                compiled = loop.run_in_executor(thread, compile_one, duties, version)
                longest, last = 0.0, time.perf_counter()  # uvloop's own time stands still within a turn
                while not compiled.done():
                    await asyncio.sleep(0.001)
                    now = time.perf_counter()
                    longest, last = max(longest, now - last - 0.001), now
                (await compiled)()
                compiling.settle()
                worst.append(max(longest, time.perf_counter() - last))
                await asyncio.sleep(0)
        await duties.close(0.0)
        return worst

    def compile_one(duties: GatewayDuties, version: int) -> Callable[[], None]:
        return compiling.without_collector(lambda: duties.compile(Config(version=version, document=data)))

    compiling.tune()
    with asyncio.Runner(loop_factory=lambda: uvloop.new_event_loop()) as runner:
        worst = runner.run(measure())
    show(f"longest stalls of five compilations of 1,000 routes: {[round(one * 1000, 1) for one in worst]} ms")
    assert min(worst) < 0.010
