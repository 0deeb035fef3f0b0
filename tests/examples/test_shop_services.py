"""The demo's services: each answer names service and region, bodies stream, files are there."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from tests.support import ROOT, child_process, wait_until

from meridian.core.document import load

# Addresses that no local cluster uses, so that one may run beside this test.
EAST, WEST = "127.0.9.21", "127.0.9.22"


@pytest.fixture(scope="module")
def services() -> Iterator[None]:
    script = ROOT / "examples/shop_services.py"
    with child_process(sys.executable, str(script), f"east={EAST}", f"west={WEST}"):
        yield


@pytest_asyncio.fixture
async def client(services: None) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False, timeout=20) as found:

        async def healthy() -> bool:
            try:
                return (await found.get(f"http://{WEST}:7003/healthz")).status_code == 200
            except httpx.HTTPError:
                return False

        # Named, because mypy cannot tell what the result of an asynchronous condition is.
        condition: Callable[[], bool | Awaitable[bool]] = healthy
        await wait_until(condition, within_seconds=30, what="the services answer")
        yield found


@pytest.mark.parametrize(("address", "region"), [(EAST, "east"), (WEST, "west")])
async def test_answers_name_service_and_region(client: httpx.AsyncClient, address: str, region: str) -> None:
    for port, path, service in (
        (7001, "/api/products", "products"),
        (7001, "/api/products/2", "products"),
        (7002, "/api/orders", "orders"),
    ):
        answer = await client.get(f"http://{address}:{port}{path}")
        assert answer.status_code == 200
        assert (answer.json()["service"], answer.json()["region"]) == (service, region)
        assert (answer.headers["x-service"], answer.headers["x-region"]) == (service, region)


async def test_an_order_comes_back(client: httpx.AsyncClient) -> None:
    answer = await client.post(f"http://{EAST}:7002/api/orders", json={"product": 2})
    assert (answer.status_code, answer.json()["order"]) == (201, {"product": 2})
    assert (await client.post(f"http://{EAST}:7002/api/orders", content=b"{")).status_code == 400
    assert (await client.post(f"http://{EAST}:7002/api/orders", content=b"1" * 2**21)).status_code == 413


async def test_bodies_stream_both_ways(client: httpx.AsyncClient) -> None:
    chunk = bytes(range(256)) * 4096

    async def body() -> AsyncIterator[bytes]:
        for _ in range(4):
            yield chunk

    answer = await client.post(f"http://{EAST}:7002/api/orders/echo", content=body())
    assert answer.content == chunk * 4
    answer = await client.get(f"http://{EAST}:7001/api/products/export?bytes=1000001")
    assert len(answer.content) == 1000001
    assert answer.content[:256] == bytes(range(256))


async def test_static_files(client: httpx.AsyncClient) -> None:
    index = await client.get(f"http://{EAST}:7003/")
    assert index.headers["content-type"] == "text/html"
    assert index.text == (ROOT / "examples/static/index.html").read_text()
    assert (await client.get(f"http://{EAST}:7003/logo.svg")).headers["content-type"] == "image/svg+xml"
    for path in ("/none", "/../shop.yaml", "/%2e%2e/shop.yaml"):
        assert (await client.get(f"http://{EAST}:7003{path}")).status_code == 404
    assert (await client.post(f"http://{EAST}:7003/")).status_code == 405


@pytest.mark.parametrize("place", ["", "east", "east="])
def test_a_wrong_place_is_one_message(place: str) -> None:

    ran = subprocess.run(
        [sys.executable, ROOT / "examples/shop_services.py", place], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 2
    assert "is not REGION=ADDRESS" in ran.stderr


@pytest.mark.parametrize("file", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.name)
def test_every_example_is_a_valid_document(file: Path) -> None:
    document = load(file.read_text())
    assert list(document.warnings()) == []
    assert json.loads(document.model_dump_json())["listeners"]
