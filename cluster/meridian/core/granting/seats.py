"""What the agent's machine for seats hears and commands. `allocation` says what it makes of them."""

from collections.abc import Mapping
from dataclasses import dataclass

from meridian.core.granting.shares import Value
from meridian.core.granting.spender import Allowance


@dataclass(frozen=True, slots=True)
class Seat:
    """What the store holds under limits/seats/<index>."""

    node: str
    nonce: str
    home: bool


# Events


@dataclass(frozen=True, slots=True)
class Listed:
    """What the store holds of limits, and who is there. May be old: every decision made of it is conditional."""

    generation: int
    frozen: bool
    seats: Mapping[int, Seat]
    values: Mapping[str, Value]
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Leased:
    """A lease was granted or kept alive. `asked`: this node's clock just before the request was sent."""

    lease: int
    asked: float


@dataclass(frozen=True, slots=True)
class LeaseFailed:
    """No lease, or no answer. `gone`: the store said that it does not know this lease."""

    lease: int
    gone: bool


@dataclass(frozen=True, slots=True)
class Taken:
    """The answer to a Take that succeeded, with the values as that transaction read them. `fresh`: it is a home, and
    was nobody's before this agent's."""

    seat: int
    nonce: str
    values: Mapping[str, Value]
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class NotTaken:
    """A Take failed, or its outcome is unknown."""

    seat: int
    nonce: str


@dataclass(frozen=True, slots=True)
class Freed:
    """A Free was answered, or not; either way the seat is not this node's any more."""

    seat: int


@dataclass(frozen=True, slots=True)
class Confirmed:
    """A worker keeps to this allowance, together with all that it lent."""

    slot: int
    agent: str
    sequence: int


@dataclass(frozen=True, slots=True)
class WorkerStarted:
    """A worker connected; it knows nothing, and no worker before it in this slot runs any more."""

    slot: int


@dataclass(frozen=True, slots=True)
class Leave:
    """This node goes for good: all seats, home ones too, are given back."""


@dataclass(frozen=True, slots=True)
class Woke:
    """The deadline came."""


Event = Listed | Leased | LeaseFailed | Taken | NotTaken | Freed | Confirmed | WorkerStarted | Leave | Woke


# Commands


@dataclass(frozen=True, slots=True)
class AskLease:
    """Grant a lease of the cut's length. Answer: Leased or LeaseFailed(0)."""


@dataclass(frozen=True, slots=True)
class KeepLease:
    """Keep a lease alive. Answer: Leased or LeaseFailed."""

    lease: int


@dataclass(frozen=True, slots=True)
class Take:
    """Transaction: if limits/seats/<seat> is absent (`expected` None) or bears nonce `expected`, and the generation is
    this one: put Seat(node, nonce, home) with `lease` (0: none) and read all values. Answer: Taken or NotTaken."""

    seat: int
    nonce: str
    home: bool
    lease: int
    expected: str | None
    generation: int


@dataclass(frozen=True, slots=True)
class Free:
    """Transaction: delete limits/seats/<seat> if it bears `nonce`. Answer: Freed."""

    seat: int
    nonce: str


@dataclass(frozen=True, slots=True)
class Save:
    """To disk, before anything that follows."""

    home: frozenset[int]
    values: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Tell:
    """To all workers (or to one: `slot`), in order."""

    allowance: Allowance
    values: Mapping[str, Value]
    slot: int | None = None


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """Put limits/acks/<limit>/<node> = `order` of the value. The driver repeats it until it succeeds."""

    limit: str
    order: tuple[int, int]


Command = AskLease | KeepLease | Take | Free | Save | Tell | Acknowledge
