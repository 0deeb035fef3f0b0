"""Stories about verdicts: what the rules of design/verdicts.md promise, told to whole control planes.

Each is a test of its own (test_verdict_stories) and bait for planted bugs (planted).
"""

import asyncio

from tests.simulation.story import BACK_SECONDS, OUT, OUT_SECONDS
from tests.simulation.world import WITNESS, World

from meridian.core.distances import SURVEY_SECONDS
from meridian.core.verdicts import PUBLISHED, Standing

KEPT = tuple(PUBLISHED)
MERGED_SECONDS = 3.0  # with nobody to lead
DARK_OUT_SECONDS = 4.8  # three seconds in the dark, the pace of probes and of reports
MEASURED_SECONDS = 25.0  # half of the probes that are remembered, and two surveys
RISE_SECONDS = 1.2  # eight good probes at the quick pace, less its jitter


def leader_of(world: World) -> str:
    return next((node.name for node in world.running() if node.plane.leadership.fence() is not None), "")


def someone_but(world: World, *names: str) -> str:
    return world.random.choice([name for name in world.names if name not in names])


async def store_and_region_lost(world: World) -> None:
    """No leader can be: the nodes merge themselves. What they withdrew stays out when a leader is back."""
    victim = someone_but(world)
    world.store_down = True
    await world.calm(world.random.uniform(0.0, 5.0))
    world.kill(victim)
    await world.until(f"{victim} is out without a leader", lambda: world.agreed(victim, *OUT), MERGED_SECONDS)
    fallbacks = [node.verdicts[-1].fallback for node in world.running()]
    if not all(fallbacks):
        world.violations.append(f"a leader's verdict while none could be written: {fallbacks}")
    await world.calm(world.random.uniform(0.0, 8.0))
    world.store_down = False
    await world.calm(8.0)
    world.check_never_back(victim)
    if any(node.verdicts[-1].fallback for node in world.running()):
        world.violations.append("a leader is back and not followed")
    world.start(victim)
    await world.until(f"{victim} is back", world.all_serving, BACK_SECONDS)


async def back_with_the_leader(world: World) -> None:
    """A region that the nodes withdrew themselves returns as a leader does: it must go the slow way all the same."""
    victim = someone_but(world)
    world.store_down = True
    await world.calm(4.0)
    world.kill(victim)
    await world.until(f"{victim} is out without a leader", lambda: world.agreed(victim, *OUT), MERGED_SECONDS)
    world.store_down = False
    others = [node for node in world.running() if node.name != victim]
    await world.until("one leads again", lambda: leader_of(world), 6.0)
    world.start(victim)  # it speaks before the new leader has judged, and its probes are not good yet
    began = world.loop.time()
    while world.loop.time() - began < RISE_SECONDS:
        if any(node.standing_of(victim) is not Standing.WITHDRAWN for node in others):
            world.violations.append(f"{victim} came back {world.loop.time() - began:.2f} s after its start")
            break
        await asyncio.sleep(0.02)
    await world.until(f"{victim} is back", world.all_serving, BACK_SECONDS)


async def measured(world: World) -> None:
    """Nodes find out how far the regions are, agree on it, follow when the way changes, keep it without a leader."""

    def agreed() -> dict[frozenset[str], float] | None:
        found = [node.verdicts[-1].distances for node in world.running()]
        known = all(distances == found[0] for distances in found) and len(found[0]) == 3
        return {frozenset(pair): held.seconds for pair, held in found[0].items()} if known else None

    def far(region: str, low: float, high: float) -> bool:
        return all(low < s < high for pair, s in (agreed() or {frozenset({region}): 0.0}).items() if region in pair)

    world.measures = True
    one = someone_but(world)
    region = world.names[one]
    await world.until("all agree on three distances", agreed, MEASURED_SECONDS)
    world.far_seconds[one] = 0.04
    await world.until(f"{region} is far", lambda: far(region, 0.08, 0.13), MEASURED_SECONDS)
    before = agreed()
    world.store_down = True
    await world.calm(4.0)
    if agreed() != before:
        world.violations.append(f"distances changed without a leader: {before} became {agreed()}")
    world.store_down = False
    world.kill(leader_of(world) or one)
    del world.far_seconds[one]
    await world.calm(2 * MEASURED_SECONDS)
    judged = {(v.version, tuple(sorted(v.distances.items()))) for node in world.nodes.values() for v in node.verdicts}
    changes = len({distances for _, distances in judged})
    seconds = world.loop.now - 1000.0
    if changes > 2 + seconds / SURVEY_SECONDS:
        world.violations.append(f"distances changed {changes} times in {seconds:.0f} s")


async def leader_stands_still(world: World) -> None:
    """A pause that its lease outlives: the others merge, and the leader's first word undoes nothing."""
    leader = leader_of(world)
    victim = someone_but(world, leader)
    world.kill(victim)
    await world.calm(world.random.uniform(0.3, 1.0))
    world.pause(leader)
    await world.calm(world.random.uniform(1.0, 1.3))
    world.resume(leader)
    await world.until(f"{victim} is out", lambda: world.agreed(victim, *OUT), OUT_SECONDS)
    await world.calm(4.0)
    world.check_never_back(victim)


async def late_beats(world: World) -> None:
    """Beats come late, and the write that they should have waited for later still: they undo nothing."""
    leader = leader_of(world)
    victim = someone_but(world, leader)
    world.kill(victim)
    await world.calm(world.random.uniform(0.3, 1.0))
    world.slow.add(leader)
    world.late_seconds[leader] = 1.2
    await world.until(f"{victim} is out", lambda: world.agreed(victim, *OUT), 6.0)
    await world.calm(6.0)
    world.check_never_back(victim)


async def leader_cannot_write(world: World) -> None:
    """A leader whose store is away holds its lease still; nobody waits for it, and it does not wait for itself."""
    victim = someone_but(world, leader_of(world))
    world.kill(victim)
    began = world.loop.time()
    await world.calm(world.random.uniform(0.8, 1.3))
    world.store_away_for(6.0)
    rest = began + 2.8 - world.loop.time()
    await world.until(f"{victim} is out", lambda: world.agreed(victim, *OUT), rest)
    await world.calm(10.0)
    world.check_never_back(victim)


async def fallback_and_return(world: World) -> None:
    """The store is away for long: who dies goes, who returns returns, all without a leader."""
    victim = someone_but(world)
    world.store_down = True
    await world.calm(3.0)
    world.islands.add(victim)
    others = [node for node in world.running() if node.name != victim]
    await world.until(
        "it is out without a leader", lambda: all(n.standing_of(victim) in OUT for n in others), MERGED_SECONDS
    )
    await world.calm(world.random.uniform(1.0, 5.0))
    world.islands.clear()
    await world.until("all serve without a leader", world.all_serving, BACK_SECONDS)
    world.store_down = False
    await world.calm(6.0)
    if not world.all_serving():
        world.violations.append("the store's return withdrew somebody")


async def gray(world: World) -> None:
    """A region whose data path is dead and whose agent is well goes, and comes back when it heals."""
    victim = someone_but(world)
    region = world.names[victim]
    world.dark |= {name for name in world.names if world.names[name] == region}
    await world.calm(2.5)
    if not world.agreed(victim, *KEPT):
        world.violations.append(f"{victim} speaks and was withdrawn before its time")
    await world.until(
        f"{victim} is out", lambda: all(world.agreed(n, *OUT) for n in world.dark), DARK_OUT_SECONDS - 2.5
    )
    await world.stays(lambda: world.agreed(victim, *OUT), 3.0, f"{victim} came back without a data path")
    world.dark.clear()
    await world.until(f"{victim} is back", world.all_serving, BACK_SECONDS)


async def half_dark(world: World) -> None:
    """Whom all but one observer cannot reach, and who speaks, is kept: it is a path that is broken, not a region."""
    victim = someone_but(world)
    seer = someone_but(world, victim)
    world.blind = {(name, victim) for name in world.names if name not in (victim, seer)}
    await world.stays(lambda: world.agreed(victim, *KEPT), 8.0, f"{victim} speaks, is seen up, and was withdrawn")
    world.blind = set()
    await world.until("all serve", world.all_serving, BACK_SECONDS)


async def one_hears_it(world: World) -> None:
    """Whose reports reach an observer, but not the leader, is not silent, even if two do not reach its data path."""
    leader = leader_of(world)
    victim = someone_but(world, leader)
    hearer = someone_but(world, leader, victim)
    world.deaf = {(name, victim) for name in world.names if name != hearer}
    world.blind = {(name, victim) for name in world.names if name != hearer}
    await world.stays(lambda: world.agreed(victim, *KEPT), 6.0, f"{victim} is heard by {hearer} and was withdrawn")
    world.deaf = world.blind = set()
    await world.until("all serve", world.all_serving, BACK_SECONDS)


async def blind_observer(world: World) -> None:
    """Who reaches nobody has no voice about one that is silent for a while, and whose mate in the region is well."""
    leader = leader_of(world)
    victim = someone_but(world, leader)
    blind = world.random.choice([n for n in world.names if n != leader and world.names[n] != world.names[victim]])
    world.blind = {(blind, name) for name in world.names}
    await world.calm(5.0)
    world.mute.add(victim)
    await world.stays(lambda: world.agreed(victim, *KEPT), 6.0, f"{victim} was withdrawn on a blind one's word")
    world.mute.clear()
    world.blind = set()
    await world.until("all serve", world.all_serving, BACK_SECONDS)


TWO_EACH = {"a1": "eu", "a2": "eu", "b1": "us", "b2": "us", "c1": "ap", "c2": "ap"}
SEVEN = {name: f"r-{name}" for name in "abcdefg"}


async def guarded(world: World) -> None:
    """After a region went, the next one stays while one observer sees it up; a new leader does not begin anew."""
    first, second, seer, *_ = world.random.sample(list(world.names), 7)
    world.kill(first)
    await world.until(f"{first} is out", lambda: world.agreed(first, *OUT), OUT_SECONDS)
    began = world.loop.time()
    await world.calm(world.random.uniform(1.0, 4.0))
    world.mute.add(second)
    world.blind = {(name, second) for name in world.names if name not in (second, seer)}
    await world.calm(3.0)
    world.nodes[leader_of(world)].plane.resign()
    rest = began + 28.0 - world.loop.time()
    await world.stays(lambda: world.agreed(second, *KEPT), rest, f"{second} went within the guard's time")
    await world.until(f"{second} is out after it", lambda: world.agreed(second, *OUT), 6.0)


async def flapping(world: World) -> None:
    """Who falls again and again stays out longer, whoever leads meanwhile."""
    leader = leader_of(world)
    victim = someone_but(world, leader)
    others = [node for node in world.running() if node.name != victim]
    for fall in range(4):
        world.islands.add(victim)
        await world.until(f"{victim} is out", lambda: all(n.standing_of(victim) in OUT for n in others), OUT_SECONDS)
        fell = world.loop.time()
        world.islands.clear()
        if fall < 3:
            await world.until(f"{victim} is back", world.all_serving, BACK_SECONDS)
    world.nodes[leader].plane.resign()
    rest = fell + 9.0 - world.loop.time()
    out = f"{victim} fell four times and is back already"
    await world.stays(lambda: all(n.standing_of(victim) in OUT for n in others), rest, out)
    await world.until(f"{victim} is back in the end", world.all_serving, 30.0)


async def split(world: World) -> None:
    """Each side answers with whom it reaches, and neither with nobody; together again, all agree."""
    regions = sorted(set(world.names.values()))
    lone = world.random.choice(regions)
    world.sides = {name: int(world.names[name] == lone) for name in world.names}
    if world.random.random() < 0.5:  # the store stands on one side; it may be the smaller
        world.cut_from_store |= {name for name, side in world.sides.items() if side}
    else:
        world.cut_from_store |= {name for name, side in world.sides.items() if not side}
    await world.calm(world.random.uniform(6.0, 10.0))
    for node in world.running():
        side = world.sides[node.name]
        wrong = [n for n in world.names if world.sides[n] == side and node.standing_of(n) is not Standing.SERVING]
        if wrong:
            world.violations.append(f"{node.name} does not answer with {wrong}, whom it reaches")
        first = [n for n in world.names if world.sides[n] != side and node.standing_of(n) is Standing.SERVING]
        if first:
            world.violations.append(f"{node.name} answers with {first}, whom it does not reach")
    world.sides.clear()
    world.cut_from_store.clear()
    await world.until("all serve after the split", world.all_serving, BACK_SECONDS)


TWO_AND_WITNESS = {"a": "eu", "b": "us", "w": WITNESS}
THREE_AND_WITNESS = {"a": "eu", "b": "us", "c": "ap", "w": WITNESS}


async def witnessed(world: World) -> None:
    """Region after region dies, until one is left: a witness stands for those that are gone. The last one stays."""
    serving = [name for name, region in world.names.items() if region != WITNESS]
    world.random.shuffle(serving)
    last, *victims = serving
    for victim in victims:
        world.kill(victim)
        await world.until(f"{victim} is out", lambda name=victim: world.agreed(name, *OUT), OUT_SECONDS)
        await world.calm(world.random.uniform(0.0, 4.0))
    world.nodes["w"].plane.resign()
    await world.stays(lambda: world.agreed(last, *KEPT), 5.0, f"{last} is the last one and was withdrawn")
    for victim in victims:
        world.start(victim)
    await world.until("all serve", world.all_serving, BACK_SECONDS)


async def witness_lost(world: World) -> None:
    """Without its witness the last one keeps both, and says which is in doubt."""
    world.kill("w")
    await world.calm(3.0)
    victim = world.random.choice([name for name, region in world.names.items() if region != WITNESS])
    world.kill(victim)
    await world.until(f"{victim} is suspect", lambda: world.agreed(victim, Standing.SUSPECT), OUT_SECONDS)
    await world.stays(lambda: world.agreed(victim, *KEPT), 5.0, f"{victim} was withdrawn by one voice")
    world.start("w")
    await world.until(f"{victim} is out", lambda: world.agreed(victim, *OUT), OUT_SECONDS)
    world.start(victim)
    await world.until("all serve", world.all_serving, BACK_SECONDS)


async def deaf_leader(world: World) -> None:
    """A leader that hears nobody, but reaches the store, makes room for one that hears; and who dies then goes."""
    leader = leader_of(world)
    world.deaf = {(leader, name) for name in world.names}
    others = [name for name in world.names if name != leader]
    await world.until("another leads", lambda: leader_of(world) in others, 8.0)
    world.deaf = set()
    await world.calm(3.0)
    victim = world.random.choice(others)
    world.kill(victim)
    await world.until(f"{victim} is out", lambda: world.agreed(victim, *OUT), OUT_SECONDS)
    world.start(victim)
    await world.until("all serve", world.all_serving, BACK_SECONDS)
