"""Every machine keeps the one shape: it satisfies the protocol, and its state is frozen."""

import dataclasses

import pytest

from meridian.core import draining, election, health
from meridian.core.machine import Machine, Step

# mypy checks the shapes; a module satisfies a protocol.
ELECTION: Machine[election.State, election.Event, election.Command] = election
HEALTH: Machine[health.Health, health.Event, health.Command] = health
DRAINING: Machine[draining.Drain, draining.Event, draining.Command] = draining

POLICY = health.Policy(1.0, 0.2, 0.5, 2, 3)


@pytest.mark.parametrize("state", [election.Follower(), election.Candidate(), health.Health(POLICY), draining.Drain()])
def test_states_are_frozen(state: object) -> None:
    name = dataclasses.fields(state)[0].name  # type: ignore[arg-type]  # each is a dataclass
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(state, name, None)


def test_a_step_has_no_commands_unless_it_says_so() -> None:
    assert Step("state").commands == ()
