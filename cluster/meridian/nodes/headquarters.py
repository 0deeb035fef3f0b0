"""What a node's control process is made of, wherever its workers run: control plane, document, admin API, spans.

Composed by `agent` (workers are processes of their own) and by `standalone` (all in one process). The pieces know each
other only here: what one says is handed to the others by plain calls on the loop.
"""

import asyncio
import functools
import importlib
import math
import socket
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from random import random
from typing import Literal

import structlog

from meridian.admin.panel import RoleName, UpgradeDesk
from meridian.admin.status import Status, ZoneKeysStatus
from meridian.control import seat_orders
from meridian.control.acme.keeper import CertificateKeeper
from meridian.control.acme.records import Obtained, Proofs
from meridian.control.backup import BackupError, Made, Restored, Seen, back_up, restore
from meridian.control.configuration import Configuration
from meridian.control.disk import SnapshotDisk
from meridian.control.driver import ControlPlane
from meridian.control.fences import generation_of
from meridian.control.handlers import Handlers
from meridian.control.identity import Identity
from meridian.control.identity import Settings as ControlSettings
from meridian.control.peers import PeerTransport
from meridian.control.probing import good_answer
from meridian.control.purges import PurgeDesk
from meridian.control.rollout import RolloutHandlers
from meridian.control.shared_secrets import DNS_COOKIES, TLS_TICKETS, SecretKeeper
from meridian.control.upkeep import Defragmented
from meridian.control.zone_keys import NotSigned, ZoneKeeper
from meridian.core.granting.drift import WATCHED_SECONDS, Drift
from meridian.core.granting.seats import Tell
from meridian.core.granting.shares import CLOCK_DRIFT_MAX, Cut, Rule
from meridian.core.judging import Arms
from meridian.core.keyrolls import Role
from meridian.core.purging import Purge
from meridian.core.rates import parse_rate
from meridian.core.rollout import Part
from meridian.core.speech import GENERATIONS
from meridian.core.verdicts import PUBLISHED, Standing, Verdict
from meridian.gateway.limits import Told
from meridian.gateway.upstream_tls import UpstreamContexts
from meridian.nodes import clock
from meridian.nodes.acme import obtained_frame, proofs_frame
from meridian.nodes.certificates import certificate_series, certificate_wishes, certificates_status
from meridian.nodes.checks import CHECKS
from meridian.nodes.config_flow import ConfigFlow, Listen, Reading
from meridian.nodes.control_metrics import control_series
from meridian.nodes.crew import Crew, drain_frame, health_frame, proofs_held, serves, tried, verdict_frame
from meridian.nodes.dns_explainer import DnsExplainer, Sources
from meridian.nodes.joining import Joining
from meridian.nodes.load import LoadMeter
from meridian.nodes.node_status import build_status
from meridian.nodes.purging import purges_frame
from meridian.nodes.reached import endpoints_of
from meridian.nodes.request_explainer import RequestExplainer
from meridian.nodes.settings import Settings, speaker_of
from meridian.nodes.software import software
from meridian.nodes.spending import spenders_frame, told_to_proto
from meridian.nodes.vigil import Vigil
from meridian.nodes.zone_keys import keys_status, wishes_of, zone_id, zone_keys_frame
from meridian.store.keys import Keys
from meridian.store.port import Store
from meridian.telemetry.export import SpanExport
from meridian.telemetry.exposition import render
from meridian.telemetry.metrics import Series
from meridian.telemetry.spans import SpanRecord
from meridian_dns.signing import generate_der
from meridian_proto.v1.channel_pb2 import CookieSecrets, Explained, Frame, TicketSecrets
from meridian_proto.v1.spending_pb2 import Letter, Letters

_log = structlog.get_logger("meridian.node")

SPREAD_SECONDS = 1.0  # for every DNS server to hear of a verdict, and for who had asked one just before to connect


class Headquarters:
    """Make it in a running loop, give it a crew (`employ`), then `run` it. A crew.Reporting and an admin Panel."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        cluster_key: bytes,
        *,
        peers: PeerTransport,
        disk: SnapshotDisk,
        listen: Listen,
        regional: Store | None = None,
        upgrades: UpgradeDesk,
    ) -> None:
        """`listen` makes a set of sockets the ones of the gateway workers, and returns why it cannot."""
        self._settings = settings
        self.upgrades = upgrades
        keys = Keys(settings.cluster)
        # A store in memory ends with its process; what workers and the disk still have of it must count as older.
        generation = 0 if settings.etcd else clock.unix_nanoseconds() // 1_000_000_000
        identity = Identity(
            settings.name,
            settings.region,
            uuid.uuid4().hex,
            settings.advertise,
            endpoints_of(settings, None),
            settings.witness,
            speaker_of(settings.speak, software()),
        )
        handlers = Handlers(
            on_config=lambda version, payload: self._flow.arrived(version, payload),
            on_verdict=self._on_verdict,
            on_endpoint_health=lambda down: self._crew.send(health_frame(down), "gateway"),
            on_allowance=self._on_allowance,
            on_spenders=lambda addresses, sitting: self._crew.send(spenders_frame(addresses, sitting), "gateway"),
            on_letter=self._on_letter,
            rollout=RolloutHandlers(
                on_candidate=lambda version, payload: self._flow.propose(version, payload),
                on_part=lambda part: self._flow.take_part(part),
                tried=self._tried,
            ),
        )
        self._contexts = UpstreamContexts()
        self.control = ControlPlane(
            store,
            keys,
            identity,
            ControlSettings(
                settings.limit_nodes, settings.workers, settings.etcd_quota_bytes, generation, settings.capacity
            ),
            peers,
            clock=clock.now,
            handlers=handlers,
            disk=disk,
            load=self._load,
            probe_endpoint=functools.partial(good_answer, context_of=self._contexts.of),
            regional=regional,
        )
        self._store, self._keys = store, keys
        self._zone_keeper = ZoneKeeper(
            store,
            keys,
            disk,
            cluster_key,
            generate=generate_der,
            fence=self.control.leadership.fence,
            wall_clock=clock.unix_seconds,
            changed=lambda keyrings: self._crew.send(zone_keys_frame(keyrings), "dns"),
        )
        self._secret_keepers = [
            SecretKeeper(
                kind, store, keys, disk, cluster_key, fence=self.control.leadership.fence,
                wall_clock=clock.unix_seconds, changed=changed,
            )
            for kind, changed in ((DNS_COOKIES, self._on_cookie_secrets), (TLS_TICKETS, self._on_ticket_secrets))
        ]  # fmt: skip
        self._certificates = CertificateKeeper(
            store,
            keys,
            disk,
            cluster_key,
            fence=self.control.leadership.fence,
            wall_clock=clock.unix_seconds,
            draw=random,
            members=self.control.members,
            obtained=self._on_obtained,
            proofs=self._on_proofs,
        )
        self._proofs = 0  # the revision of the newest
        self._meter = LoadMeter(clock.now)
        self._vigil = Vigil()
        self.configuration = Configuration(store, keys, cluster_key, CHECKS)
        self.export = SpanExport(
            node=settings.name, region=settings.region, version=software(), draw=random, endpoint=None
        )
        self._zones = DnsExplainer(settings, self._zone_sources)
        self._purges = PurgeDesk(store, keys, lambda purges: self._crew.send(purges_frame(purges), "gateway"))
        self._requests = RequestExplainer(settings, lambda: self._crew)
        self._cluster_key = cluster_key
        self._listen = listen
        self._crew: Crew
        self._flow: ConfigFlow
        self._own_series: Callable[[], Iterable[Series]] = lambda: ()
        self._draining = False
        self._leaving = False
        self._joining = Joining(
            others_serve=self._others_serve, fill_seconds=self._fill_seconds, turned=self.on_crew_changed
        )
        self._drift = Drift(*clock.rates())

    def employ(self, crew: Crew, own_series: Callable[[], Iterable[Series]]) -> None:
        """Takes the crew; `own_series` are metrics of this process beside the control plane's."""
        self._crew = crew
        self._own_series = own_series
        self._flow = ConfigFlow(
            self._settings,
            self._cluster_key,
            crew,
            self._listen,
            self._contexts,
            adopted=self._on_adopted,
            acknowledge=self.control.acknowledge,
            checked=self.control.rollouts.checked,
        )
        self.on_crew_changed()

    async def run(self) -> None:
        """Runs until cancelled. Raises control.peers.PeerPortTaken in a group."""
        await self._zone_keeper.load()
        for keeper in self._secret_keepers:
            await keeper.load()
        await self._certificates.load()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._zone_keeper.run())
            tasks.create_task(self._certificates.run())
            for keeper in self._secret_keepers:
                tasks.create_task(keeper.run())
            tasks.create_task(self._purges.run())
            tasks.create_task(self._flow.run())
            tasks.create_task(self.export.run())
            tasks.create_task(self.control.run())
            tasks.create_task(self._watch_clock())
            tasks.create_task(self._joining.run())

    async def serve_admin(self, sock: socket.socket, token: str, hosts: Sequence[str]) -> None:
        """Serves the admin API on a listening socket until cancelled."""
        # Half of an agent's imports are the API's: they are done beside the loop, while the node already serves.
        admin_server = await asyncio.to_thread(importlib.import_module, "meridian.nodes.admin_server")
        await admin_server.serve(self, sock, token, hosts)

    async def leave(self) -> float:
        """Lets DNS and other nodes leave this one out, within 2 s. Returns how many seconds clients may still come here
        by answers that DNS gave before; 0 if there is no other node to go to. The launcher tells them."""
        self._leaving = True
        await self.control.step_out()
        if self._settings.witness or not self._others_serve():
            return 0.0
        return self._aging_seconds()

    async def depart(self) -> None:
        """Gives up what this node has in the store; nobody comes any more."""
        await self.control.stop()

    def _aging_seconds(self) -> float:
        """From a verdict until no client comes by an answer of before: the longest time to live of a steered record."""
        reading = self._flow.current
        zones = reading.document.zones if reading is not None else ()
        lives = [float(record.ttl_seconds) for zone in zones for record in zone.records if record.steer is not None]
        return max(lives) + SPREAD_SECONDS if lives else 0.0

    # crew.Reporting

    def on_crew_changed(self) -> None:
        """A worker came, went, or answered to a document."""
        self._flow.look()
        self.control.hold_proofs(proofs_held(self._crew.workers, self._proofs))
        self.control.set_serving(self._settings.witness or (self._joining.joined and serves(self._crew.workers)))

    def on_spans(self, spans: Iterable[SpanRecord]) -> None:
        """Spans that have ended."""
        self.export.put(spans)

    def on_spender(self, slot: int) -> None:
        """A gateway worker is there (again)."""
        self.control.worker_started(slot)

    def on_spending(self, slot: int, frame: Frame) -> None:
        """What a gateway worker says of limits."""
        if frame.WhichOneof("body") == "confirmed":
            self.control.worker_confirmed(slot, frame.confirmed.agent, frame.confirmed.sequence)
            if self.control.holds_seats:
                self._joining.seated()
        else:
            for letter in frame.letters.letters:
                self.control.post(letter)

    def on_explained(self, told: Explained) -> None:
        """What a gateway worker would do with a request."""
        self._requests.on_explained(told)

    # admin.panel.Panel

    def status(self) -> Status:
        """What this node knows now, from memory."""
        certificates = certificates_status(self._certificates.status(), clock.unix_seconds())
        return build_status(self._settings.cluster, self.control.status(), self._crew.workers, certificates)

    async def drain(self, name: str, on: bool, *, force: bool = False) -> None:
        """Orders a node or region to leave or come back. Raises control.drains.DrainRefused, store.port.StoreError."""
        await self.control.drain(name, on, force=force)

    async def defragment(self) -> Sequence[Defragmented]:
        """Makes the stores' files small. Raises store.port.StoreError."""
        return await self.control.defragment()

    async def back_up(self) -> tuple[Made, bytes]:
        """A backup of what is in the store. Raises control.backup.BackupError, store.port.StoreError."""
        return await back_up(self._store, self._keys, self._cluster_key)

    async def restore(self, raw: bytes, *, author: str, force: bool) -> Restored:
        """Puts a backup into the store. Raises control.backup.BackupError or NotEmpty, store.port.StoreError."""
        status = self.control.status()
        if not force and GENERATIONS not in status.speaks.capabilities:
            raise BackupError("not every node can tell a restored store from the one before: upgrade all nodes first")
        versions = [status.config_version, *(member.config_version for member in status.members)]
        seen = Seen(max(versions), generation_of(status.verdict.fence))
        return await restore(self._store, self._keys, self._cluster_key, raw, seen, author=author, force=force)

    async def purge(self, order: Purge) -> int:
        """Lets all gateway workers forget answers; returns the order's number. Raises StoreError."""
        return await self._purges.order(order)

    async def settle_limits(self) -> None:
        """Ends limits' wait after a restore. Raises control.seat_orders.SeatsRefused, StoreError."""
        await seat_orders.settle(self._store, self._keys)

    async def free_seats(self, node: str) -> int:
        """Takes the home seats of a machine that is off. Raises control.seat_orders.SeatsRefused, StoreError."""
        return await seat_orders.free(
            self._store, self._keys, node, [member.name for member in self.control.status().members]
        )

    def zone_keys(self, zone: str) -> ZoneKeysStatus:
        """The keys of a signed zone, from memory. Raises NotSigned."""
        keyring = self._zone_keeper.keyrings.get(_zone_id(zone))
        if keyring is None:
            raise NotSigned(f"zone {zone} has no keys")
        return keys_status(keyring)

    async def tell_zone_keys(self, zone: str, word: RoleName | Literal["seen", "gone"]) -> None:
        """Rolls a key or takes the operator's word. Raises NotSigned, control.zone_keys.KeysRefused, StoreError."""
        if word == "seen":
            await self._zone_keeper.seen(_zone_id(zone))
        elif word == "gone":
            await self._zone_keeper.gone(_zone_id(zone))
        else:
            await self._zone_keeper.roll(_zone_id(zone), Role(word))

    async def metrics(self) -> str:
        """All series of this node and its workers, as Prometheus reads them."""
        series: dict[str, Iterable[Series]] = {worker.label: worker.series for worker in self._crew.workers}
        own = (*control_series(self.control.status(), self.export), *self._own_series())
        series["agent"] = [*own, *certificate_series(self._certificates.status())]
        return render(series)

    @property
    def zones(self) -> DnsExplainer:
        """What this node says of its zones and answers."""
        return self._zones

    @property
    def requests(self) -> RequestExplainer:
        """What this node says of requests."""
        return self._requests

    def _zone_sources(self) -> Sources | None:
        if self._flow.current is None:
            return None
        given = (worker.config_version for worker in self._crew.workers if worker.kind == "dns")
        verdict = self.control.status().verdict
        return Sources(self._flow.current, verdict, self._zone_keeper.keyrings, next(given, None))

    # From the control plane and the document

    def _on_verdict(self, verdict: Verdict) -> None:
        self._crew.send(verdict_frame(verdict, clock.now()))
        own = verdict.nodes.get(self._settings.name)
        # Clients are told to leave only when DNS sends no new ones: that order cuts nobody's way.
        draining = own is not None and own.standing is Standing.DRAINING and not own.keeps
        if draining != self._draining and not self._leaving:
            self._draining = draining
            _log.info("drain", on=draining)
            self._crew.send(drain_frame(draining), "gateway")

    def _on_allowance(self, cut: Cut, tell: Tell, store_is_lost: bool) -> None:
        allowance = tell.allowance
        if self._drift.bad:  # fewer seats than told are never too many
            allowance = replace(allowance, leased=frozenset(), until=-math.inf)
        told = told_to_proto(Told(cut, allowance, tell.values, store_is_lost, alone=self._drift.bad))
        if tell.slot is None:
            self._crew.send(Frame(allowance=told), "gateway")
        else:
            self._crew.send_to("gateway", tell.slot, Frame(allowance=told))

    def _others_serve(self) -> bool:
        nodes = self.control.status().verdict.nodes.values()
        return any(node.name != self._settings.name and node.standing in PUBLISHED for node in nodes)

    def _fill_seconds(self) -> float:
        limits = self._flow.current.snapshot.limits.values() if self._flow.current is not None else ()
        fills = (one.burst / one.rate_per_second for one in limits if one.kind == "rate")
        return max(fills, default=0.0) * (1 + CLOCK_DRIFT_MAX)

    async def _watch_clock(self) -> None:
        while True:
            await asyncio.sleep(WATCHED_SECONDS)
            before, self._drift = self._drift, self._drift.look(*clock.rates(), CLOCK_DRIFT_MAX)
            if self._drift.bad != before.bad:
                _log.warning("this machine's clock is bent; home seats only", on=self._drift.bad)
                self.control.tell_again()

    def _on_letter(self, letter: Letter) -> None:
        slot = letter.to.rpartition("/")[2]
        if slot.isdecimal():
            self._crew.send_to("gateway", int(slot), Frame(letters=Letters(letters=[letter])))

    def _tried(self, part: Part) -> Arms | None:
        if found := self._vigil.look(part, self._crew.workers, clock.now()):
            self.control.rollouts.checked(part.candidate, found)
        return tried(self._crew.workers, part)

    def _on_obtained(self, obtained: Mapping[str, Obtained]) -> None:
        pairs = {id_: (one.chain_pem, one.key_pem) for id_, one in obtained.items()}
        self._crew.send(obtained_frame(pairs), "gateway")
        if self._settings.dns_tls_port:
            self._crew.send(obtained_frame(pairs), "dns")

    def _on_proofs(self, revision: int, proofs: Proofs) -> None:
        self._proofs = revision
        self._crew.send(proofs_frame(revision, proofs.http, proofs.texts))
        self.on_crew_changed()

    def _on_cookie_secrets(self, secrets: Sequence[bytes]) -> None:
        self._crew.send(Frame(cookie_secrets=CookieSecrets(secrets=secrets)), "dns")

    def _on_ticket_secrets(self, secrets: Sequence[bytes]) -> None:
        self._crew.send(Frame(ticket_secrets=TicketSecrets(secrets=secrets)), "gateway")

    def _load(self) -> float:
        return self._meter.read({worker.label: worker.series for worker in self._crew.workers})

    def _on_adopted(self, reading: Reading) -> None:
        document = reading.document
        upstreams = () if self._settings.witness else reading.snapshot.upstreams.values()
        self.control.set_upstreams(upstreams)
        self._contexts.keep(upstreams)
        limits = reading.snapshot.limits.values()
        rules = {one.name: Rule(one.rate_per_second, one.burst) for one in limits if one.kind == "rate"}
        self.control.set_limits(rules)
        capacities = {one.name: parse_rate(one.capacity) for one in document.regions if one.capacity is not None}
        self.control.set_regions((region.name for region in document.regions), capacities)
        self.control.set_endpoints(endpoints_of(self._settings, reading))
        self.export.aim(document.tracing.otlp_endpoint)
        self._zone_keeper.set_wishes(wishes_of(document.zones, reading.zone_ttls))
        self._certificates.set_wishes(certificate_wishes(document, reading.files))


def _zone_id(zone: str) -> str:
    try:
        return zone_id(zone)
    except ValueError as error:
        raise NotSigned(f"zone {zone!r}: {error}") from None
