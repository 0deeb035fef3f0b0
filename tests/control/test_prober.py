"""The schedule of probes, with a probe of our own on virtual time."""

import asyncio
from collections import Counter

from tests.control.parts import running
from tests.simulation.virtual import run_virtual

from meridian.control.prober import PROBES_MAX, Prober, Subject
from meridian.core.health import Policy, Sight

POLICY = Policy(interval_seconds=1.0, suspect_interval_seconds=0.2, timeout_seconds=0.5, rise=2, fall=3)


def subject(number: int) -> Subject:
    return Subject("192.0.2.1", number, "/", POLICY)


def test_sights_follow_what_is_probed() -> None:
    async def story() -> None:
        down: set[int] = set()
        turns = 0

        async def probe(subject: Subject) -> bool:
            return subject.port not in down

        def changed() -> None:
            nonlocal turns
            turns += 1

        prober: Prober[int] = Prober(probe, asyncio.get_running_loop().time, lambda: 0.5, changed)
        async with running(prober.run()):
            prober.set_subjects({1: subject(1), 2: subject(2)})
            await asyncio.sleep(1.1)
            assert prober.sights() == {1: Sight.UP, 2: Sight.UP}
            down.add(2)
            await asyncio.sleep(1.5)
            assert prober.sights() == {1: Sight.UP, 2: Sight.DOWN}
            assert turns == 3
            assert prober.dark(1.0) == {2}
            assert prober.dark(3.0) == frozenset()
            prober.set_subjects({2: subject(2), 3: subject(3)})
            assert prober.sights() == {2: Sight.DOWN, 3: Sight.UNKNOWN}
            down.clear()
            await asyncio.sleep(2.2)
            assert prober.sights() == {2: Sight.UP, 3: Sight.UP}
            prober.set_subjects({})
            await asyncio.sleep(5)
            assert prober.sights() == {}

    run_virtual(story)


def test_each_is_probed_at_its_pace_and_all_within_the_limit() -> None:
    async def story() -> None:
        begun: Counter[int] = Counter()
        active = most = 0

        async def probe(subject: Subject) -> bool:
            nonlocal active, most
            begun[subject.port] += 1
            active += 1
            most = max(most, active)
            await asyncio.sleep(0.5)
            active -= 1
            return subject.port % 2 == 0

        prober: Prober[int] = Prober(probe, asyncio.get_running_loop().time, lambda: 0.5, lambda: None)
        async with running(prober.run()):
            prober.set_subjects({number: subject(number) for number in range(10)})
            await asyncio.sleep(20.0)
            assert all(18 <= begun[number] <= 22 for number in range(10))
            prober.set_subjects({number: subject(number) for number in range(3 * PROBES_MAX)})
            await asyncio.sleep(5.0)
            assert most == PROBES_MAX

    run_virtual(story)


def test_a_probe_of_one_who_has_gone_and_come_again_does_not_count() -> None:
    async def story() -> None:
        async def probe(subject: Subject) -> bool:
            await asyncio.sleep(0.4)
            return True

        prober: Prober[int] = Prober(probe, asyncio.get_running_loop().time, lambda: 0.0, lambda: None)
        async with running(prober.run()):
            prober.set_subjects({1: subject(1)})
            await asyncio.sleep(0.1)
            prober.set_subjects({})
            await asyncio.sleep(0.1)
            prober.set_subjects({1: Subject("192.0.2.1", 1, "/", Policy(1.0, 0.2, 0.5, 2, 3))})
            assert prober.sights() == {1: Sight.UNKNOWN}
            await asyncio.sleep(5.0)
            assert prober.sights() == {1: Sight.UP}

    run_virtual(story)
