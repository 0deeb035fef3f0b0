"""Requests per second, read from counters that workers tell once in a second, and that begin anew with each worker."""

import pytest

from meridian.nodes.load import LoadMeter
from meridian.telemetry.metrics import REQUESTS, Series


def told(*counts: float) -> list[Series]:
    """One worker's series: some requests of several kinds, and something else."""
    requests = [Series(REQUESTS, "counter", "", {"status": str(at)}, count) for at, count in enumerate(counts)]
    return [*requests, Series("meridian_connections", "gauge", "", {}, 99.0)]


class Clocked:
    def __init__(self) -> None:
        self.now = 0.0
        self.meter = LoadMeter(lambda: self.now)

    def read(self, seconds: float, **workers: float) -> float:
        self.now += seconds
        return self.meter.read({name: told(count / 2, count / 2) for name, count in workers.items()})


def test_a_steady_load_is_found_though_workers_tell_it_in_jumps() -> None:
    clocked = Clocked()
    loads = []
    for tick in range(120):
        count = 1000.0 * (tick // 2)  # told each second, read each half
        loads.append(clocked.read(0.5, one=count, two=count / 2))
    assert all(load == pytest.approx(1500.0, rel=0.12) for load in loads[80:])


def test_routes_that_come_and_go_make_no_jump() -> None:
    clocked = Clocked()

    def read(**routes: float) -> float:
        clocked.now += 1.0
        series = [Series(REQUESTS, "counter", "", {"route": name}, count) for name, count in routes.items()]
        return clocked.meter.read({"one": series})

    assert read(old=1_000_000.0, kept=10.0) == 0.0
    assert read(kept=10.0) == 0.0, "a route that left takes its count along"
    assert 0.0 < read(kept=10.0, new=50.0) <= 50.0


def test_workers_that_begin_anew_or_join_make_no_jump() -> None:
    clocked = Clocked()
    assert clocked.read(1.0, one=1_000_000.0) == 0.0
    assert clocked.read(1.0, one=0.0) == 0.0
    assert clocked.read(1.0, one=0.0, two=1_000_000.0) == 0.0
    clocked.read(1.0, one=100.0, two=1_000_000.0)
    before = clocked.read(0.1, one=5000.0, two=1_000_000.0)
    assert 0.0 < before < 100.0, "a report that follows at once reads nothing new"
    assert clocked.read(1.0, two=1_000_000.0) < before
