"""Answers that a worker keeps, by what they answer.

Invariants: no more bytes than `bytes_max` are kept, fields and what holds them included: those used least recently go
first. Of one key at most `VARIANTS_MAX` variants are kept. Whoever fetches for a key is the only one (`flights`), and
its end is told to all who wait.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from meridian.core.caching import Freshness, variant
from meridian.core.fields import Headers

Key = tuple[str, str, bytes, bytes, bool]  # route, consumer, host, target, whether by TLS
VARIANTS_MAX = 16  # of one key: languages and encodings are few, user agents are not worth it
PASSES_MAX = 10_000  # keys whose answers are not kept
ENTRY_BYTES = 1024  # of the objects around an entry, rounded up


@dataclass(slots=True, eq=False)
class Entry:
    """One answer. `names` are the request fields that it varies by, and `values` what the request said in them."""

    status: int
    headers: Headers
    body: bytes
    fresh: Freshness
    since: float  # worker's clock
    names: tuple[bytes, ...]
    values: tuple[bytes | None, ...]
    tags: frozenset[bytes]

    @property
    def size(self) -> int:
        """Bytes of memory, about."""
        return len(self.body) + sum(len(name) + len(value) + 100 for name, value in self.headers) + ENTRY_BYTES


@dataclass(slots=True)
class Flight:
    """One fetch under way, and what is called when it is over."""

    waiting: list[Callable[[], None]] = field(default_factory=list)


class Cache:
    """See the module's head."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.bytes = 0
        self.purges = 0  # so far
        self.flights: dict[Key, Flight] = {}
        self._entries: OrderedDict[Key, list[Entry]] = OrderedDict()  # the least recently used first
        self._passes: OrderedDict[Key, float] = OrderedDict()  # until when

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, key: Key, request: Headers) -> tuple[Entry | None, bool]:
        """The answer that is kept for a request, if there is one, and whether there is one for another (Vary)."""
        if key in self._entries:
            self._entries.move_to_end(key)
        return self.look(key, request)

    def look(self, key: Key, request: Headers) -> tuple[Entry | None, bool]:
        """As `find`, without a use of it."""
        entries = self._entries.get(key, ())
        for entry in entries:
            if not entry.names or variant(entry.names, request) == entry.values:
                return entry, False
        return None, bool(entries)

    def put(self, key: Key, entry: Entry) -> None:
        """Keeps an answer in place of the one that it follows."""
        if entry.size > self.bytes_max:
            return
        self._passes.pop(key, None)
        entries = self._entries.setdefault(key, [])
        # An answer that varies by other fields than those before it says that they are to be told apart so from now on.
        gone = [one for one in entries if one.names != entry.names or one.values == entry.values]
        gone += [one for one in entries if one not in gone][: max(0, len(entries) - len(gone) - VARIANTS_MAX + 1)]
        self._entries[key] = [one for one in entries if one not in gone] + [entry]
        self._entries.move_to_end(key)
        self.bytes += entry.size - sum(one.size for one in gone)
        self.resize(self.bytes_max)

    def remove(self, key: Key) -> None:
        """Forgets all variants of a key."""
        self.bytes -= sum(entry.size for entry in self._entries.pop(key, ()))

    def replace(self, key: Key, old: Entry, new: Entry) -> None:
        """Keeps an answer that was found to hold still, if it is still kept."""
        if any(one is old for one in self._entries.get(key, ())):
            self.put(key, new)

    def resize(self, bytes_max: int) -> None:
        """Forgets what is too much, those used least recently first."""
        self.bytes_max = bytes_max
        while self.bytes > bytes_max:
            self.remove(next(iter(self._entries)))

    def purge(self, wanted: Callable[[Key, Entry], bool]) -> int:
        """Forgets every answer that is wanted gone; returns how many. What is being fetched is not kept then: it may
        have been asked for before the change that is the reason."""
        count = 0
        self.purges += 1
        for key, entries in list(self._entries.items()):
            gone = [entry for entry in entries if wanted(key, entry)]
            if gone:
                count += len(gone)
                self.remove(key)
                for entry in entries:
                    if entry not in gone:
                        self.put(key, entry)
        return count

    def let_pass(self, key: Key, until: float) -> None:
        """Its answers are not kept for now: nobody need wait for one."""
        self._passes[key] = until
        self._passes.move_to_end(key)
        if len(self._passes) > PASSES_MAX:
            self._passes.popitem(last=False)

    def passes(self, key: Key, now: float) -> bool:
        """Whether its answers were not kept lately."""
        until = self._passes.get(key)
        return until is not None and now < until

    def land(self, key: Key, flight: Flight) -> list[Callable[[], None]]:
        """A fetch is over: returns what those who waited want to be called."""
        if self.flights.get(key) is flight:
            del self.flights[key]
        waiting, flight.waiting = flight.waiting, []
        return waiting

    def keys(self) -> tuple[Key, ...]:
        """What there are answers for, the least recently used first."""
        return tuple(self._entries)
