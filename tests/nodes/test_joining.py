"""When a node that starts is sent clients; on virtual time."""

import asyncio

import pytest
from tests.simulation.virtual import run_virtual

from meridian.nodes.joining import FILL_SECONDS_MAX, SEATS_SECONDS, Joining


@pytest.mark.parametrize(
    ("seats_at", "others", "fill_seconds", "joins_at"),
    [
        (1.0, True, 0.5, 1.5),
        (1.0, True, 600.0, 1.0 + FILL_SECONDS_MAX),
        (1.0, True, 0.0, 1.0),  # there are no limits
        (1.0, False, 0.5, 1.0),  # an empty bucket admits more than nobody does
        (None, True, 0.5, SEATS_SECONDS),
    ],
)
def test_it_is_sent_clients_when_it_admits_them(
    seats_at: float | None, others: bool, fill_seconds: float, joins_at: float
) -> None:
    turned: list[float] = []

    async def story() -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        joining = Joining(
            others_serve=lambda: others,
            fill_seconds=lambda: fill_seconds,
            turned=lambda: turned.append(loop.time() - began),
        )
        if seats_at is not None:
            for again in range(3):  # workers confirm every allowance
                loop.call_later(seats_at + again * 0.01, joining.seated)
        await joining.run()
        assert joining.joined

    run_virtual(story)
    assert turned == [pytest.approx(joins_at, abs=0.05)]
