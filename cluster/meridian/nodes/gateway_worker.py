"""The gateway worker: `python -m meridian.nodes.gateway_worker`, started by the launcher.

Before its first document it accepts nothing and connections queue. Without an agent it serves on. Never imports grpc.
"""

import asyncio
import secrets
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from meridian.control.messages import verdict_from_proto
from meridian.core.metering.ledgers import Ledgers
from meridian.core.snapshot import Listener, Snapshot, SnapshotError, compile_snapshot
from meridian.core.verdicts import PUBLISHED, Standing, Verdict
from meridian.gateway.gateway import Gateway
from meridian.gateway.handing import Client, Neighbours, Place, where_of
from meridian.gateway.l4_datagrams import L4Datagrams
from meridian.gateway.limits import Limits
from meridian.gateway.meters import Meters
from meridian.gateway.quic import QuicListener
from meridian.gateway.tls import CertificateError, check_tls
from meridian.gateway.upstream_tls import UpstreamContexts, UpstreamTlsError
from meridian.nodes import clock, logs
from meridian.nodes.acme import held_frame, pairs_of
from meridian.nodes.child import Birth
from meridian.nodes.compiling import Unfit, read_document
from meridian.nodes.inheriting import Heir, Predecessor, estate_of, told_in
from meridian.nodes.ledger_file import LedgerBusy, LedgerFile
from meridian.nodes.purging import purges_from_proto
from meridian.nodes.reports import spans_to_proto
from meridian.nodes.request_telling import explained_frame
from meridian.nodes.settings import Settings
from meridian.nodes.sinks import Sinks
from meridian.nodes.sockets import sockets_of_listener
from meridian.nodes.spending import Postbox, portion_of, told_from_proto
from meridian.nodes.succession import Estate, Line, inherit
from meridian.nodes.trials import arms_to_proto
from meridian.nodes.worker import BoundSockets, run_worker
from meridian.telemetry.metrics import Metrics, Series
from meridian_proto.v1.channel_pb2 import Config, Frame
from meridian_proto.v1.channel_pb2 import Trial as ProtoTrial

SPANS_PER_FRAME = 512  # some 200 KiB
POST_SECONDS = 0.05  # between looks at limits: half of what core/granting waits before it asks again
LIMITS_SECONDS = 5.0  # for seats to come, and for what a predecessor lent to end, which takes some 2 s
RETIRE_SECONDS = 10.0  # for exchanges on a UDP listener that left the document

SocketKey = tuple[str, str, int]  # kind, host, port


@dataclass(slots=True)
class _Attached:
    """A listener as it is served now."""

    listener: Listener
    keys: frozenset[SocketKey]
    quic: list[QuicListener] = field(default_factory=list)
    l4: list[L4Datagrams] = field(default_factory=list)

    def serves(self, listener: Listener) -> bool:
        """Whether nothing that concerns its sockets differs in `listener`."""
        return _as_served(self.listener) == _as_served(listener)


def _as_served(listener: Listener) -> tuple[object, ...]:
    trusted = listener.trusted_proxies if listener.proxy_protocol else None
    return (
        listener.host, listener.port, listener.protocols, listener.tls, listener.tls_profile, listener.client_auth,
        listener.early_data, listener.forward is not None, trusted,
    )  # fmt: skip


class GatewayDuties:
    """One gateway, made with the first document, and its listeners."""

    def __init__(
        self, settings: Settings, slot: int, secret: bytes, state: Path | None = None, *, generation: int = 0,
        succeeds: bool = False,
    ) -> None:  # fmt: skip
        """Of limits it spends nothing until it is told what: of two workers that start, neither may take all. `state`:
        the folder where quotas survive a restart; without it they do not. One that `succeeds` another has no gateway
        and no ledger before `succeed`."""
        self._settings = settings
        self._slot = slot
        self._secret = secret
        self._sinks = Sinks(settings.access_log)
        self._metrics = Metrics()
        loop = asyncio.get_running_loop()
        self._limits = Limits(clock.now, self._metrics, alone=False)
        self._limits.later = loop.call_later
        self._limits.join(f"{settings.name}/{slot}", slot)
        self._state_folder = state
        self._ledger: LedgerFile | None = None
        self._meters = Meters()
        self._postbox = Postbox(self._limits, self._meters, loop.call_soon)
        self._neighbours = Neighbours(slot, generation)
        self._awaits: Snapshot | None = None  # what a successor will serve
        self._succeeds = succeeds
        self._began = asyncio.Event()  # with its own part of limits, be it nothing
        self._tasks: asyncio.TaskGroup | None = None
        self._retired = False
        self._elsewhere: dict[str, dict[Client, Place]] = {}  # flows of the predecessor, by socket
        if not succeeds:
            self._open_meters()
            self._began.set()
        self._spans_dropped = self._metrics.counter("meridian_spans_dropped_total", "Spans beyond what a tick takes.")
        self._contexts = UpstreamContexts()
        self._gateway: Gateway | None = None
        self._sockets: BoundSockets = {}
        self._attached: dict[str, _Attached] = {}
        self._retiring: dict[SocketKey, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()
        self._state: dict[str, Frame] = {}  # what the agent said before there was a gateway
        self._draining = False
        self._candidate: Snapshot | None = None
        self._trial = ProtoTrial()

    def _open_meters(self) -> None:
        """Reads what the disk says of quotas: once no other process has the ledger open."""
        loop = asyncio.get_running_loop()
        ledgers: Ledgers | None = None
        if self._state_folder is not None:
            self._ledger, ledgers = _open_ledger(self._state_folder, self._slot)
        self._meters = Meters(f"{self._settings.name}/{self._slot}", secrets.randbits(63), ledgers)
        self._meters.write_soon = partial(loop.call_soon, self._write_ledger)
        send = self._postbox.send
        self._postbox = Postbox(self._limits, self._meters, loop.call_soon)
        self._postbox.send = send

    def join(self, send: Callable[[Frame], None]) -> None:
        """Takes the way to the agent."""
        self._postbox.send = send

    def compile(self, config: Config) -> Callable[[], None]:
        """Makes a snapshot. Raises Unfit."""
        snapshot = self._snapshot_of(config)
        return lambda: self._put_in_force(snapshot)

    def compile_candidate(self, config: Config) -> Callable[[], None]:
        """Makes a snapshot and keeps it for a trial; version 0 lets go of the one that is kept. Raises Unfit."""
        if not config.version:
            return lambda: self._hold(None)
        snapshot = self._snapshot_of(config)
        return lambda: self._hold(snapshot)

    def _snapshot_of(self, config: Config) -> Snapshot:
        """Runs in a thread. Raises Unfit."""
        document = read_document(config.document, leave_out=("zones",))
        try:
            snapshot = compile_snapshot(document, config.files, config.version, self._settings.dns_socket)
            check_tls(snapshot)
            self._contexts.prepare(snapshot.upstreams.values())
        except (SnapshotError, CertificateError, UpstreamTlsError) as error:
            raise Unfit(str(error)) from None
        return snapshot

    def _hold(self, candidate: Snapshot | None) -> None:
        self._candidate = candidate
        self._try_out()
        self._forget_contexts()

    def _try_out(self) -> None:
        """Makes the trial what the agent wants and what is held allows, whichever came last. A trial that runs is left
        alone: its counts go on."""
        gateway, candidate, wanted = self._gateway, self._candidate, self._trial
        if gateway is None:
            return
        if candidate is None or candidate.version != wanted.version or not wanted.share:
            gateway.end_trial()
        elif gateway.trial is None or gateway.trial.generation != wanted.generation:
            gateway.begin_trial(candidate, wanted.share, wanted.generation)

    def on_state(self, frame: Frame) -> None:
        """Verdict, endpoint health, limits, drain or trial."""
        kind = frame.WhichOneof("body")
        assert kind is not None
        if self._succeeds:  # what is spent comes with the estate first
            self._state[kind] = frame
            return
        match kind:
            case "allowance":
                told = told_from_proto(frame.allowance)
                self._limits.allow(told, clock.now())
                portion, fresh = portion_of(told, self._slot)
                self._meters.take(portion, clock.now(), clock.unix_nanoseconds() / 1e9, fresh)
            case "spenders":
                self._limits.set_spenders(frame.spenders.addresses, dict(frame.spenders.sitting))
                self._meters.set_spenders(frame.spenders.addresses)
            case "letters":
                self._postbox.hear(frame.letters, clock.now)
            case "explain_request":
                self._postbox.send(explained_frame(self._gateway, frame.explain_request))
            case _:
                self._on_gateway_state(kind, frame)

    def _on_gateway_state(self, kind: str, frame: Frame) -> None:
        if self._gateway is None:
            self._state[kind] = frame
            return
        match kind:
            case "verdict":
                verdict = verdict_from_proto(frame.verdict)
                left, doubted, shares = spill_of(verdict)
                self._gateway.set_verdict(verdict.version, left, doubted, verdict.fallback, shares)
            case "endpoint_health":
                down: dict[str, set[str]] = {}
                for endpoint in frame.endpoint_health.down:
                    down.setdefault(endpoint.upstream, set()).add(endpoint.address)
                self._gateway.set_endpoint_health({name: frozenset(found) for name, found in down.items()})
            case "trial":
                self._trial = frame.trial
                self._try_out()
            case "drain":
                self.drain(frame.drain.on)
            case "ticket_secrets":
                if why := self._gateway.share_tickets(list(frame.ticket_secrets.secrets)):
                    logs.log("error", "sessions over TCP resume on this worker alone", why=why)
            case "proofs":
                self._gateway.prove({token.encode(): proof.encode() for token, proof in frame.proofs.http.items()})
                self._postbox.send(held_frame(frame.proofs))
            case "obtained":
                try:
                    self._gateway.tls.obtain(pairs_of(frame.obtained))
                except CertificateError as error:
                    logs.log("error", "obtained certificates stay unused", why=str(error))
            case "purges":
                self._gateway.purge(purges_from_proto(frame.purges))

    def on_sockets(self, sockets: BoundSockets) -> None:
        """The full set. Of a socket that is held already the new descriptor is closed: it is the same socket."""
        for key, sock in sockets.items():
            if key in self._sockets:
                sock.close()
            else:
                self._sockets[key] = sock
        for key in self._sockets.keys() - sockets.keys():
            self._sockets.pop(key).close()
        self._changed.set()

    def drain(self, on: bool) -> None:
        """Serve on, but tell clients to go elsewhere."""
        if self._retired:  # for good
            return
        self._draining = on
        if self._gateway is not None:
            self._gateway.drain(on)
        if not on:
            for quic in [one for attached in self._attached.values() for one in attached.quic]:
                quic.undrain()

    def tick(self, send: Callable[[Frame], None]) -> None:
        """Spans, the access log and what a trial has counted go out."""
        if self._gateway is not None and (trial := self._gateway.trial) is not None:
            send(arms_to_proto(trial.generation, self._gateway.arms()))
        spans, self._sinks.spans = self._sinks.spans, []
        for start in range(0, len(spans), SPANS_PER_FRAME):
            send(spans_to_proto(spans[start : start + SPANS_PER_FRAME]))
        self._spans_dropped.value = self._sinks.spans_dropped
        self._sinks.access.flush()

    def series(self) -> Sequence[Series]:
        """All metrics as they stand."""
        if not self._retired:
            self._limits.measure()
        return self._gateway.series() if self._gateway is not None else self._metrics.series()

    async def close(self, grace_seconds: float) -> None:
        """Finishes what is under way."""
        if self._gateway is not None:
            await self._gateway.close(grace_seconds)
        if self._ledger is not None:
            self._ledger.close(self._meters.close())
            self._ledger = None

    # Upgrades

    def meet(self, inbox: socket.socket, others: Mapping[Place, socket.socket]) -> None:
        """The other workers of this node."""
        self._neighbours.meet(inbox, others, asyncio.get_running_loop())

    async def succeed(self, predecessor: socket.socket) -> bool:
        """Takes over limits, ledger and flows; then the gateway is made, and serves when its sockets are there."""
        line = await Line.open(predecessor)
        estate = await inherit(line)
        self._open_meters()
        if estate is not None:
            self._take_estate(estate)
        self._succeeds = False
        assert self._awaits is not None and self._tasks is not None, "it has said that it is prepared"
        self._put_in_force(self._awaits)
        assert self._gateway is not None
        if estate is not None:
            self._tasks.create_task(Predecessor(line, self._gateway, estate.under_way).run())
        self._began.set()
        return estate is not None

    def _take_estate(self, estate: Estate) -> None:
        if (told := told_in(estate)) is not None:
            self._limits.resume(told, estate.started, estate.left, estate.spenders)
            portion, fresh = portion_of(told, self._slot)
            self._meters.take(portion, clock.now(), clock.unix_nanoseconds() / 1e9, fresh)
        before = (self._slot, estate.generation)
        self._elsewhere = {where: dict.fromkeys(clients, before) for where, clients in estate.flows.items()}

    async def retire(self, successor: socket.socket, seconds: float) -> tuple[int, int]:
        """Gives sockets, limits and ledger away, and finishes what is under way."""
        line = await Line.open(successor)
        gateway = self._gateway
        assert gateway is not None and self._tasks is not None, "it serves"
        self.drain(True)
        self._retired = True
        gateway.retire()
        estate = estate_of(gateway, self._neighbours.place[1], clock.now())
        heir = Heir(line, asyncio.get_running_loop())
        gateway.admission.retire(heir)
        if self._ledger is not None:
            self._ledger.close(self._meters.close())
            self._ledger = None
        line.say(estate)
        self._tasks.create_task(heir.run())
        return await gateway.finish(seconds)

    # Listeners follow the snapshot and the sockets, whichever comes first

    async def run(self) -> None:
        """Serves until cancelled."""
        async with asyncio.TaskGroup() as self._tasks:
            tasks = self._tasks
            tasks.create_task(self._post_for_ever())
            await self._began.wait()
            await self._wait_for_limits()
            while True:
                await self._changed.wait()
                self._changed.clear()
                if self._gateway is not None and not self._retired:
                    for listener in self._gateway.snapshot.listeners:
                        await self._attach(self._gateway, listener)
                    self._retire_unserved(tasks)

    async def _wait_for_limits(self) -> None:
        """Accepts nobody while all would be told that they ask too often: this node's other workers accept them, and
        other nodes. What has no limit is served without, so this is not waited for long."""
        deadline = clock.now() + LIMITS_SECONDS
        while clock.now() < deadline:
            if self._gateway is not None:
                snapshot = self._gateway.snapshot
                if not snapshot.limits or self._limits.ready(clock.now()):
                    return
            await asyncio.sleep(POST_SECONDS)

    async def _post_for_ever(self) -> None:
        while True:
            await asyncio.sleep(POST_SECONDS)
            if self._began.is_set() and not self._retired:
                self._postbox.tick(clock.now())
                self._write_ledger()

    def _write_ledger(self) -> None:
        lines = self._meters.lines()
        if self._ledger is not None and lines:
            loop = asyncio.get_running_loop()
            self._ledger.write(lines, partial(loop.call_soon_threadsafe, self._meters.written, lines))

    def _put_in_force(self, snapshot: Snapshot) -> None:
        if self._succeeds:
            self._awaits = snapshot
            return
        if self._gateway is None:
            self._gateway = Gateway(
                snapshot, region=self._settings.region, worker=self._slot, loop=asyncio.get_running_loop(),
                report=self._sinks, metrics=self._metrics, clock=clock.now, unix_nanoseconds=clock.unix_nanoseconds,
                node=self._settings.name, quiet=self._settings.access_log == 0.0,
                limits=self._limits, meters=self._meters, contexts=self._contexts,
            )  # fmt: skip
            state, self._state = self._state, {}
            for frame in state.values():
                self.on_state(frame)
            self.drain(self._draining)
        else:
            self._gateway.swap(snapshot)
            self._try_out()
        self._forget_contexts()
        self._changed.set()

    def _forget_contexts(self) -> None:
        """Keeps those of what is in force and of what is held. Compiling takes one document at a time, so that none is
        on its way now."""
        held = (self._gateway.snapshot if self._gateway is not None else None, self._candidate)
        self._contexts.keep(upstream for one in held if one is not None for upstream in one.upstreams.values())

    def _retire_unserved(self, tasks: asyncio.TaskGroup) -> None:
        """Detaches what the snapshot has no more. After the attaching, so that a port is never without a listener."""
        assert self._gateway is not None
        listeners = {listener.name: listener for listener in self._gateway.snapshot.listeners}
        for name, attached in list(self._attached.items()):
            listener = listeners.get(name)
            if listener is None or not attached.serves(listener):
                self._detach(tasks, name, attached)
                self._changed.set()  # a changed listener is attached anew in the next round

    def _detach(self, tasks: asyncio.TaskGroup, name: str, attached: _Attached) -> None:
        assert self._gateway is not None
        logs.log("info", "listener left", listener=name)
        self._gateway.detach(name)
        del self._attached[name]
        served: list[QuicListener | L4Datagrams] = [*attached.quic, *attached.l4]
        for key, one in zip(sorted(key for key in attached.keys if key[0] != "tcp"), served, strict=True):
            self._retiring[key] = tasks.create_task(one.close(RETIRE_SECONDS))

    async def _attach(self, gateway: Gateway, listener: Listener) -> None:
        wanted = sockets_of_listener(listener, self._settings)
        keys = frozenset((one.kind, one.host, one.port) for one in wanted)
        if listener.name in self._attached or not keys <= self._sockets.keys():
            return  # it is served, or its sockets have not come yet
        attached = self._attached[listener.name] = _Attached(listener, keys)
        for key in sorted(keys):
            sock = self._sockets[key].dup()  # the gateway closes its own when the listener leaves
            if key[0] == "tcp":
                await gateway.attach(listener, [sock])
                continue
            if (retiring := self._retiring.pop(key, None)) is not None:
                await retiring  # two readers of one socket would each get half of every connection
            if "udp" in listener.protocols:
                elsewhere = self._elsewhere.pop(where_of(sock), {})
                attached.l4.append(gateway.attach_l4_datagrams(listener, [sock], self._neighbours, elsewhere))
                continue
            quic = QuicListener(
                name=listener.name, sockets=[sock], certificates=gateway.tls, begin=gateway.begin,
                neighbours=self._neighbours, key=self._secret, loop=asyncio.get_running_loop(), port=listener.port,
                client_auth=listener.client_auth, early_data=listener.early_data, guarding=gateway.guarding,
            )  # fmt: skip
            quic.start()
            gateway.attach_datagrams(listener, quic)
            attached.quic.append(quic)
        logs.log("info", "listener serves", listener=listener.name, port=listener.port)


def _open_ledger(state: Path, slot: int) -> tuple[LedgerFile | None, Ledgers]:
    """What this worker's disk says of quotas. Without it they are kept, too: as if all had been spent."""
    try:
        file = LedgerFile(state / "limits" / f"{slot}.ledger", clock.unix_nanoseconds() / 1e9, clock.boot_id())
    except (OSError, LedgerBusy) as error:
        logs.log("error", "quotas begin with their next period, and are not written", why=str(error))
        return None, Ledgers(is_new=False)
    return file, file.ledgers


def spill_of(verdict: Verdict) -> tuple[frozenset[str], frozenset[str], dict[str, float]]:
    """Returns which regions traffic leaves alone, which it tries after the others, and what some take of it."""
    regions = verdict.regions.values()
    shares = {region.name: region.share for region in regions if region.share is not None}
    doubted = frozenset(r.name for r in regions if r.standing is Standing.SUSPECT and r.name not in shares)
    left = frozenset(r.name for r in regions if r.standing not in PUBLISHED and r.name not in shares)
    return left, doubted, shares


def main(birth: Birth) -> int:
    """Runs the worker."""
    return run_worker(
        birth,
        lambda: GatewayDuties(
            birth.settings, birth.slot, birth.secret, Path(birth.settings.state), generation=birth.generation,
            succeeds=birth.succeeds,
        ),
    )  # fmt: skip
