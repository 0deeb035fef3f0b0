"""A rollout as the store keeps it: the machine's state without its clock, who asked for it, and what it saw.

One key holds the present (or last) rollout, so that of two operators one is refused; one key for each node holds what
that node says of it; one key for each version how its rollout ended.
"""

from dataclasses import dataclass, replace

import msgspec

from meridian.core.rollout import Progress, Rollout, Rules, Stage
from meridian.store.keys import Keys
from meridian.store.port import Delete, DeletePrefix, Item, Op, Put, StoreError


class RolloutDamaged(StoreError):
    """The record cannot be read: it was written by a newer or a broken node."""


@dataclass(frozen=True, slots=True)
class RolloutRecord:
    """`detail` is what to say of it now; `at` and `ended` are ISO 8601, `ended` empty while it runs. Of the present
    stage: exchanges and how many of them failed, of the candidate and of the version in force."""

    candidate: int
    base: int
    rules: Rules
    stage: Stage = Stage.CHECKING
    generation: int = 1
    canaries: tuple[str, ...] = ()
    region: str = ""
    detail: str = ""
    author: str = ""
    message: str = ""
    at: str = ""
    ended: str = ""
    candidate_exchanges: int = 0
    candidate_failed: int = 0
    current_exchanges: int = 0
    current_failed: int = 0

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.stage.over

    def state(self, since: float) -> Rollout:
        """The machine's state; its stage began `since`."""
        return Rollout(
            self.candidate, self.base, self.rules, self.stage, self.generation, self.canaries, self.region, since,
            self.detail,
        )  # fmt: skip

    def following(self, rollout: Rollout, seen: Progress) -> "RolloutRecord":
        """This rollout at a later state."""
        return replace(
            self,
            stage=rollout.stage,
            generation=rollout.generation,
            canaries=rollout.canaries,
            region=rollout.region,
            detail=rollout.detail,
            candidate_exchanges=seen.candidate.exchanges,
            candidate_failed=seen.candidate.failed,
            current_exchanges=seen.current.exchanges,
            current_failed=seen.current.failed,
        )

    def ending(self, stage: Stage, detail: str, at: str) -> "RolloutRecord":
        """This rollout, ended."""
        return replace(self, stage=stage, detail=detail, ended=at)


_decoder = msgspec.json.Decoder(RolloutRecord)


def encode(record: RolloutRecord) -> bytes:
    """Returns the record as JSON."""
    return msgspec.json.encode(record)


def decode(item: Item) -> RolloutRecord:
    """Raises RolloutDamaged."""
    try:
        return _decoder.decode(item.value)
    except msgspec.MsgspecError as error:
        raise RolloutDamaged(f"{item.key} cannot be read ({error}): end it with meridian rollout abort") from None


def writes(keys: Keys, record: RolloutRecord) -> tuple[Op, ...]:
    """What a transaction writes with a record; with one that has ended, also its outcome, and nodes' words go."""
    value = encode(record)
    if not record.over:
        return (Put(keys.rollout(), value),)
    return (Put(keys.rollout(), value), Put(keys.outcome(record.candidate), value), DeletePrefix(keys.trials()))


def removes(keys: Keys) -> tuple[Op, ...]:
    """What a transaction writes to end a rollout whose record cannot be read: nothing of it is left."""
    return (Delete(keys.rollout()), DeletePrefix(keys.trials()))
