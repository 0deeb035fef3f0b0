"""`meridian serve FILE`: one node in one process, with its state in memory. The quickest way to a working gateway.

The same parts as in a node of a cluster, composed without launcher and channels: the gateway's and the DNS server's
duties are called directly. The file is the document: it is applied at start, on SIGHUP, and when it has changed or a
file that it names, such as a certificate. A file that is wrong at start is the operator's mistake (exit code 2); later
it is logged, and what serves goes on.
"""

import argparse
import asyncio
import contextlib
import errno
import logging
import os
import secrets
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import structlog
import uvloop

from meridian.control.configuration import Applied
from meridian.control.disk import NoDisk
from meridian.control.peers import NoPeers
from meridian.core import document, model
from meridian.core.document import DocumentError
from meridian.nodes import clock, compiling
from meridian.nodes.child import GRACE_SECONDS, BadStart, first
from meridian.nodes.compiling import Unfit
from meridian.nodes.crew import WorkerState
from meridian.nodes.dns_worker import DnsDuties
from meridian.nodes.gateway_worker import GatewayDuties
from meridian.nodes.headquarters import Headquarters
from meridian.nodes.reports import spans_from_proto
from meridian.nodes.secret_files import token_of
from meridian.nodes.settings import Settings
from meridian.nodes.sockets import Sockets, Wanted, sockets_of_dns
from meridian.nodes.upgrade_desk import NoUpgrades
from meridian.nodes.worker import TICK_SECONDS, Duties
from meridian.store.embedded import EmbeddedStore
from meridian.telemetry.logs import configure
from meridian_proto.v1.channel_pb2 import ConfigAck, Frame, Tallies

POLL_SECONDS = 1.0  # how soon a changed file is seen
START_SECONDS = 30.0  # for the first document; the largest takes some ten seconds to read

_log = structlog.get_logger("meridian.serve")


class LocalCrew:
    """Duties in this process, behind the same door as workers in processes of their own."""

    def __init__(self, duties: Mapping[str, Duties], changed: Callable[[], None]) -> None:
        self._duties = duties
        self._changed = changed
        self._states = {kind: WorkerState(kind, 0, connected=True, pid=os.getpid()) for kind in duties}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="compile")
        self._documents: asyncio.Queue[tuple[str, Frame]] = asyncio.Queue()  # the flow gives one at a time

    @property
    def workers(self) -> Sequence[WorkerState]:
        """All of them, with their metrics as they stand."""
        for kind, state in self._states.items():
            state.series = self._duties[kind].series()
        return list(self._states.values())

    def send(self, frame: Frame, kind: str | None = None) -> None:
        """Gives state to all, or to one kind."""
        for name, duties in self._duties.items():
            if kind not in (None, name):
                continue
            if frame.WhichOneof("body") in ("config", "candidate"):
                self._documents.put_nowait((name, frame))
            else:
                duties.on_state(frame)

    def send_to(self, kind: str, slot: int, frame: Frame) -> None:
        """There is one of each kind."""
        self.send(frame, kind)

    def take_tallies(self, kind: str, tallies: Tallies) -> None:
        """What one of them counted in a trial."""
        self._states[kind].tallies = tallies

    def take_proofs_held(self, kind: str, revision: int) -> None:
        """One of them answers with the proofs up to this one."""
        self._states[kind].proofs_held = revision
        self._changed()

    async def run(self) -> None:
        """Compiles what comes, one after the other, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            kind, frame = await self._documents.get()
            duties, state = self._duties[kind], self._states[kind]
            if frame.WhichOneof("body") == "config":
                config, compiled, acknowledge = frame.config, duties.compile, state.acknowledge
            else:
                config, compiled = frame.candidate, duties.compile_candidate
                acknowledge = state.acknowledge_candidate
            refused = ""
            try:
                apply = await loop.run_in_executor(self._thread, compiled, config)
                apply()
            except Unfit as error:
                refused = str(error)
            acknowledge(ConfigAck(version=config.version, refused=refused))
            self._changed()


class Standalone:
    """The whole node. `run` returns when it is told to end."""

    def __init__(self, file: Path, settings: Settings) -> None:
        """Needs a running loop. Raises BadStart."""
        self._file = file
        self._named: tuple[Path, ...] = ()  # the files that it names
        self._settings = settings
        self._sockets = Sockets({"gateway": 1, "dns": 1, "agent": 1})
        self._headquarters = Headquarters(
            settings,
            EmbeddedStore(clock.now),
            secrets.token_bytes(32),
            peers=NoPeers(),
            disk=NoDisk(),
            listen=self._listen,
            upgrades=NoUpgrades(),
        )
        self._gateway = GatewayDuties(settings, 0, secrets.token_bytes(32))
        self._duties: dict[str, Duties] = {"gateway": self._gateway}
        if settings.dns_port:
            self._duties["dns"] = DnsDuties(settings)
        self._crew = LocalCrew(self._duties, self._headquarters.on_crew_changed)
        self._headquarters.employ(self._crew, lambda: ())
        for kind, duties in self._duties.items():
            duties.join(partial(self._take_report, kind))
        self._headquarters.on_spender(0)
        self._reload = asyncio.Event()
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Serves until SIGTERM or SIGINT. Raises BadStart for what the operator has to repair."""
        admin = self._bind_fixed()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload.set)
        token = token_of(self._settings)
        async with asyncio.TaskGroup() as tasks:
            works: list[Coroutine[Any, Any, None]] = [self._headquarters.run(), self._crew.run(), self._tick_for_ever()]
            works += [duties.run() for duties in self._duties.values()]
            works.append(self._headquarters.serve_admin(admin, token, ("localhost",)))
            running = [tasks.create_task(work) for work in works]
            try:
                await self._start()
                compiling.tune()
                running.append(tasks.create_task(self._follow_file()))
                await self._stop.wait()
                await self._gateway.close(GRACE_SECONDS)
            finally:
                for task in running:
                    task.cancel()

    # The document

    async def _start(self) -> None:
        try:
            applied = await self._apply()
        except (DocumentError, OSError) as error:
            raise BadStart(_said(self._file, error)) from None
        try:
            async with asyncio.timeout(START_SECONDS):
                while (acknowledged := self._headquarters.control.status()).config_version < applied.version:
                    if acknowledged.config_refused:
                        raise BadStart(acknowledged.config_refused.partition(": ")[2])
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise BadStart(f"{self._file}: not in force within {START_SECONDS:.0f} s") from None
        configure()
        for warning in applied.warnings:
            _log.warning("document", place=warning.place, warning=warning.message)
        token_file = f"{self._settings.state}/token"
        _log.info("serving", file=str(self._file), admin_port=self._settings.admin_port, token_file=token_file)

    async def _apply(self) -> Applied:
        text = self._file.read_text()
        found = await asyncio.to_thread(document.load, text)
        ordered = [i for i, certificate in enumerate(found.certificates) if certificate.acme is not None]
        if ordered:
            problem = "meridian serve keeps nothing and would order anew at each start; name files, or run nodes"
            raise DocumentError(document.locate(text, [(("certificates", i, "acme"), problem) for i in ordered]))
        self._named = tuple(self._file.parent / name for _, name in found.files())
        files = read_files(found, self._file.parent)
        return await self._headquarters.configuration.apply(text, files, author="serve", force=True)

    async def _follow_file(self) -> None:
        seen = self._stamps()
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._reload.wait(), POLL_SECONDS)
            now = self._stamps()
            if not self._reload.is_set() and now == seen:
                continue
            self._reload.clear()
            seen = now
            try:
                applied = await self._apply()
                _log.info("document read", version=applied.version, changed=applied.changed)
            except (DocumentError, OSError) as error:
                _log.error("document not taken, the one before stays in force", reason=str(error))

    def _stamps(self) -> tuple[tuple[int, int, int], ...]:
        return tuple(_stamp(file) for file in (self._file, *self._named))

    # Sockets

    def _bind_fixed(self) -> socket.socket:
        settings = self._settings
        admin = Wanted("agent", "tcp", settings.admin_host, settings.admin_port, "--admin-port")
        problems = self._sockets.want("agent", [admin]) + self._sockets.want("dns", sockets_of_dns(settings))
        if problems:
            raise BadStart("; ".join(problems))
        if settings.dns_port:
            self._hand_sockets("dns")
        return self._sockets.of("agent", 0)[0][1]

    async def _listen(self, wanted: Sequence[Wanted]) -> Sequence[str]:
        problems = self._sockets.want("gateway", wanted)
        if not problems:
            self._hand_sockets("gateway")
        return problems

    def _hand_sockets(self, kind: str) -> None:
        mine = self._sockets.of(kind, 0)
        self._duties[kind].on_sockets({(w.kind, w.host, w.port): sock.dup() for w, sock in mine})

    # Reports

    async def _tick_for_ever(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            for kind, duties in self._duties.items():
                duties.tick(partial(self._take_report, kind))

    def _take_report(self, kind: str, frame: Frame) -> None:
        if frame.WhichOneof("body") == "spans":
            self._headquarters.on_spans(spans_from_proto(frame.spans))
        elif frame.WhichOneof("body") == "tallies":
            self._crew.take_tallies(kind, frame.tallies)
        elif frame.WhichOneof("body") == "explained":
            self._headquarters.on_explained(frame.explained)
        elif frame.WhichOneof("body") == "proofs_held":
            self._crew.take_proofs_held(kind, frame.proofs_held.revision)
        else:
            self._headquarters.on_spending(0, frame)


def read_files(found: model.Document, folder: Path) -> dict[str, bytes]:
    """The contents of the files that a document names, relative to `folder`. Raises OSError."""
    files = {}
    for place, name in found.files():
        bytes_max = model.file_bytes_max(place)
        with (folder / name).open("rb") as file:
            files[name] = file.read(bytes_max + 1)
        if len(files[name]) > bytes_max:
            raise OSError(errno.EFBIG, f"{place}: larger than {bytes_max} bytes", str(folder / name))
    return files


def _stamp(file: Path) -> tuple[int, int, int]:
    """What changes when a file is written or replaced; zeros while it is missing."""
    try:
        stat = file.stat()
    except OSError:
        return (0, 0, 0)
    return (stat.st_mtime_ns, stat.st_size, stat.st_ino)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="meridian serve", allow_abbrev=False)
    parser.add_argument("file", type=Path)
    parser.add_argument("--dns-port", type=int, default=5300, help="0: no DNS server")
    parser.add_argument("--dns-tls-port", type=int, default=0, help="DNS over TLS and over QUIC; 0: none")
    parser.add_argument("--admin-port", type=int, default=9900)
    parser.add_argument("--advertise", default="127.0.0.1", metavar="IP", help="what DNS answers for this node")
    parser.add_argument("--region", help="of this node (default: the first of the document)")
    parser.add_argument("--geo-file", help="country data for DNS, see scripts/fetch-geo")
    parser.add_argument("--access-log", type=float, default=0.0, metavar="RATIO")
    return parser


def _first_region(file: Path) -> str:
    """Raises BadStart for a file that is missing or no document."""
    try:
        regions = document.load(file.read_text()).regions
    except (DocumentError, OSError, UnicodeDecodeError) as error:
        raise BadStart(_said(file, error)) from None
    return regions[0].name if regions else "local"


def _said(file: Path, error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.filename or file}: {error.strerror}"
    return f"{file}: {error}"


def _run(values: argparse.Namespace, state: str) -> None:
    """Raises BadStart, alone or in a group."""
    settings = Settings(
        name="serve", region=values.region or _first_region(values.file), advertise=(values.advertise,), workers=1,
        dns_port=values.dns_port, dns_tls_port=values.dns_tls_port, admin_port=values.admin_port, limit_nodes=1,
        geo_file=values.geo_file, access_log=values.access_log, state=state,
    )  # fmt: skip

    async def run() -> None:
        await Standalone(values.file, settings).run()

    with asyncio.Runner(loop_factory=lambda: uvloop.new_event_loop()) as runner:
        runner.run(run())


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `meridian serve`; returns the exit code."""
    values = _parser().parse_args(argv)
    configure(level=logging.CRITICAL)  # until it serves, what is wrong is said once, in words
    code = 0
    try:
        with tempfile.TemporaryDirectory(prefix="meridian-serve-") as state:
            _run(values, state)
    except* BadStart as group:
        sys.stderr.write(f"meridian serve: {first(group)}\n")
        code = 2
    return code


if __name__ == "__main__":
    sys.exit(main())
