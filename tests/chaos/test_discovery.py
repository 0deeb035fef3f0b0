"""Chaos Toolkit finds the extension's activities, and holds every experiment for valid."""

import pytest

from chaosmeridian import command, discover


def test_finds_actions_and_probes() -> None:
    found = {activity["name"]: activity["type"] for activity in discover()["activities"]}
    assert found["kill_node"] == found["start_load"] == found["stop_etcd"] == found["resume_etcd"] == "action"
    assert found["dns_without"] == found["all_serving"] == "probe"
    assert "read_lab" not in found


@pytest.mark.parametrize("name", sorted(command.experiments()))
def test_experiments_are_valid_and_have_an_slo(name: str) -> None:
    from chaoslib.experiment import ensure_experiment_is_valid

    from chaosmeridian.verdict import EXTENSION

    experiment = command.load_experiment(name)
    ensure_experiment_is_valid(experiment)
    assert [extension["slo"] for extension in experiment["extensions"] if extension["name"] == EXTENSION]
    assert experiment["rollbacks"]
