import asyncio

from tests.simulation.virtual import run_virtual

from meridian.control.waiting import Pause, signalled


def test_a_signal_ends_the_wait_and_is_cleared() -> None:
    async def story() -> None:
        loop, event = asyncio.get_running_loop(), asyncio.Event()
        event.set()
        assert await signalled(event, -1.0)
        began = loop.time()
        assert not await signalled(event, 2.0)
        assert round(loop.time() - began, 6) == 2.0
        loop.call_later(0.5, event.set)
        assert await signalled(event, 2.0)
        assert round(loop.time() - began, 6) == 2.5

    run_virtual(story)


def test_pauses_double_to_their_limit_and_begin_again() -> None:
    async def story() -> None:
        loop, pause, took = asyncio.get_running_loop(), Pause(0.1, 0.5), []
        for number in range(6):
            if number == 5:
                pause.reset()
            began = loop.time()
            await pause()
            took.append(round(loop.time() - began, 6))
        assert took == [0.1, 0.2, 0.4, 0.5, 0.5, 0.1]

    run_virtual(story)
