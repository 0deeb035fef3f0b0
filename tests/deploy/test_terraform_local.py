"""deploy/terraform/modules/local by the real terraform: it starts a cluster, changes its size under load with no failed
request, and leaves nothing behind."""

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.deploy.terraform import terraform
from tests.local_cluster import MERIDIAN, LocalCluster
from tests.support import ROOT, child_process

MODULE = ROOT / "deploy/terraform/modules/local"
NAME_SERVERS = ("127.0.0.11:5300", "127.0.0.12:5300", "127.0.0.13:5300")
RATE = 40


def configuration(folder: Path, **nodes: int) -> None:
    regions = ", ".join(f"{region.replace('_', '-')} = {{ nodes = {count} }}" for region, count in nodes.items())
    (folder / "main.tf").write_text(
        f'module "cluster" {{\n  source = "{MODULE}"\n  regions = {{ {regions} }}\n  command = "{MERIDIAN}"\n'
        f'  home = "{folder}"\n  name = "shop"\n}}\n'
        'output "admin" { value = module.cluster.admin }\noutput "token_file" { value = module.cluster.token_file }\n'
    )


def apply(folder: Path) -> None:
    terraform(folder, "apply", "-no-color", "-auto-approve", timeout_seconds=200)


def serving(folder: Path) -> list[str]:
    found = LocalCluster(folder / "shop").local_status()["nodes"]
    return sorted(node["name"] for node in found if node["state"] == "serving")


@pytest.mark.timeout(600)
async def test_a_cluster_comes_grows_shrinks_and_goes(tmp_path: Path, local_cluster: LocalCluster) -> None:
    local_cluster.down()  # it has the same addresses
    try:
        await story(tmp_path)
    finally:
        LocalCluster(tmp_path / "shop").run("local", "down", check=False)


async def story(folder: Path) -> None:
    configuration(folder, eu_west=1, us_east=1, ap_south=1)
    terraform(folder, "init", "-no-color")
    await asyncio.to_thread(apply, folder)
    assert serving(folder) == ["ap-south-1", "eu-west-1", "us-east-1"]
    terraform(folder, "plan", "-no-color", "-detailed-exitcode")  # 2 would be: there is something to do

    clients = [sys.executable, "-m", "tests.deploy.resolving_client", str(RATE), *NAME_SERVERS]
    with child_process(*clients, stdout=subprocess.PIPE, cwd=ROOT) as load:
        configuration(folder, eu_west=2, us_east=2, ap_south=1)
        await asyncio.to_thread(apply, folder)
        assert serving(folder) == ["ap-south-1", "eu-west-1", "eu-west-2", "us-east-1", "us-east-2"]
        await asyncio.sleep(6.0)  # clients keep an answer for 5 s: the new nodes must have been asked too
        configuration(folder, eu_west=1, us_east=1, ap_south=1)
        await asyncio.to_thread(apply, folder)
        load.send_signal(signal.SIGTERM)
        output, _ = await asyncio.to_thread(load.communicate, timeout=30)
    assert serving(folder) == ["ap-south-1", "eu-west-1", "us-east-1"]
    told = json.loads(output)
    assert told["failed"] == [], told
    assert told["served"].get("127.0.1.2") and told["served"].get("127.0.2.2"), told
    assert told["asked"] > 5 * RATE

    terraform(folder, "destroy", "-no-color", "-auto-approve", timeout_seconds=60)
    assert not (folder / "shop").exists()
    left = subprocess.run(["pgrep", "--full", str(folder)], capture_output=True, text=True, timeout=10, check=False)
    assert left.stdout == ""


@pytest.mark.parametrize(
    ("regions", "message"),
    [("{ eu-west = {} }", "all three"), ("{ eu-west = { nodes = 10 }, us-east = {}, ap-south = {} }", "1 to 9")],
)
def test_a_shape_that_cannot_be_is_refused_by_plan(tmp_path: Path, regions: str, message: str) -> None:
    (tmp_path / "main.tf").write_text(f'module "cluster" {{\n  source = "{MODULE}"\n  regions = {regions}\n}}\n')
    terraform(tmp_path, "init", "-no-color")
    assert message in " ".join(terraform(tmp_path, "plan", "-no-color", codes=(1,)).replace("│", "").split())
