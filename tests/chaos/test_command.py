"""The whole experiment, by Chaos Toolkit, against a stand-in lab with real processes, connections and DNS."""

import asyncio
import json
import sys
from typing import Any

import pytest
from tests.chaos.conftest import NODES, StartLab

from chaosmeridian import command


async def run(*arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "chaosmeridian",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode(), errors.decode()


async def kill_node(*variables: str) -> tuple[int, dict[str, Any]]:
    status, output, errors = await run(
        "run", "kill-node", "--json", "--var", "node=two", "--var", "rate=60",
        *(part for variable in variables for part in ("--var", variable)),
    )  # fmt: skip
    assert output, errors
    verdict: dict[str, Any] = json.loads(output)
    return status, verdict


async def test_kill_node_passes_where_nobody_notices(start_lab: StartLab) -> None:
    start_lab()
    status, verdict = await kill_node()
    assert status == 0, [check for check in verdict["checks"] if not check["passed"]]
    assert verdict["passed"]
    assert verdict["tally"]["offered"] == verdict["tally"]["answered"] > 60 * 6
    assert sorted(verdict["moved_seconds"]) == ["one", "three"]
    assert sorted(verdict["healed_seconds"]) == sorted(NODES)
    assert all(0 < seconds < 5 for seconds in verdict["moved_seconds"].values())

    status, output, _ = await run("report")
    assert status == 0
    assert "kill-node" in output
    assert "passed" in output
    status, output, _ = await run("report", "kill-node", "--json")
    assert json.loads(output) == verdict


async def test_kill_node_fails_where_users_notice_and_the_node_is_started_again(start_lab: StartLab) -> None:
    start_lab("errors-when-one-is-down")
    status, verdict = await kill_node()
    assert status == 1
    assert not verdict["passed"]
    assert verdict["tally"]["reasons"].keys() == {"status"}
    assert [check["name"] for check in verdict["checks"] if not check["passed"]] == ["requests failed"]
    status, output, _ = await run("report")
    assert status == 1
    assert "503" in output


async def test_mistakes_exit_2_with_one_line(start_lab: StartLab) -> None:
    start_lab()
    for arguments, message in (
        (["run", "kill-mars"], "there is no experiment 'kill-mars'; there are: kill-node"),
        (["run", "kill-node", "--var", "planet=mars"], "kill-node has no variable planet; it has: node, question"),
        (["report"], "no run is kept"),
        (["report", "kill-mars"], "there is no experiment"),
    ):
        status, output, errors = await run(*arguments)
        assert (status, output) == (2, ""), arguments
        assert message in errors
        assert len(errors.splitlines()) == 1
    status, _, errors = await run("run", "kill-node", "--var", "nonsense")
    assert status == 2
    assert "NAME=VALUE" in errors


async def test_no_cluster_is_told_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MERIDIAN_COMMAND", "false")
    status, output, errors = await run("run", "kill-node")
    assert (status, output) == (1, "")
    assert errors.startswith("error: `meridian local status --json` failed")


def test_lists_every_experiment_with_its_variables(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["experiments"]
    assert found[0]["name"] == "kill-node"
    assert found[0]["configuration"]["rate"] == 500
    assert command.main(["list"]) == 0
    assert "kill-node: A node is killed under load" in capsys.readouterr().out
