"""`meridian apply --now` under load: nothing fails, all nodes have the new version within two seconds."""

import asyncio
import time
from pathlib import Path

import pytest
from tests.load import offered_load, shown
from tests.local_cluster import LocalCluster
from tests.nodes.node import running, show
from tests.nodes.site import Site, upstream
from tests.scenarios.test_failures import targets_of
from tests.scenarios.test_protocols import curl

EVERYWHERE_SECONDS = 2.0
ROUTE = "  - {name: moved, match: {path: /api/moved}, upstream: orders}\n"  # until then the files' service takes it


async def test_a_route_changes_everywhere_in_two_seconds_and_no_request_fails(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    nodes = list(cluster.nodes().values())
    source = cluster.document.read_text()
    with offered_load(targets_of(nodes), seconds=14, ca_file=cluster.ca_file, contains="products") as load:
        await asyncio.sleep(2)  # the load runs evenly: what is measured is the change under load
        for turn in range(3):
            document = tmp_path / f"turn-{turn}.yaml"
            document.write_text(source.replace("routes:\n", f"routes:\n{ROUTE.replace('moved', f'moved-{turn}')}"))
            began = time.monotonic()
            await asyncio.to_thread(cluster.run, "apply", "--now", str(document))
            taken_seconds = time.monotonic() - began  # with the command's own start
            show(f"applied everywhere in {taken_seconds:.2f} s")
            assert taken_seconds <= EVERYWHERE_SECONDS
            for node in nodes:
                body = await asyncio.to_thread(curl, cluster, node, path=f"/api/moved-{turn}", tls=False)
                assert '"orders"' in body
    assert load.tally.failed == 0, shown(load.tally)
    assert load.tally.offered > 6_000


@pytest.mark.parametrize("module", ["meridian.nodes.gateway_worker", "tests.scenarios.restarting_gateway"])
async def test_the_same_on_one_node_and_red_with_the_swap_broken_on_purpose(tmp_path: Path, module: str) -> None:
    async with upstream() as port:
        site = Site(tmp_path, port)
        async with running(site.flags(f"--gateway-module={module}"), {}, standin=False):
            await until_up(site)
            await site.apply(site.document())
            with offered_load([f"h1=127.0.0.1:{site.web}"], seconds=5) as load:
                for turn in range(4):
                    await asyncio.sleep(1)
                    await site.apply(site.document(limits=[{"name": f"l{turn}", "rate": "9/s", "burst": 9}]))
                await asyncio.to_thread(lambda: load.tally)  # the upstream lives on this loop
    if module.startswith("meridian"):
        assert load.tally.failed == 0, shown(load.tally)
    else:
        assert load.tally.failed > 0, "a reload that cuts connections must be seen"


async def until_up(site: Site) -> None:
    """Waits until the admin API answers."""
    from tests.nodes.site import until

    await until(lambda: site.call("GET", "/v1/status"), "the admin API answers")
