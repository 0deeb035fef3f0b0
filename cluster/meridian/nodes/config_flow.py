"""A new document on its way into one node: opened, validated again, its sockets bound, handed to every worker, and
acknowledged when all of them serve it.

Invariant: what a node acknowledges, all its workers serve; a document that fails anywhere on the way leaves the one
before it in force everywhere. Sockets of the old document are closed only after nobody serves it any more.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import structlog

from meridian.control.bundle import BundleError, unseal
from meridian.core import document, model
from meridian.core.rollout import Part
from meridian.core.snapshot import Snapshot, SnapshotError, compile_snapshot
from meridian.gateway.tls import CertificateError, check_tls
from meridian.gateway.upstream_tls import UpstreamContexts, UpstreamTlsError
from meridian.nodes.crew import Crew, answered, candidate_frame, checked, config_frame, trial_frame
from meridian.nodes.dns_state import build_transfers, build_zones, zone_ttls
from meridian.nodes.settings import Settings
from meridian.nodes.sockets import Wanted, sockets_of_listener
from meridian_dns.transfer import Transfers
from meridian_dns.zone import ZoneError

_log = structlog.get_logger("meridian.config")

AGAIN_SECONDS = 5.0  # after a port was taken; it costs one reading of the document

Listen = Callable[[Sequence[Wanted]], Awaitable[Sequence[str]]]  # returns problems; then nothing was changed


class Refused(Exception):
    """This node cannot run the document; the message says why."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A document that can run here."""

    version: int
    document: model.Document
    json: bytes
    files: Mapping[str, bytes]
    snapshot: Snapshot
    sockets: tuple[Wanted, ...]
    zone_ttls: Mapping[str, int]
    """the longest time to live of each zone's records, by the zone's name, those of its file too"""


class ConfigFlow:
    """`current` is the document in force on this node; at most one other is on its way."""

    def __init__(
        self,
        settings: Settings,
        cluster_key: bytes,
        crew: Crew,
        listen: Listen,
        contexts: UpstreamContexts,
        *,
        adopted: Callable[[Reading], None],
        acknowledge: Callable[[int, str], None],
        checked: Callable[[int, str], None] = lambda version, refused: None,
    ) -> None:
        """`adopted` is told what workers are being given; `acknowledge(version, why refused)` speaks to the cluster,
        and so does `checked`, of a candidate."""
        self._checked = checked
        self.current: Reading | None = None
        self._settings = settings
        self._cluster_key = cluster_key
        self._crew = crew
        self._listen = listen
        self._contexts = contexts
        self._adopted = adopted
        self._acknowledge = acknowledge
        self._next: tuple[int, bytes] | None = None
        self._given: Reading | None = None  # to the workers; they have not all answered yet
        self._again: tuple[int, bytes] | None = None  # refused for its sockets: the port may become free
        self._part: Part | None = None  # workers may hold what an agent before this one gave them
        self._proposed: tuple[int, bytes] | None = None
        self._candidate: Reading | None = None  # the workers hold it, or are about to
        self._news = asyncio.Event()

    def propose(self, version: int, payload: bytes) -> None:
        """A candidate came: it is compiled everywhere and its sockets are bound, and nothing serves it yet."""
        self._proposed = (version, payload)
        self._news.set()

    def take_part(self, part: Part) -> None:
        """How much the candidate serves from now on; without one, workers let go of theirs."""
        before = self._part.candidate if self._part is not None else -1
        if before not in (0, part.candidate):  # also one that is still being read
            self._proposed = (0, b"")
            self._news.set()
        self._part = part
        self._crew.send(trial_frame(part))

    def arrived(self, version: int, payload: bytes) -> None:
        """A version came from the store or from disk. Of several that come quickly, the last is taken."""
        self._next = (version, payload)
        self._news.set()

    def look(self) -> None:
        """The workers changed: perhaps they have all answered."""
        self._news.set()

    async def run(self) -> None:
        """Runs until cancelled."""
        while True:
            try:
                async with asyncio.timeout(AGAIN_SECONDS if self._again is not None else None):
                    await self._news.wait()
            except TimeoutError:
                self._next = self._next or self._again
            self._news.clear()
            if self._next is not None:
                (version, payload), self._next, self._again = self._next, None, None
                await self._begin(version, payload)
            if self._proposed is not None:
                (version, payload), self._proposed = self._proposed, None
                await self._hold_ready(version, payload)
            await self._settle()
            self._answer()

    async def _hold_ready(self, version: int, payload: bytes) -> None:
        self._candidate = None  # one before it has ended, and nobody waits for an answer to it
        if version == 0:
            self._crew.send(candidate_frame(0, b"", {}))
            if self.current is not None and self._given is None:
                await self._listen(self.current.sockets)
            return
        try:
            reading = await asyncio.to_thread(self._read, version, payload)
            if problems := await self._listen([*reading.sockets, *self._in_use()]):
                raise Refused("; ".join(problems))
        except Refused as error:
            _log.error("candidate refused", version=version, reason=str(error))
            self._checked(version, str(error))
            return
        self._candidate = reading
        for kind in ("gateway", "dns"):
            self._crew.send(candidate_frame(version, reading.json, self._files_for(kind, reading)), kind)

    def _read(self, version: int, payload: bytes) -> Reading:
        return read(version, payload, self._cluster_key, self._settings, self._contexts)

    def _answer(self) -> None:
        """Says what the workers said to the candidate, when all have."""
        if self._candidate is not None:
            refused = checked(self._crew.workers, self._candidate.version)
            if refused is not None:
                self._checked(self._candidate.version, refused)

    def _in_use(self) -> list[Wanted]:
        held = (self.current, self._given, self._candidate)
        return [sockets for one in held if one is not None for sockets in one.sockets]

    async def _begin(self, version: int, payload: bytes) -> None:
        try:
            # A thread: a large document takes seconds, and leases must be kept alive meanwhile.
            reading = await asyncio.to_thread(self._read, version, payload)
            if problems := await self._listen([*reading.sockets, *self._in_use()]):
                self._again = (version, payload)
                raise Refused("; ".join(problems))
        except Refused as error:
            _log.error("document refused", version=version, reason=str(error))
            self._acknowledge(version, str(error))
            return
        self._given = reading
        self._give(reading)

    def _give(self, reading: Reading) -> None:
        if not self._settings.witness:  # that has no workers, and keeps no files
            self._give_workers(reading)
        self._adopted(reading)

    def _give_workers(self, reading: Reading) -> None:
        # Each kind gets the secrets that it works with, and no other.
        for kind in ("gateway", "dns"):
            self._crew.send(config_frame(reading.version, reading.json, self._files_for(kind, reading)), kind)

    def _files_for(self, kind: str, reading: Reading) -> dict[str, bytes]:
        document = reading.document
        certificates = document.certificate_files() if kind == "gateway" or self._settings.dns_tls_port else ()
        of_dns = chain(document.secret_files(), document.zone_files()) if kind == "dns" else ()
        of_gateway = chain(document.client_files(), document.upstream_files()) if kind == "gateway" else ()
        return {name: reading.files[name] for _, name in chain(certificates, of_gateway, of_dns)}

    async def _settle(self) -> None:
        given = self._given
        if given is None:
            return
        refused = "" if self._settings.witness else answered(self._crew.workers, given.version)
        if refused is None:
            return
        self._given = None
        if refused:
            _log.error("document refused by a worker", version=given.version, reason=refused)
            if self.current is not None:
                self._give(self.current)
        else:
            self.current = given
            _log.info("document in force", version=given.version)
        self._acknowledge(given.version, refused)
        if self.current is not None:
            candidate = self._candidate.sockets if self._candidate is not None else ()
            await self._listen([*self.current.sockets, *candidate])


def read(version: int, payload: bytes, cluster_key: bytes, settings: Settings, contexts: UpstreamContexts) -> Reading:
    """Opens and validates a document as this node's workers will. Raises Refused."""
    try:
        bundle = unseal(payload, cluster_key)
        found = document.load(bundle.text)
        snapshot = compile_snapshot(found, bundle.files, version)
        check_tls(snapshot)
        contexts.prepare(snapshot.upstreams.values())
        zones = build_zones(found.zones, version, bundle.files, found.dns.views)
        build_transfers(found, bundle.files, zones, Transfers())
    except (BundleError, document.DocumentError, SnapshotError, CertificateError, UpstreamTlsError, ZoneError) as error:
        raise Refused(str(error)) from None
    if settings.witness:  # it reads the document to know the regions, and may be the leader who orders certificates
        files = {name: bundle.files[name] for _, name in found.acme_files()}
        return Reading(version, found, b"", files, snapshot, (), {})
    sockets = tuple(wanted for listener in snapshot.listeners for wanted in sockets_of_listener(listener, settings))
    json = found.model_dump_json(exclude_unset=True).encode()
    return Reading(version, found, json, bundle.files, snapshot, sockets, zone_ttls(zones))
