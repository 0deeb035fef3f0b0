"""Plays a plan in a world of its own and says what the invariants say. `play(seed)` is the whole of a seed.

After the faults have ended, all must be well: one leads, everyone serves but whom an operator's order keeps, everyone
has the document in force and says so, everyone has its share of the limits, and nothing has piled up.
"""

import asyncio
import contextlib
import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.simulation import faults
from tests.simulation.faults import KINDS, OUT_SECONDS, ROLLING, Fault, Plan, Weather, apply
from tests.simulation.keys import KEYS
from tests.simulation.virtual import VirtualLoop
from tests.simulation.world import World

from meridian.control.driver import ControlPlane
from meridian.control.members import encode
from meridian.core.verdicts import Standing
from meridian.store import documents

BACK_SECONDS = 8.0
WELL_SECONDS = 16.0  # after a storm: waits of seconds that began in it, and a penalty of two falls
BACK = (Standing.SERVING, Standing.DRAINING)
LOOK_SECONDS = 0.1  # between two looks at everything
WATCHES_MAX = 7  # of a node: leader, members, verdict, document, rollout, drains, limits


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a plan led to."""

    plan: Plan
    violations: Sequence[str]
    transcript: Sequence[str]


def play(seed: int, plane: type[ControlPlane] = ControlPlane, plan: Plan | None = None) -> Outcome:
    """Plays the plan of a seed, or the one given; the same plan has the same transcript every time."""
    played = plan or faults.draw(seed)

    async def run() -> World:
        world = World(played.seed, played.names, plane, played.clocks)
        sampling = asyncio.get_running_loop().create_task(world.sample())
        try:
            await _tell(world, played)
        finally:
            sampling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sampling
            await world.close()
        return world

    gc.disable()  # a sixth of the time; what one world leaves behind is little, and goes with the next one's start
    try:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            world = runner.run(run())
    finally:
        gc.enable()
    return Outcome(played, world.finish(), world.transcript)


async def _tell(world: World, plan: Plan) -> None:
    world.rolls_out = any(fault.kind in ROLLING for fault in plan.faults)
    for name in plan.names:
        world.start(name)
    await world.until("the cluster serves", world.all_serving, 6.0)
    first = next(iter(plan.names))
    await world.at(first, apply(world, world.nodes[first], "the beginning"))
    weather = Weather(world)
    if plan.storm:
        await _storm(world, weather, plan.faults)
    else:
        await _one_after_the_other(world, weather, plan)
    world.note("* all faults have ended")
    await world.until("all is well in the end", lambda: well(world), WELL_SECONDS, LOOK_SECONDS)
    if not well(world):
        world.note(f"not well: {'; '.join(ailments(world))}")
    _check_sizes(world)


async def _storm(world: World, weather: Weather, planned: Sequence[Fault]) -> None:
    async def happen(fault: Fault) -> None:
        await asyncio.sleep(fault.at)
        begun = await weather.begin(fault)
        await asyncio.sleep(fault.seconds)
        await weather.end(begun)

    async with asyncio.TaskGroup() as happening:
        for fault in planned:
            happening.create_task(happen(fault))


async def _one_after_the_other(world: World, weather: Weather, plan: Plan) -> None:
    """While one node limps nobody can demand its votes: only that the others come back."""
    began, limps = world.loop.now, plan.lasting
    for planned in plan.faults:
        await asyncio.sleep(max(0.0, began + planned.at - world.loop.now))
        fault = await weather.begin(planned)
        lasting = fault.seconds
        if limps is not None and planned is plan.faults[0]:
            await asyncio.sleep(limps.at - planned.at)
            limps, lasting = await weather.begin(limps), lasting - (limps.at - planned.at)
        elif limps is None:
            lasting -= await _promised(world, fault)
        await asyncio.sleep(max(0.0, lasting))
        await weather.end(fault)
        what = f"all is well after {fault.kind} {fault.target}"
        await world.until(what, _ends_well(world, limps), BACK_SECONDS, LOOK_SECONDS)
    if limps is not None and plan.faults:
        await weather.end(limps)


def _ends_well(world: World, limps: Fault | None) -> Callable[[], bool]:
    """What must hold soon after a fault: that all is well; or that all run, and all but the limping one serve."""
    if limps is None:
        return lambda: well(world)
    names = [name for name in world.names if name != limps.target]
    return lambda: len(world.running()) == len(world.names) and all(world.agreed(n, *BACK) for n in names)


async def _promised(world: World, fault: Fault) -> float:
    """Waits for what must come of a fault that lasts; returns how long it took."""
    if fault.seconds < OUT_SECONDS:
        return 0.0
    if KINDS[fault.kind].kills:
        return await world.until(f"{fault.target} is out", lambda: _out(world, fault.target), OUT_SECONDS)
    if fault.kind in ("drain", "drain_region"):
        return await world.until(f"{fault.target} drains", lambda: _drains(world, fault.target), OUT_SECONDS)
    return 0.0


def _out(world: World, name: str) -> bool:
    """Whether every other running node's verdict is without it."""
    return all(n.standing_of(name) in (None, Standing.WITHDRAWN) for n in world.running() if n.name != name)


def _drains(world: World, target: str) -> bool:
    """Whether every node or region `target` is DRAINING for everyone."""
    return all(world.agreed(n, Standing.DRAINING) for n, region in world.names.items() if target in (n, region))


def well(world: World) -> bool:
    """Whether nothing ails the world."""
    return not ailments(world)


def ailments(world: World) -> list[str]:
    """Returns what is not as it should be when nothing has happened for a while."""
    found = [f"{name} is {node.state}" for name, node in world.nodes.items() if node.state != "running"]
    leaders = [node.name for node in world.running() if node.plane.leadership.fence() is not None]
    if len(leaders) != 1:
        found.append(f"leaders: {leaders}")
    ordered = {n for n, region in world.names.items() if {n, region} & world.witness.orders.keys()}
    current = world.peek(KEYS.current())
    version = documents.parse_current(current) if current is not None else 0
    for node in world.running():
        for name in world.names if ordered != world.names.keys() else ():
            # Who starts under an order is not taken in before it ends.
            expected = (Standing.DRAINING, None) if name in ordered else (Standing.SERVING,)
            if node.standing_of(name) not in expected:
                found.append(f"{node.name} holds {name} {node.standing_of(name)}, not {expected}")
        if node.verdicts and node.verdicts[-1].fallback:
            found.append(f"{node.name} merges itself")
        if version and node.versions[-1:] != [version]:
            found.append(f"{node.name} serves version {node.versions[-1:]}, not {version}")
        record = world.peek(KEYS.member(f"{node.name}.{node.boot}"))
        if record is None or record.value != encode(node.plane._membership.record):
            found.append(f"the member record of {node.name} is not what it says of itself")
        if version and node.plane._membership.record.config_version != version:
            found.append(f"{node.name} has not acknowledged version {version}")
        if not node.seats():
            found.append(f"{node.name} has no seat of the limits")
    return found + world.witness.rollouts.ailments()


def _check_sizes(world: World) -> None:
    """Invariant 8: what is kept does not grow with what happened. Watches of the dead are never closed, as in life."""
    watches = len(world.store._waiting)
    if watches > WATCHES_MAX * world.boots:
        world.violate(f"{watches} watches are open for {world.boots} starts of nodes")
    for node in world.running():
        probes = len(node.plane._nodes._heap)
        if probes > 2 * len(world.names):
            world.violate(f"{node.name} has planned {probes} probes of {len(world.names)} nodes")
