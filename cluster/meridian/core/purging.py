"""Orders to forget answers that are kept, and which answers each of them takes. Orders are numbered; a worker that has
missed some forgets everything, because it cannot know what they took.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from meridian.core.limit_keys import host_of

ORDERS_MAX = 100  # that are known at a time: a worker that was away for more forgets everything


@dataclass(frozen=True, slots=True)
class Purge:
    """One order. What is empty takes all; `path_prefix` is by whole segments."""

    number: int
    route: str = ""
    host: str = ""
    path: str = ""
    path_prefix: str = ""
    tag: str = ""

    def takes(self, route: str, authority: bytes, target: bytes, tags: frozenset[bytes]) -> bool:
        """Whether an answer to such a request, of these tags, is to be forgotten."""
        path = target.partition(b"?")[0]
        prefix = self.path_prefix.rstrip("/").encode()
        return (
            self.route in ("", route)
            and (not self.host or host_of(authority) == self.host.lower().encode())
            and (not self.path or path == self.path.encode())
            and (not self.path_prefix or path == prefix or path.startswith(prefix + b"/"))
            and (not self.tag or self.tag.encode() in tags)
        )


@dataclass(frozen=True, slots=True)
class Purges:
    """The orders that are known, oldest first, and the number of the newest there ever was."""

    number: int = 0
    orders: tuple[Purge, ...] = ()

    def with_order(self, order: Purge) -> "Purges":
        """With one more, which is `order` under the next number."""
        number = self.number + 1
        new = Purge(number, order.route, order.host, order.path, order.path_prefix, order.tag)
        return Purges(number, (*self.orders, new)[-ORDERS_MAX:])

    def since(self, number: int | None) -> Sequence[Purge]:
        """What a worker has to do that has done all up to `number`; None: nobody knows what it has done."""
        if number == self.number:
            return ()
        left = [order for order in self.orders if number is not None and order.number > number]
        if number is None or number > self.number or len(left) != self.number - number:
            return (Purge(self.number),)
        return left
