"""What tests of the control room share: a store that can go away, and tasks that end with the test."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from meridian.control.probing import good_answer
from meridian.core import model, snapshot, upstream_words
from meridian.gateway.upstream_tls import UpstreamContexts
from meridian.store.embedded import EmbeddedStore
from meridian.store.keys import Keys
from meridian.store.port import (
    Compare,
    Item,
    Lease,
    Listing,
    Op,
    OutcomeUnknown,
    StoreHealth,
    StoreUnavailable,
    TxnResult,
)

KEYS = Keys("test")

probe = partial(good_answer, context_of=UpstreamContexts().of)


def compiled(*upstreams: upstream_words.Upstream) -> list[snapshot.Upstream]:
    """As nodes hold them; none has files."""
    listener = model.Listener(name="web", bind="0.0.0.0:80", protocols=("h1",))
    document = model.Document(listeners=(listener,), upstreams=upstreams)
    return list(snapshot.compile_snapshot(document, {}, 1).upstreams.values())


class FlakyStore(EmbeddedStore):
    """The embedded store; while `away` no call is answered, and `lose_answers` writes are done but not answered."""

    away = False
    lose_answers = 0

    def _check(self) -> None:
        if self.away:
            raise StoreUnavailable("away")

    async def get(self, key: str) -> Item | None:
        self._check()
        return await super().get(key)

    async def list(self, prefix: str, *, keys_only: bool = False, limit: int = 0) -> Listing:
        self._check()
        return await super().list(prefix, keys_only=keys_only, limit=limit)

    async def txn(self, when: Sequence[Compare], then: Sequence[Op], otherwise: Sequence[Op] = ()) -> TxnResult:
        self._check()
        result = await super().txn(when, then, otherwise)
        if self.lose_answers:
            self.lose_answers -= 1
            raise OutcomeUnknown("answer lost")
        return result

    async def health(self) -> StoreHealth:
        return StoreHealth(False, False, "", "away") if self.away else await super().health()

    async def grant_lease(self, ttl_seconds: int) -> Lease:
        self._check()
        return await super().grant_lease(ttl_seconds)

    async def keep_alive(self, lease_id: int) -> float:
        self._check()
        return await super().keep_alive(lease_id)


@asynccontextmanager
async def running(*parts: Coroutine[Any, Any, None]) -> AsyncIterator[list[asyncio.Task[None]]]:
    """Runs the parts during the block and cancels them after it; an error in one of them is raised."""
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(part) for part in parts]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, BaseException) and not isinstance(outcome, asyncio.CancelledError):
                raise outcome
