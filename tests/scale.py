"""How long the tests are. CI runs each once; `scripts/prove` sets MERIDIAN_TIMES and gets so many times more of what is
drawn by chance: seeds, mutations, examples."""

import os

TIMES = max(1, int(os.environ.get("MERIDIAN_TIMES", "1")))


def seeds(count: int) -> range:
    """The seeds of a simulated story: `count` in CI."""
    return range(count * TIMES)
