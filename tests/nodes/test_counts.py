"""Quotas and windows of a real node: a crash begins nothing anew, and a planned restart costs nothing."""

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.nodes.node import running
from tests.nodes.site import Site, until, upstream

QUOTA, WINDOW = 40, 30


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with upstream() as port:
        yield Site(tmp_path, port)


def document(site: Site) -> str:
    routes = [
        {"name": name, "match": {"path_prefix": f"/{name}"}, "upstream": "app", "stages": [{"limit": name}]}
        for name in ("quota", "window")
    ]
    limits = [
        {"name": "quota", "key": "route", "quota": f"{QUOTA}/month"},
        {"name": "window", "key": "route", "window": f"{WINDOW}/1h"},
    ]
    return site.document(routes=routes, limits=limits)


async def spend(site: Site, path: str, times: int) -> int:
    """How many of so many requests are admitted."""
    return sum([(await site.get(path)).startswith(b"HTTP/1.1 200") for _ in range(times)])


async def admits(site: Site, path: str) -> bool:
    return await spend(site, path, 1) == 1


async def test_restarts(site: Site) -> None:
    """One worker, whose part is the whole."""
    flags = site.flags(workers=1)
    async with running(flags, {}, standin=False) as node:
        await node.logged("child ready", worker="agent", within_seconds=40)
        await until(lambda: site.call("GET", "/v1/status"), "admin API")
        await site.apply(document(site))
        await until(lambda: admits(site, "/quota"), "it knows its seats")
        quota = 1 + await spend(site, "/quota", 9)
        window = await spend(site, "/window", 10)
        assert (quota, window) == (10, 10)
        os.kill(node.pid("gateway-0"), signal.SIGTERM)
        await node.logged("child ready", worker="gateway-0", count=2, within_seconds=30)
        window += await spend(site, "/window", 5)
        quota += await spend(site, "/quota", 5)
        assert (quota, window) == (15, 15), "a planned restart costs nothing"
        os.kill(node.pid("gateway-0"), signal.SIGKILL)
        await node.logged("child ended", worker="gateway-0", exit=-9)
        await node.logged("child ready", worker="gateway-0", count=3, within_seconds=30)
        assert await spend(site, "/window", 3) == 0, "a worker that left no word may have spent all"
        quota += await spend(site, "/quota", QUOTA)
        assert QUOTA - 2 * 16 <= quota <= QUOTA, f"{quota} of {QUOTA}"
