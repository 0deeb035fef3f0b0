"""A failing seed's faults, made few: delta debugging over the list (Zeller and Hildebrandt, 2002, "ddmin").

A shorter list is kept if it still violates something, be it another thing: what the first seed found may be the tail of
a simpler story. Faults keep their times, so that those that are left meet as they did.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from tests.simulation.faults import Fault
from tests.simulation.seeds import Outcome, play

from meridian.control.driver import ControlPlane

TRIES_MAX = 80  # of 0.2 s; ten faults need some thirty


def fewest(faults: Sequence[Fault], fails: Callable[[Sequence[Fault]], bool]) -> Sequence[Fault]:
    """Returns a part of `faults`, in order, that `fails`, and none of whose faults can be left out alone.

    `faults` itself must fail. After TRIES_MAX calls of `fails` the shortest so far is returned.
    """
    tries, parts = 0, 2
    while len(faults) > 1:
        size = -(-len(faults) // parts)
        for start in range(0, len(faults), size):
            rest = [*faults[:start], *faults[start + size :]]
            tries += 1
            if fails(rest):
                faults, parts = rest, max(2, parts - 1)
                break
            if tries >= TRIES_MAX:
                return faults
        else:
            if size == 1:
                break
            parts = min(len(faults), 2 * parts)
    return [] if len(faults) == 1 and fails([]) else faults


def shrink(found: Outcome, plane: type[ControlPlane] = ControlPlane) -> Outcome:
    """Returns what the shortest plan that still fails led to."""

    def played(faults: Sequence[Fault]) -> Outcome:
        return play(found.plan.seed, plane, replace(found.plan, faults=tuple(faults)))

    return played(fewest(found.plan.faults, lambda faults: bool(played(faults).violations)))


def told(found: Outcome) -> str:
    """The story of an outcome for a person: who there is, what happened, what was violated, and all that was seen."""
    plan = found.plan
    regions = sorted(set(plan.names.values()))
    lines = [f"seed {plan.seed}: {len(plan.names)} nodes in {len(regions)} regions; {len(plan.faults)} faults"]
    lines += [f"  {fault}" for fault in plan.faults]
    lines += [f"  {plan.lasting}, as long as they last"] if plan.lasting is not None else []
    lines += ["violated:", *(f"  {violation}" for violation in found.violations[:8])]
    lines += ["what was seen (seconds since the start):", *(f"  {line}" for line in found.transcript)]
    return "\n".join(lines)
