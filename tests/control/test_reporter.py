import asyncio

from tests.control.parts import running
from tests.simulation.virtual import run_virtual

from meridian.control.reporter import Reporter, known
from meridian.core.health import Sight
from meridian.core.verdicts import Report


def test_reports_come_at_once_on_change_else_every_period() -> None:
    async def story() -> None:
        loop = asyncio.get_running_loop()
        sent: list[tuple[float, int]] = []
        began = loop.time()

        def send(report: Report) -> None:
            sent.append((round(loop.time() - began, 3), report.sequence))

        reporter = Reporter(lambda sequence: Report("a", "eu", "a.1", 1, sequence, {}), send)
        async with running(reporter.run()):
            await asyncio.sleep(1.2)
            reporter.hurry()
            reporter.hurry()
            await asyncio.sleep(0.6)
        assert sent == [(0.0, 1), (0.5, 2), (1.0, 3), (1.2, 4), (1.7, 5)]

    run_virtual(story)


def test_unknown_sights_are_left_out() -> None:
    assert known({"a": Sight.UP, "b": Sight.UNKNOWN, "c": Sight.DOWN}) == {"a": Sight.UP, "c": Sight.DOWN}
