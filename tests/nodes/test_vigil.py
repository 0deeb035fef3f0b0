"""Who ends while a candidate is tried is taken to end of it; who ends at another time is not."""

from meridian.core.rollout import Part
from meridian.nodes.crew import WorkerState
from meridian.nodes.vigil import SILENT_SECONDS, Vigil

TRIES, WAITS = Part(7, 3, 0.05), Part(7, 2)


def worker(kind: str = "gateway", pid: int = 10, heard: float = 100.0, *, connected: bool = True) -> WorkerState:
    return WorkerState(kind, 0, connected=connected, pid=pid, heard=heard)


def test_a_worker_that_ends_while_it_tries_is_told_of() -> None:
    for after in (worker(connected=False), worker(pid=11)):
        vigil = Vigil()
        assert vigil.look(TRIES, [worker(), worker("dns", 20)], 100.0) == ""
        assert vigil.look(TRIES, [after, worker("dns", 20)], 101.0) == "gateway-0 ended while it tried it"


def test_a_worker_that_falls_silent_is_told_of_and_one_in_this_process_is_not_listened_for() -> None:
    vigil, inside = Vigil(), WorkerState("dns", 0, connected=True, pid=1)
    assert vigil.look(TRIES, [worker(), inside], 100.0) == ""
    assert vigil.look(TRIES, [worker(), inside], 100.0 + SILENT_SECONDS) == ""
    assert "gateway-0 said nothing for 5 s" in vigil.look(TRIES, [worker(), inside], 100.1 + SILENT_SECONDS)


def test_who_ends_before_or_is_not_asked_to_try_or_comes_meanwhile_is_nobody_s_fault() -> None:
    vigil = Vigil()
    assert vigil.look(WAITS, [worker()], 100.0) == ""
    assert vigil.look(WAITS, [worker(pid=11)], 101.0) == "", "nothing is tried here yet"
    assert vigil.look(TRIES, [worker(pid=11, connected=False)], 102.0) == "", "it was away before"
    assert vigil.look(TRIES, [worker(pid=12, heard=103.0)], 103.0) == ""
    assert vigil.look(Part(7, 4, 0.5), [worker(pid=12, heard=104.0)], 104.0) == ""
    assert vigil.look(Part(7, 4, 0.5), [worker(pid=13)], 105.0) != "", "the stage after is the same trial"
    assert vigil.look(Part(8, 6, 0.05), [worker(pid=13, heard=106.0)], 106.0) == ""
    assert vigil.look(Part(), [], 107.0) == ""
