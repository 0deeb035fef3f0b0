"""Strict limits under all faults: nothing above the bound in any window. A failure names its seed and what broke.

`python -m tests.simulation.limits --seeds 1000` runs many.
"""

import pytest
from tests.scale import seeds
from tests.simulation.limits.scenario import play
from tests.simulation.limits.utilisation import measure


@pytest.mark.parametrize("seed", seeds(40))
def test_nothing_is_admitted_above_the_bound(seed: int) -> None:
    world = play(seed)
    assert not world.violations, f"seed {seed}: {world.violations}; {world.faults_done}"
    assert sum(map(len, world.admitted.values())) > 50, "the seed tested something"


def test_the_same_seed_does_the_same() -> None:
    assert play(7).admitted == play(7).admitted


@pytest.mark.parametrize("seed", seeds(20))
def test_skewed_load_uses_the_limit(seed: int) -> None:
    found = measure(seed)
    assert found.admitted >= 0.95, found
    assert found.messages_per_second < 100, found
