"""Actions break and mend the stand-in lab's real processes; what they are asked wrongly is said in words."""

import time

import pytest
from tests.chaos.conftest import MEMBERS, NODES, StartLab
from tests.support import wait_until

from chaosmeridian import actions, probes
from chaosmeridian.lab import LabError, read_lab
from chaosmeridian.processes import read_stat

NAME = "shop.gw.example.com"
ALL = ["192.0.2.1", "192.0.2.2", "192.0.2.3"]


def test_a_node_is_killed_whole_noticed_and_started(start_lab: StartLab) -> None:
    start_lab()
    assert probes.all_serving()
    assert probes.dns_complete(NAME, within_seconds=5)
    before = read_lab().node("two").pids
    begin = time.monotonic()

    killed = actions.kill_node("two")

    assert sorted(killed["pids"]) == sorted(before)
    assert killed["pids"][0] == min(before)  # the launcher, which would have started another worker
    assert begin <= killed["at"] <= time.monotonic()
    assert read_lab().node("two").pids == ()
    assert not probes.all_serving()
    assert not probes.dns_back("two", NAME)
    assert probes.dns_without("two", NAME, within_seconds="5")
    assert probes.dns_answers(NAME) == {"one": [ALL[0], ALL[2]], "two": None, "three": [ALL[0], ALL[2]]}
    with pytest.raises(LabError, match="node two does not run; start it with: meridian local start two"):
        actions.kill_node("two")

    started = actions.start_node("two")

    assert not started["ran"]
    assert probes.dns_back("two", NAME, within_seconds=5)
    assert probes.all_serving()
    assert actions.start_node("two")["ran"]


def test_a_node_is_paused_and_goes_on(start_lab: StartLab) -> None:
    start_lab()
    pids = actions.pause_node("one")["pids"]
    assert probes.dns_answers(NAME)["one"] is None
    assert actions.resume_node("one")["pids"] == pids
    assert probes.dns_complete(NAME, within_seconds=5)


async def test_etcd_members_are_paused_stopped_and_started(start_lab: StartLab) -> None:
    start_lab()
    pids = {member.name: member.pid for member in read_lab().etcd}

    def states() -> set[str]:
        return {stat.state for pid in pids.values() if (stat := read_stat(pid)) is not None}

    assert [member["name"] for member in actions.pause_etcd()["members"]] == list(MEMBERS)
    await wait_until(lambda: states() == {"T"}, within_seconds=5, what="all are stopped")  # a signal takes its time
    actions.resume_etcd()
    await wait_until(lambda: states() == {"S"}, within_seconds=5, what="all go on")
    actions.stop_etcd(["etcd-2"])
    assert [bool(member.pid) for member in read_lab().etcd] == [True, False]
    assert actions.start_etcd()["members"] == ["etcd-2"]
    assert all(member.pid for member in read_lab().etcd)
    actions.stop_etcd()
    with pytest.raises(LabError, match="no such etcd member runs"):
        actions.stop_etcd()
    with pytest.raises(LabError, match="there is no etcd member etcd-9"):
        actions.start_etcd(["etcd-9"])


def test_load_runs_on_the_others_until_it_is_stopped(start_lab: StartLab) -> None:
    start_lab()
    begin = time.monotonic()
    started = actions.start_load(rate="50", settle_seconds="0.5", without="two", contains="yes")
    assert started["targets"] == ["one", "three"]
    assert begin < started["at"] <= time.monotonic() - 0.5
    with pytest.raises(LabError, match="a load runs already"):
        actions.start_load()
    tally = actions.stop_load()["tally"]
    assert tally["offered"] >= 25
    assert (tally["failed"], tally["started_at"]) == (0, started["at"])
    assert actions.stop_load()["tally"] is None


def test_failures_of_load_are_told_not_raised_and_wrong_load_is_refused(start_lab: StartLab) -> None:
    start_lab()
    actions.start_load(rate=20, settle_seconds=0.3, contains="no")
    tally = actions.stop_load()["tally"]
    assert tally["reasons"] == {"body": tally["offered"]}
    with pytest.raises(LabError, match="there is no node 'mars'"):
        actions.start_load(without="mars")
    with pytest.raises(LabError, match="rate times seconds must be above 0"):
        actions.start_load(rate=0)
    try:
        with pytest.raises(LabError, match="the load ended before it was stopped"):
            actions.start_load(rate=20, seconds_max=0.2, settle_seconds=5)
    finally:
        actions.stop_load()


def test_watching_dns_ends_at_its_deadline_and_tells_what_it_saw(start_lab: StartLab) -> None:
    start_lab()
    assert probes.dns_complete(NAME, within_seconds=5)
    begin = time.monotonic()
    seen = actions.watch_dns("two", NAME, seconds=1)
    assert 1 <= time.monotonic() - begin < 5
    assert (seen["addresses"], seen["others"]) == ([ALL[1]], [ALL[0], ALL[2]])
    assert {server: [answer for _, answer in changes] for server, changes in seen["changes"].items()} == {
        name: [ALL] for name in NODES
    }
