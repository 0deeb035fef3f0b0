"""The one shape of a decision that remembers: frozen states and events, a pure step, and a deadline.

A machine is a module (or object) with two functions:

    step(state, event, now) -> Step(state, commands)    what to be next, and what to do about it
    deadline(state) -> float | None                      when to be woken if nothing else happens

The invariant: the next state depends on the arguments and on nothing else. Whoever drives a machine reads the clock,
carries out the commands, and turns their outcomes into events; it decides nothing.
"""

from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

StateT = TypeVar("StateT")
EventT_contra = TypeVar("EventT_contra", contravariant=True)
CommandT_co = TypeVar("CommandT_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Step(Generic[StateT, CommandT_co]):
    """What a machine is after an event, and what its driver must do, in order."""

    state: StateT
    commands: tuple[CommandT_co, ...] = ()


class Machine(Protocol[StateT, EventT_contra, CommandT_co]):
    """What core/election, core/health and core/draining have in common. Times are monotonic seconds."""

    def step(self, state: StateT, event: EventT_contra, now: float, /) -> Step[StateT, CommandT_co]:
        """Returns the next state and the commands; never raises for an event that does not fit, but ignores it."""
        ...

    def deadline(self, state: StateT, /) -> float | None:
        """Returns when the state wants to be woken, or None if time alone changes nothing."""
        ...
