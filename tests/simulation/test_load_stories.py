"""Rule 10 on whole control planes. A failure names its seed and its story."""

import pytest
from tests.scale import seeds
from tests.simulation import load_stories as stories
from tests.simulation.story import THREE, Story, simulate


@pytest.mark.parametrize("seed", seeds(1))
@pytest.mark.parametrize("story", [stories.drained_under_load, stories.dead_under_load, stories.gray_under_load])
def test_three_regions_under_load(story: Story, seed: int) -> None:
    simulate(seed, THREE, story)
