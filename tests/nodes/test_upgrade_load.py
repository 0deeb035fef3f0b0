"""Applies and upgrades under load, in short. The long form is one of `scripts/prove`."""

from pathlib import Path

from tests.nodes.node import show
from tests.nodes.upgrading import SOCKETS, run


async def test_no_request_fails_through_applies_and_upgrades(tmp_path: Path) -> None:
    seen = await run(tmp_path, applies=5, upgrades=2)
    show(str(seen))
    assert seen.failures == []
    assert seen.tally.offered > 2_000 and seen.talk.echoed > 100 and seen.talk.told_to_go > 0


async def test_red_without_the_hand_over(tmp_path: Path) -> None:
    """Old workers that are killed instead of finishing must be seen, else the test above shows nothing. Every WebSocket
    that was open is seen for certain; of requests some, by chance of the moment."""
    seen = await run(tmp_path, applies=1, upgrades=1, kill=True)
    assert len(seen.talk.failures) >= SOCKETS
