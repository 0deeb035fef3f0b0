"""What an operator does with the document: plan, apply, get, history, rollback. Every write is one compare-and-put
against the version that the operator saw, so that two operators at once cannot overwrite each other unknowingly.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from meridian.control.bundle import Bundle, describe, fingerprint, seal, unseal
from meridian.core.document import DocumentError, Place, Problem, load, locate, warnings
from meridian.core.model import Document
from meridian.core.planning import Change, Plan, diff
from meridian.core.snapshot import SnapshotError, compile_snapshot
from meridian.store import documents
from meridian.store.keys import Keys
from meridian.store.port import Store

Check = Callable[[Document, Mapping[str, bytes]], Iterable[tuple[Place, str]]]
"""Another room's objections to a document and its files, as (place, message): zones, certificates. Handed in by
nodes/, since this room may not know those."""


class PlanRefused(Exception):
    """The plan removes more than a slip should be able to; --force applies it all the same."""


class NoSuchVersion(Exception):
    """There is no such version, or nothing has been applied yet."""


@dataclass(frozen=True, slots=True)
class Applied:
    """A version that is now current. `changed` is False when the document was already in force."""

    version: int
    changed: bool
    warnings: tuple[Problem, ...]


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
        # A thread: the largest document takes seconds, and leases must be kept alive meanwhile.
        document = await asyncio.to_thread(self._validate, text, files)
        base = await documents.current_version(self._store, self._keys)
        old, old_files = await self._current(base)
        plan = diff(old, document)
        return Planned(base, _with_files(plan, old_files, files), warnings(text, document))

    async def apply(
        self,
        text: str,
        files: Mapping[str, bytes],
        *,
        author: str,
        message: str = "",
        force: bool = False,
        expected_version: int | None = None,
    ) -> Applied:
        """Makes a document current. Raises DocumentError, PlanRefused, or documents.VersionConflict when another
        version than `expected_version` (by default the one just read) is current by then."""
        planned = await self.plan(text, files)
        if planned.plan.objections and not force:
            raise PlanRefused("; ".join(planned.plan.objections))
        base = planned.base if expected_version is None else expected_version
        if not planned.plan.changes and base and base == planned.base:
            return Applied(base, False, planned.warnings)
        payload = seal(Bundle(text, files), self._cluster_key)
        version = await self._write(payload, author, message, base)
        return Applied(version, True, planned.warnings)

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
        number = await self._write(payload, author, f"rollback to version {version}", base)
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
            return load(text), files
        except DocumentError:
            return None, files  # written by a version with other words: everything counts as new

    async def _read(self, version: int) -> tuple[documents.VersionMeta, bytes]:
        if version == 0:
            raise NoSuchVersion("nothing has been applied yet; begin with: meridian apply FILE")
        try:
            return await documents.read_version(self._store, self._keys, version)
        except documents.VersionMissing:
            raise NoSuchVersion(f"there is no version {version}; see: meridian history") from None

    async def _write(self, payload: bytes, author: str, message: str, base: int) -> int:
        meta = documents.VersionMeta(author=author, message=message, at=datetime.now(UTC).isoformat(timespec="seconds"))
        return await documents.write_version(self._store, self._keys, payload, meta, expected_current=base)


def _with_files(plan: Plan, old: Mapping[str, str], new: Mapping[str, bytes]) -> Plan:
    """Adds files whose content changed behind an unchanged name, by fingerprint."""
    changes = []
    for name, content in new.items():
        now = fingerprint(content)
        if name in old and old[name] != now:
            changes.append(Change("changed", "files", name, (f"{old[name]} -> {now}",)))
    return Plan(plan.changes + tuple(changes), plan.objections)
