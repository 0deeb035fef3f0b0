"""The layout of the local cluster and where it is kept."""

from pathlib import Path

import pytest
from tests.support import ROOT

from meridian.cli.errors import Mistake
from meridian.cli.local_components import components
from meridian.cli.local_state import LocalPaths, load_cluster, parse_sizes, plan_cluster, save_cluster
from meridian.core.document import load

SHOP = load((ROOT / "examples/shop.yaml").read_text())


def test_where_state_lies() -> None:
    assert LocalPaths.from_environment({"MERIDIAN_LOCAL": "/a", "XDG_STATE_HOME": "/b"}).root == Path("/a")
    assert LocalPaths.from_environment({"XDG_STATE_HOME": "/b"}).root == Path("/b/meridian/local")
    assert LocalPaths.from_environment({}).root == Path.home() / ".local/state/meridian/local"


def test_three_nodes_with_equal_ports() -> None:
    cluster = plan_cluster(SHOP, Path("shop.yaml"), Path("services.py"), 2)
    assert [(node.name, node.region, node.http, node.https) for node in cluster.nodes] == [
        ("eu-west-1", "eu-west", "127.0.0.11:8080", "127.0.0.11:8443"),
        ("us-east-1", "us-east", "127.0.0.12:8080", "127.0.0.12:8443"),
        ("ap-south-1", "ap-south", "127.0.0.13:8080", "127.0.0.13:8443"),
    ]
    assert [member.endpoint for member in cluster.etcd] == [f"https://127.0.0.{i}:23790" for i in (11, 12, 13)]
    assert len(cluster.services) == 3


def test_a_document_without_tls_has_no_https() -> None:
    plain = load((ROOT / "examples/minimal.yaml").read_text())
    cluster = plan_cluster(plain, Path("minimal.yaml"), None, 1)
    assert {(node.http[-5:], node.https) for node in cluster.nodes} == {(":8080", "")}
    assert cluster.services == ()


def test_the_layout_is_kept(tmp_path: Path) -> None:
    paths = LocalPaths(tmp_path / "state")
    cluster = plan_cluster(SHOP, Path("/shop.yaml"), Path("/services.py"), 2)
    assert load_cluster(paths) is None
    save_cluster(paths, cluster)
    assert load_cluster(paths) == cluster
    paths.cluster.write_text('{"nodes": 3}')
    assert load_cluster(paths) is None


def test_commands_name_no_secret_but_its_file(tmp_path: Path) -> None:
    paths = LocalPaths(tmp_path)
    cluster = plan_cluster(SHOP, Path("/shop.yaml"), Path("/services.py"), 2)
    found = {component.name: component.command for component in components(paths, cluster)}
    assert list(found) == [
        *(m.name for m in cluster.etcd),
        *(s.name for s in cluster.services),
        *(n.name for n in cluster.nodes),
    ]
    assert f"--token-file={paths.token}" in found["eu-west-1"]
    assert "--address=127.0.0.11" in found["eu-west-1"]
    assert found["services-us-east"][-1] == "us-east=127.0.0.22"


def test_without_etcd_the_message_says_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    cluster = plan_cluster(SHOP, Path("/shop.yaml"), None, 2)
    with pytest.raises(Mistake, match="etcd is not installed") as caught:
        components(LocalPaths(tmp_path), cluster)
    assert "apt-get install etcd-server" in caught.value.remedy


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("3", {"eu-west": 1, "us-east": 1, "ap-south": 1}),
        ("5", {"eu-west": 2, "us-east": 2, "ap-south": 1}),
        ("us-east=3", {"eu-west": 1, "us-east": 3, "ap-south": 1}),
    ],
)
def test_sizes_are_said_by_number_or_by_region(text: str, wanted: dict[str, int]) -> None:
    assert parse_sizes(text) == wanted


@pytest.mark.parametrize("text", ["2", "28", "x", "mars=1", "eu-west=0", "eu-west=10", "eu-west", ""])
def test_sizes_that_cannot_be_are_a_mistake(text: str) -> None:
    with pytest.raises(Mistake, match="--nodes"):
        parse_sizes(text)


def test_a_change_of_size_moves_nobody() -> None:
    small = plan_cluster(SHOP, Path("shop.yaml"), None, 1)
    large = plan_cluster(SHOP, Path("shop.yaml"), None, 1, sizes=parse_sizes("27"))
    assert large.nodes[: len(small.nodes)] == small.nodes
    assert len({node.address for node in large.nodes}) == len({node.name for node in large.nodes}) == 27
    assert large.sizes == parse_sizes("27") and large.etcd == small.etcd
