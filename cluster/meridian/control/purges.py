"""Orders to forget answers that gateway workers keep: one record in the store, followed by every node.

Invariant: an order that was acknowledged is in the store, and every worker that hears of it later than it was given
has either done it or forgets everything (core/purging).
"""

import logging
from collections.abc import Callable
from contextlib import aclosing

import msgspec

from meridian.core.purging import Purge, Purges
from meridian.store.keys import Keys
from meridian.store.mirror import mirror
from meridian.store.port import Absent, ModifiedAt, Put, Store, StoreUnavailable

TRIES = 5  # against others who order at the same time

_log = logging.getLogger("meridian.control")


class PurgeDesk:
    """One node's view of them."""

    def __init__(self, store: Store, keys: Keys, changed: Callable[[Purges], None]) -> None:
        """`changed` is told all orders that are known, also at the beginning."""
        self._store, self._key, self._changed = store, keys.purge("orders"), changed

    async def order(self, order: Purge) -> int:
        """Gives an order; returns its number. Raises StoreError."""
        for _ in range(TRIES):
            item = await self._store.get(self._key)
            known = (_decoded(item.value) if item is not None else None) or Purges()
            new = known.with_order(order)
            unchanged = Absent(self._key) if item is None else ModifiedAt(self._key, item.mod_revision)
            if (await self._store.txn([unchanged], [Put(self._key, msgspec.json.encode(new))])).succeeded:
                return new.number
        raise StoreUnavailable("others give orders to purge at the same time; try again")

    async def run(self) -> None:
        """Follows the store until cancelled."""
        async with aclosing(mirror(self._store, self._key)) as views:
            async for view in views:
                item = view.get(self._key)
                known = _decoded(item.value) if item is not None else Purges()
                if known is not None:
                    self._changed(known)


def _decoded(content: bytes) -> Purges | None:
    try:
        return msgspec.json.decode(content, type=Purges)
    except msgspec.DecodeError as error:
        _log.error("the orders to purge are damaged or from a newer version: %s", error)
        return None
