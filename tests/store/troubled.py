"""A store that loses answers on demand: the embedded one behind a bad network."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing

from meridian.store.embedded import EmbeddedStore
from meridian.store.port import Batch, Compare, Listing, Op, OutcomeUnknown, StoreUnavailable, TxnResult


class TroubledStore(EmbeddedStore):
    """Loses as many questions or answers as it is told; `before_txn` is called once, at the next transaction."""

    def __init__(self, clock: Callable[[], float] = lambda: 0.0) -> None:
        super().__init__(clock)
        self.lost_questions = 0
        self.lost_answers = 0
        self.away = False
        self.before_txn: Callable[[Sequence[Op]], Awaitable[None]] | None = None

    async def txn(self, when: Sequence[Compare], then: Sequence[Op], otherwise: Sequence[Op] = ()) -> TxnResult:
        hook, self.before_txn = self.before_txn, None
        if hook is not None:
            await hook(then)
        if self.lost_questions:
            self.lost_questions -= 1
            raise OutcomeUnknown("the question was lost")
        result = await super().txn(when, then, otherwise)
        if self.lost_answers:
            self.lost_answers -= 1
            raise OutcomeUnknown("the answer was lost")
        return result

    async def list(self, prefix: str, *, keys_only: bool = False, limit: int = 0) -> Listing:
        if self.away:
            raise StoreUnavailable("away")
        return await super().list(prefix, keys_only=keys_only, limit=limit)

    async def watch(self, prefix: str, *, after_revision: int, era: int = 0) -> AsyncGenerator[Batch, None]:
        if self.away:
            raise StoreUnavailable("away")
        async with aclosing(super().watch(prefix, after_revision=after_revision, era=era)) as batches:
            async for batch in batches:
                if self.away:
                    raise StoreUnavailable("away")
                yield batch
