"""What the store holds of limits, read and written. Pure.

Below limits/ lie `epoch` (the cut, and the store's generation), `seats/<index>`, `values/<limit>` and
`acks/<limit>/<node>`. All are JSON. A record that cannot be read raises: to guess who sits where would break the bound.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import msgspec

from meridian.core.granting.seats import Listed, Seat
from meridian.core.granting.shares import Cut, Rule, Value, switchable
from meridian.store.keys import Keys
from meridian.store.port import Item


@dataclass(frozen=True, slots=True)
class Epoch:
    """`generation` rises when the store was restored; while `frozen`, not all nodes have come back after that."""

    cut: Cut
    generation: int = 0
    frozen: bool = False


@dataclass(frozen=True, slots=True)
class View:
    """What the store holds of limits at one revision. `items` are by key, for conditions."""

    epoch: Epoch
    seats: Mapping[int, Seat]
    values: Mapping[str, Value]
    acknowledged: Mapping[str, Mapping[str, tuple[int, int]]]  # by limit, by node
    items: Mapping[str, Item]

    def listed(self, members: tuple[str, ...]) -> Listed:
        """Returns the machine's event."""
        return Listed(self.epoch.generation, self.epoch.frozen, self.seats, self.values, members)

    def spenders(self) -> list[str]:
        """Returns the addresses of all workers that spend: those of every node that sits."""
        nodes = sorted({seat.node for seat in self.seats.values()})
        return [f"{node}/{slot}" for node in nodes for slot in range(self.epoch.cut.slices)]

    def blocking(self, limit: str) -> tuple[str, ...]:
        """Returns the nodes whose acknowledgement a limit's change waits for."""
        value = self.values[limit]
        if value.following is None:
            return ()
        acknowledged = self.acknowledged.get(limit, {})
        holders = sorted({seat.node for seat in self.seats.values()})
        return tuple(node for node in holders if acknowledged.get(node, (-1, -1)) < value.order)


_epoch = msgspec.json.Decoder(Epoch)
_seat = msgspec.json.Decoder(Seat)
_value = msgspec.json.Decoder(Value)
_order = msgspec.json.Decoder(tuple[int, int])


def encode(record: Epoch | Seat | Value | tuple[int, int]) -> bytes:
    """Returns a record as JSON; equal records give equal bytes."""
    return msgspec.json.encode(record)


def read_epoch(content: bytes) -> Epoch:
    """Raises msgspec.MsgspecError."""
    return _epoch.decode(content)


def read_values(items: Mapping[str, Item], keys: Keys) -> dict[str, Value]:
    """Returns the values by limit, of any listing that has them. Raises msgspec.MsgspecError."""
    prefix = keys.limit_values()
    return {key.removeprefix(prefix): _value.decode(i.value) for key, i in items.items() if key.startswith(prefix)}


def read(items: Mapping[str, Item], keys: Keys) -> View | None:
    """Reads a view of keys.limits(); None: the limits have not been cut yet. Raises msgspec.MsgspecError."""
    epoch = items.get(keys.limit_epoch())
    if epoch is None:
        return None
    acknowledged: dict[str, dict[str, tuple[int, int]]] = {}
    seats = {}
    for key, item in items.items():
        if key.startswith(keys.limit_seats()):
            seats[int(key.removeprefix(keys.limit_seats()))] = _seat.decode(item.value)
        elif key.startswith(keys.limit_acks()):
            limit, _, node = key.removeprefix(keys.limit_acks()).partition("/")
            acknowledged.setdefault(limit, {})[node] = _order.decode(item.value)
    return View(read_epoch(epoch.value), seats, read_values(items, keys), acknowledged, items)


def next_value(view: View, limit: str, wanted: Rule) -> Value | None:
    """Returns what the leader writes for a limit that should allow `wanted`; None: nothing now.

    A change goes through `following`, until every node that holds a seat keeps to the lesser of both. A target that
    changes meanwhile takes the place of `following`: what was acknowledged for the former one does not count for it.
    Values are never removed, so that a limit that comes back has a greater version than before.
    """
    value = view.values.get(limit)
    if value is None:
        return Value(view.epoch.generation, 0, wanted)
    if value.generation != view.epoch.generation:  # restored from a backup: nobody has acknowledged it in this one
        return replace(value, generation=view.epoch.generation, version=value.version + 1)
    if value.current == wanted and value.following is None:
        return None
    if value.current == wanted:
        return replace(value, version=value.version + 1, following=None)
    if value.following != wanted:
        return replace(value, version=value.version + 1, following=wanted)
    holders = {seat.node for seat in view.seats.values()}
    if switchable(value, holders, view.acknowledged.get(limit, {}), view.epoch.frozen):
        return replace(value, version=value.version + 1, current=wanted, following=None)
    return None
