"""The lab is what the command says, and a command that fails gives its own message."""

import pytest
from tests.chaos.conftest import NODES, StartLab

from chaosmeridian.lab import Lab, LabError, parse_lab, read_lab, start_part

STATUS = {
    "nodes": [
        {
            "name": "eu-west-1", "region": "eu-west", "state": "serving", "leader": True, "pids": [7, 8, 9],
            "addresses": ["127.0.0.11"], "http": "127.0.0.11:8080", "https": "127.0.0.11:8443",
            "dns": "127.0.0.11:5300", "admin": "127.0.0.11:9900", "what a later version adds": 1,
        }
    ],
    "etcd": [{"name": "etcd-1", "pid": 5, "endpoint": "https://127.0.0.11:23790"}],
    "ca_file": "/ca.pem",
    "token_file": "/token",
}  # fmt: skip


def test_reads_the_status_and_knows_nodes_and_members_by_name() -> None:
    lab = parse_lab(STATUS)
    assert lab.node("eu-west-1").pids == (7, 8, 9)
    assert lab.others("eu-west-1") == ()
    assert lab.members(None) == lab.members(["etcd-1"]) == lab.etcd
    with pytest.raises(LabError, match="there is no node 'mars-1'; there are eu-west-1"):
        lab.node("mars-1")
    with pytest.raises(LabError, match="there is no etcd member etcd-9; there are etcd-1"):
        lab.members(["etcd-9"])


def test_something_else_is_refused() -> None:
    with pytest.raises(LabError, match="something else than expected"):
        parse_lab({"nodes": [{}]})


def test_asks_the_command(start_lab: StartLab) -> None:
    start_lab()
    lab = read_lab()
    assert isinstance(lab, Lab)
    assert [(node.name, node.state, node.leader) for node in lab.nodes] == [
        (name, "serving", name == NODES[0]) for name in NODES
    ]
    assert all(len(node.pids) == 2 for node in lab.nodes)
    with pytest.raises(LabError, match="`meridian local start mars --json` failed: no part mars; name another"):
        start_part("mars")


def test_a_command_that_is_not_there_or_speaks_no_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MERIDIAN_COMMAND", "echo")
    with pytest.raises(LabError, match="gave no JSON"):
        read_lab()
    monkeypatch.setenv("MERIDIAN_COMMAND", "false")
    with pytest.raises(LabError, match="failed"):
        read_lab()
