"""A consumer's true view of a prefix: list, watch, and compare in full again and again.

Invariant: each view yielded is what the prefix held at one revision, and after the store's last change the last view
yielded is the store's content. What keeps it: a watch starts at its listing's revision; when it ends, for whatever
reason, and in any case each `compare_every_seconds`, the prefix is listed again and the watch begins anew. So nothing
that a watch might ever miss (a bug in a server) stays missed. A watch belongs to the era of its listing: when another
store stands in the place of the one before (restored, begun anew), it ends, whatever the revisions say.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from types import MappingProxyType

from meridian.store.port import Batch, Compacted, Item, Store, StoreUnavailable

COMPARE_EVERY_SECONDS = 60.0
# While the store is away: quick enough to be back soon after it, seldom enough not to add to its trouble.
PAUSE_FIRST_SECONDS = 0.1
PAUSE_MAX_SECONDS = 2.0


async def mirror(
    store: Store, prefix: str, *, compare_every_seconds: float = COMPARE_EVERY_SECONDS
) -> AsyncGenerator[Mapping[str, Item], None]:
    """Yields an immutable view of `prefix` (key to item) at first and after each change, until closed.

    While the store is away it yields nothing and keeps trying; whoever must know asks `Store.health`. It raises only
    what no retry can cure (Refused). Close it with `contextlib.aclosing`.
    """
    loop = asyncio.get_running_loop()
    shown: Mapping[str, Item] | None = None
    pause_seconds = PAUSE_FIRST_SECONDS
    while True:
        try:
            listing = await store.list(prefix)
            pause_seconds = PAUSE_FIRST_SECONDS
            view: Mapping[str, Item] = MappingProxyType({item.key: item for item in listing.items})
            if view != shown:
                shown = view
                yield view
            compare_at = loop.time() + compare_every_seconds
            async with aclosing(store.watch(prefix, after_revision=listing.revision, era=listing.era)) as batches:
                while (batch := await _next(batches, compare_at)) is not None:
                    shown = _applied(view, batch)
                    view = shown
                    yield view
        except Compacted:
            continue
        except StoreUnavailable:
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(2 * pause_seconds, PAUSE_MAX_SECONDS)


async def _next(batches: AsyncGenerator[Batch, None], until: float) -> Batch | None:
    """Returns the next batch, or None when the loop's clock reaches `until` first; the watch is over then."""
    try:
        async with asyncio.timeout_at(until):
            return await anext(batches)
    except TimeoutError:
        return None


def _applied(view: Mapping[str, Item], batch: Batch) -> Mapping[str, Item]:
    """Returns the view after the batch's events, in their order."""
    items = dict(view)
    for event in batch.events:
        if event.value is None:
            items.pop(event.key, None)
        else:
            items[event.key] = Item(event.key, event.value, event.create_revision, event.mod_revision, event.lease)
    return MappingProxyType(items)
