"""Whom a control plane tells what it learns."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from meridian.control.rollout import NO_HANDLERS, RolloutHandlers
from meridian.core.granting.seats import Tell
from meridian.core.granting.shares import Cut
from meridian.core.verdicts import Verdict
from meridian_proto.v1.spending_pb2 import Letter


@dataclass(frozen=True, slots=True)
class Handlers:
    """What the node is told; called on the loop, synchronous and quick. Nothing is told twice in a row.

    `on_config(version, payload)`; `on_verdict(verdict)`; `on_endpoint_health(down)`, by upstream, the addresses that
    probes found down, all others are up; `on_allowance(cut, tell, store_is_lost)`, what workers may spend of limits;
    `on_spenders(addresses, sitting)`, all spenders of the cluster, and the node on each seat; `on_letter(letter)`, from
    another node to a worker of this one.
    """

    on_config: Callable[[int, bytes], None] = lambda version, payload: None
    on_verdict: Callable[[Verdict], None] = lambda verdict: None
    on_endpoint_health: Callable[[Mapping[str, frozenset[str]]], None] = lambda down: None
    on_allowance: Callable[[Cut, Tell, bool], None] = lambda cut, tell, store_is_lost: None
    on_spenders: Callable[[Sequence[str], Mapping[int, str]], None] = lambda addresses, sitting: None
    on_letter: Callable[[Letter], None] = lambda letter: None
    rollout: RolloutHandlers = NO_HANDLERS
