"""What an operator does with the document: plan, apply, get, history, rollback. Every write is one compare-and-put
against the version that the operator saw, so that two operators at once cannot overwrite each other unknowingly.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from meridian.control.bundle import Bundle, describe, fingerprint, seal, unseal
from meridian.control.rollout_record import RolloutDamaged, RolloutRecord, decode, removes, writes
from meridian.core import model
from meridian.core.document import DocumentError, Place, Problem, load, locate, warnings
from meridian.core.model import Document
from meridian.core.planning import Change, Plan, diff
from meridian.core.rollout import Rules, Stage, first_generation
from meridian.core.snapshot import SnapshotError, compile_snapshot
from meridian.store import documents
from meridian.store.keys import Keys
from meridian.store.port import Compare, ModifiedAt, Op, Put, Store, ValueIs

END_ATTEMPTS = 5
MEANWHILE_LINES_MAX = 20  # more is for `meridian plan`

_log = logging.getLogger("meridian.control")

Check = Callable[[Document, Mapping[str, bytes]], Iterable[tuple[Place, str]]]
"""Another room's objections to a document and its files, as (place, message): zones, certificates. Handed in by
nodes/, since this room may not know those."""


class RolloutRunning(Exception):
    """Another document is on its way: the message says whose, where it is, and what to type."""

    def __init__(self, record: RolloutRecord) -> None:
        what = f" ({record.message})" if record.message else ""
        super().__init__(
            f"version {record.candidate}{what} of {record.author or 'somebody'} is being rolled out since {record.at}:"
            f" {record.stage.value}, {record.detail or 'just begun'}"
        )


class NoRollout(Exception):
    """There is no rollout that could be promoted or aborted."""


class ChangedMeanwhile(Exception):
    """Somebody else's version is in force by now; the message says whose, and what it changed."""


class PlanRefused(Exception):
    """The plan removes more than a slip should be able to; --force applies it all the same."""


class NoSuchVersion(Exception):
    """There is no such version, or nothing has been applied yet."""


@dataclass(frozen=True, slots=True)
class Applied:
    """A version that is now current, or `staged`: on its way. `changed` is False when it was in force already."""

    version: int
    changed: bool
    warnings: tuple[Problem, ...]
    staged: bool = False


@dataclass(frozen=True, slots=True)
class Stored:
    """One version of the document. `files` are fingerprints by name; `at` is ISO 8601."""

    version: int
    author: str
    message: str
    at: str
    text: str
    files: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Planned:
    """What applying would change, from which version, and what deserves a second look."""

    base: int
    plan: Plan
    warnings: tuple[Problem, ...]


class Configuration:
    """The versioned document of one cluster. Raises StoreUnavailable when the store cannot be asked."""

    def __init__(self, store: Store, keys: Keys, cluster_key: bytes, checks: Sequence[Check] = ()) -> None:
        self._store = store
        self._keys = keys
        self._cluster_key = cluster_key
        self._checks = checks

    async def plan(self, text: str, files: Mapping[str, bytes]) -> Planned:
        """Compares a document with the current one. Raises DocumentError for one that cannot run."""
        return (await self._plan(text, files))[0]

    async def _plan(self, text: str, files: Mapping[str, bytes]) -> tuple[Planned, Document]:
        # Threads: the largest document takes seconds, and leases must be kept alive meanwhile.
        document = await asyncio.to_thread(self._validate, text, files)
        base = await documents.current_version(self._store, self._keys)
        old, old_files = await self._current(base)

        def compared() -> Planned:
            return Planned(base, _with_files(diff(old, document), old_files, files), warnings(text, document))

        return await asyncio.to_thread(compared), document

    async def apply(
        self,
        text: str,
        files: Mapping[str, bytes],
        *,
        author: str,
        message: str = "",
        force: bool = False,
        expected_version: int | None = None,
        staged: bool = False,
        stage_seconds: float | None = None,
    ) -> Applied:
        """Makes a document current, at once or in stages (core/rollout), each of at least `stage_seconds`.

        The first document of a cluster has nothing to be compared with and is current at once. Raises DocumentError,
        PlanRefused, RolloutRunning, and ChangedMeanwhile when another version than `expected_version` (by default the
        one just read) is current by then."""
        planned, document = await self._plan(text, files)
        if planned.plan.objections and not force:
            raise PlanRefused("; ".join(planned.plan.objections))
        base = planned.base if expected_version is None else expected_version
        if not planned.plan.changes and base and base == planned.base:
            return Applied(base, False, planned.warnings)
        if base != planned.base:
            raise ChangedMeanwhile(await self._meanwhile(base, planned.base))
        running, revision = await self._rollout()
        if running is not None and not running.over:
            raise RolloutRunning(running)
        payload = seal(Bundle(text, files), self._cluster_key)
        staged = staged and base > 0
        rules = _rules(document.rollout, stage_seconds)

        def beside(number: int) -> documents.Beside:
            record = RolloutRecord(
                number, base, rules, generation=first_generation(number), author=author, message=message, at=_now()
            )
            return documents.Beside(self._keys.rollout(), revision, writes(self._keys, record) if staged else ())

        try:
            version = await self._write(payload, author, message, base, beside, candidate=staged)
        except documents.VersionConflict as error:
            raise ChangedMeanwhile(await self._meanwhile(base, error.current)) from None
        return Applied(version, True, planned.warnings, staged)

    async def rollout(self) -> RolloutRecord | None:
        """The rollout on its way, or the last one; None if there was none."""
        return (await self._rollout())[0]

    async def promote(self, *, author: str) -> RolloutRecord:
        """Makes the candidate current everywhere, whatever was seen so far. Raises NoRollout, RolloutChanged."""
        return await self._end(Stage.DONE, f"promoted by {author or 'an operator'}")

    async def abort(self, *, author: str) -> RolloutRecord:
        """Ends the rollout, also one whose record cannot be read; the version before it stays current.

        Raises NoRollout, RolloutChanged."""
        detail = f"aborted by {author or 'an operator'}"
        try:
            return await self._end(Stage.UNDONE, detail)
        except RolloutDamaged:
            return await self._remove(detail)

    async def outcomes(self) -> dict[int, RolloutRecord]:
        """How the rollouts of versions ended, by version; those applied at once have none."""
        found = {}
        for item in (await self._store.list(self._keys.outcomes())).items:
            try:
                record = decode(item)
            except RolloutDamaged as error:
                _log.warning("how a version came into force is not told: %s", error)
            else:
                found[record.candidate] = record
        return found

    async def _end(self, stage: Stage, detail: str) -> RolloutRecord:
        for _ in range(END_ATTEMPTS):  # the leader writes what it sees: it may be just ahead of us
            record, revision = await self._rollout()
            if record is None or record.over:
                ended = f"; that of version {record.candidate} has ended: {record.detail}" if record is not None else ""
                raise NoRollout(f"no rollout is on its way{ended}")
            ended_record = record.ending(stage, detail, _now())
            when: list[Compare] = [ModifiedAt(self._keys.rollout(), revision)]
            then = list(writes(self._keys, ended_record))
            if stage is Stage.DONE:
                when.append(ValueIs(self._keys.current(), str(record.base).encode()))
                then.append(Put(self._keys.current(), str(record.candidate).encode()))
            if (await self._store.txn(when, then)).succeeded:
                return ended_record
        raise documents.RolloutChanged

    async def _remove(self, detail: str) -> RolloutRecord:
        base = await documents.current_version(self._store, self._keys)
        item = await self._store.get(self._keys.rollout())
        when = [ModifiedAt(item.key, item.mod_revision)] if item is not None else []
        if not when or not (await self._store.txn(when, removes(self._keys))).succeeded:
            raise documents.RolloutChanged
        return RolloutRecord(
            0, base, Rules(), Stage.UNDONE, detail=f"{detail}; its record could not be read and is gone", ended=_now()
        )

    async def _rollout(self) -> tuple[RolloutRecord | None, int]:
        item = await self._store.get(self._keys.rollout())
        return (decode(item), item.mod_revision) if item is not None else (None, 0)

    async def _meanwhile(self, seen: int, current: int) -> str:
        """What the others did since `seen`, for an operator whose plan is about `seen`."""
        meta, _ = await self._read(current)
        old, _ = await self._current(seen)
        new, _ = await self._current(current)
        lines = [
            f"  {change.kind} {change.section} {change.name}" for change in (diff(old, new).changes if new else ())
        ]
        what = f" ({meta.message})" if meta.message else ""
        head = (
            f"version {current} of {meta.author or 'somebody'}{what}, {meta.at}, is in force, not {seen}; it changed:"
        )
        return "\n".join([head, *lines[:MEANWHILE_LINES_MAX]])

    async def get(self, version: int | None = None) -> Stored:
        """One version, by default the current one. Raises NoSuchVersion."""
        number = await documents.current_version(self._store, self._keys) if version is None else version
        meta, payload = await self._read(number)
        text, files = describe(payload)
        return Stored(number, meta.author, meta.message, meta.at, text, files)

    async def history(self, limit: int = 20) -> tuple[documents.VersionMeta, ...]:
        """The newest versions first, without their texts."""
        return tuple(await documents.history(self._store, self._keys, limit))

    async def rollback(self, version: int, *, author: str) -> Applied:
        """Makes an old version's content current again, as a new version. Raises NoSuchVersion."""
        base = await documents.current_version(self._store, self._keys)
        _, payload = await self._read(version)
        bundle = unseal(payload, self._cluster_key)
        document = await asyncio.to_thread(self._validate, bundle.text, bundle.files)
        item = await self._store.get(self._keys.rollout())

        def beside(number: int) -> documents.Beside:
            """A rollout that is on its way ends: going back is for emergencies and waits for nothing."""
            then: tuple[Op, ...] = ()
            try:
                running = decode(item) if item is not None else None
            except RolloutDamaged:
                running, then = None, removes(self._keys)
            if running is not None and not running.over:
                ended = running.ending(Stage.UNDONE, f"ended by {author or 'a'} rollback to version {version}", _now())
                then = writes(self._keys, ended)
            return documents.Beside(self._keys.rollout(), item.mod_revision if item is not None else 0, then)

        number = await self._write(payload, author, f"rollback to version {version}", base, beside)
        return Applied(number, True, warnings(bundle.text, document))

    def _validate(self, text: str, files: Mapping[str, bytes]) -> Document:
        document = load(text)
        try:
            compile_snapshot(document, files, version=0)
        except SnapshotError as error:
            raise DocumentError([Problem(0, 0, "", str(error))]) from None
        problems = [found for check in self._checks for found in check(document, files)]
        if problems:
            raise DocumentError(locate(text, problems))
        return document

    async def _current(self, base: int) -> tuple[Document | None, Mapping[str, str]]:
        if base == 0:
            return None, {}
        text, files = describe((await self._read(base))[1])
        try:
            return await asyncio.to_thread(load, text), files
        except DocumentError:
            return None, files  # written by a version with other words: everything counts as new

    async def _read(self, version: int) -> tuple[documents.VersionMeta, bytes]:
        if version == 0:
            raise NoSuchVersion("nothing has been applied yet; begin with: meridian apply FILE")
        try:
            return await documents.read_version(self._store, self._keys, version)
        except documents.VersionMissing:
            raise NoSuchVersion(f"there is no version {version}; see: meridian history") from None

    async def _write(
        self, payload: bytes, author: str, message: str, base: int, beside: Callable[[int], documents.Beside],
        *, candidate: bool = False,
    ) -> int:  # fmt: skip
        meta = documents.VersionMeta(author=author, message=message, at=_now())
        return await documents.write_version(
            self._store, self._keys, payload, meta, expected_current=base, beside=beside, candidate=candidate
        )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _rules(words: model.Rollout, stage_seconds: float | None) -> Rules:
    return Rules(
        words.canary_percent, words.region or "", words.min_exchanges,
        words.stage_seconds if stage_seconds is None else stage_seconds,
    )  # fmt: skip


def _with_files(plan: Plan, old: Mapping[str, str], new: Mapping[str, bytes]) -> Plan:
    """Adds files whose content changed behind an unchanged name, by fingerprint."""
    changes = []
    for name, content in new.items():
        now = fingerprint(content)
        if name in old and old[name] != now:
            changes.append(Change("changed", "files", name, (f"{old[name]} -> {now}",)))
    return Plan(plan.changes + tuple(changes), plan.objections)
