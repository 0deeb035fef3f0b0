"""The DNS worker: `python -m meridian.nodes.dns_worker`, started by the launcher.

Before its first document it answers nothing and the questions queue: an answer REFUSED would make resolvers think that
this server does not know its zones. So it does while a zone is to be signed and no keys came yet, but not for long: who
does not validate is served by unsigned answers too. Never imports grpc.
"""

import asyncio
import secrets
import socket
from collections.abc import Callable, Mapping, Sequence
from random import random

from meridian.control.messages import verdict_from_proto
from meridian.core import dns_words, model
from meridian.core.judging import PAIRED_SHARE, QUESTIONS, Arms, Sample, Tally
from meridian.core.snapshot import Certificate, Ordered, SnapshotError, compile_certificates
from meridian.core.verdicts import NodeVerdict, Standing, Verdict
from meridian.gateway.tls import CertificateError, TlsContexts
from meridian.nodes import clock, logs
from meridian.nodes.acme import held_frame, pairs_of
from meridian.nodes.child import Birth
from meridian.nodes.compiling import Unfit, read_document
from meridian.nodes.dns_metrics import series_of
from meridian.nodes.dns_state import build_throttle, build_transfers, build_view, build_zones, doubt_ends
from meridian.nodes.dns_watching import DnsWatcher
from meridian.nodes.reports import spans_to_proto
from meridian.nodes.settings import Settings
from meridian.nodes.trials import arms_to_proto
from meridian.nodes.worker import BoundSockets, run_worker
from meridian.nodes.zone_signing import key_sets_from, sign_zones
from meridian.telemetry.line_log import LineLog, write_without_waiting
from meridian.telemetry.metrics import IN_FORCE, MERGED, Series
from meridian_dns.edns import CookieJar
from meridian_dns.geo import GeoData, GeoError
from meridian_dns.names import name_from_text
from meridian_dns.overlay import with_texts
from meridian_dns.server import DnsServer, Doors
from meridian_dns.signing import KeySet, KeyUnfit, Signatures
from meridian_dns.transfer import Transfers
from meridian_dns.trial import Compared
from meridian_dns.view import RegionView
from meridian_dns.zone import ZoneError, ZoneSet
from meridian_proto.v1.channel_pb2 import Config, Frame
from meridian_proto.v1.channel_pb2 import Trial as ProtoTrial

Candidate = tuple[int, model.Document, ZoneSet]

RETIRE_SECONDS = 1.0  # for a successor to begin to read, which takes it some milliseconds
KEYS_SECONDS = 5.0  # an agent with a store or a disk sends the keys at once, many times quicker than this


class DnsDuties:
    """Zones, verdict and regions, joined into what the server answers from."""

    def __init__(self, settings: Settings) -> None:
        own = NodeVerdict(settings.name, settings.region, settings.advertise, Standing.SERVING)
        self._own = own
        self._regions: Sequence[model.Region] = ()
        self._steering = dns_words.Steering()
        self._doubt_ends: float | None = None
        self._in_force = RegionView(0, {})
        self._verdict = Verdict()
        # Until the cluster's secrets come, cookies are this process' own: others renew them.
        self._cookies = CookieJar([secrets.token_bytes(16)], clock.unix_seconds)
        self._server = DnsServer(
            ZoneSet(),
            self._in_force,
            open_geo(settings.geo_file),
            server_id=settings.name.encode(),
            cookies=self._cookies,
        )
        self._watcher = DnsWatcher(LineLog(write_without_waiting(2)), random)
        self._limit: dns_words.AnswerLimit | None = None
        self._tls_port = settings.dns_tls_port
        self._tls = TlsContexts(())
        self._signatures = Signatures(lambda: clock.unix_nanoseconds() // 10**9)
        self._zones: Sequence[dns_words.Zone] = ()
        self._keys: Mapping[bytes, KeySet] = {}
        self._bare = ZoneSet()  # as the document says them, without proofs
        self._texts: Mapping[bytes, Sequence[str]] = {}  # proofs for authorities of certificates
        self._send: Callable[[Frame], None] = lambda frame: None
        self._keyed = asyncio.Event()
        self._candidate: Candidate | None = None
        self._trial = ProtoTrial()
        self._tried = 0  # generation of the trial that runs
        self._sockets: BoundSockets = {}
        self._documented = asyncio.Event()
        self._bound = asyncio.Event()

    def join(self, send: Callable[[Frame], None]) -> None:
        """Takes the way to the agent."""
        self._send = send

    def compile(self, config: Config) -> Callable[[], None]:
        """Builds the zones, and what secondaries get of them; checks certificates, if it needs any. Raises Unfit."""
        document, signed, transfers, certificates = self._build(config)
        return lambda: self._put_in_force(document, signed, transfers, certificates)

    def compile_candidate(self, config: Config) -> Callable[[], None]:
        """Builds the same and keeps the zones for a trial; version 0 lets go of them. Raises Unfit."""
        if not config.version:
            return lambda: self._hold(None)
        document, signed, *_ = self._build(config)
        return lambda: self._hold((config.version, document, signed))

    def _build(self, config: Config) -> tuple[model.Document, ZoneSet, Transfers, Sequence[Certificate | Ordered]]:
        document = read_document(config.document, leave_out=("routes", "upstreams"))
        try:
            zones = build_zones(document.zones, config.version, config.files, document.dns.views)
            transfers = build_transfers(document, config.files, zones, self._server.transfers)
            certificates = compile_certificates(document, config.files) if self._tls_port else ()
            TlsContexts(certificates)
        except (ZoneError, SnapshotError, CertificateError) as error:
            raise Unfit(str(error)) from None
        return document, sign_zones(zones, document.zones, self._keys, self._signatures), transfers, certificates

    def _hold(self, candidate: Candidate | None) -> None:
        self._candidate = candidate
        self._try_out()

    def _try_out(self) -> None:
        """Makes the trial what the agent wants and what is held allows, whichever came last. One that runs goes on."""
        candidate, wanted = self._candidate, self._trial
        if candidate is None or candidate[0] != wanted.version or not wanted.share:
            self._tried = 0
            self._server.end_trial()
        elif self._tried != wanted.generation:
            _, document, zones = candidate
            view = self._view_of(document.regions, document.steering)
            self._server.try_out(self._proving(zones), view, wanted.share)
            self._tried = wanted.generation

    def _put_in_force(
        self,
        document: model.Document,
        zones: ZoneSet,
        transfers: Transfers,
        certificates: Sequence[Certificate | Ordered],
    ) -> None:
        try:
            view = self._view(document.regions, document.steering)
        except ValueError as error:
            raise Unfit(str(error)) from None
        if document.dns.limit != self._limit:  # the same limit goes on: its clients get no fresh burst
            self._limit = document.dns.limit
            self._server.limit(build_throttle(self._limit))
        is_watched = self._watcher.watch(document.dns.log, document.dns.trace)
        self._server.watcher = self._watcher if is_watched else None
        self._tls.replace(certificates)
        if self._tls_port and not certificates:
            logs.log("warning", "DNS over TLS and QUIC has no certificate: add one under certificates")
        self._regions, self._steering, self._zones = document.regions, document.steering, document.zones
        # Once more, for keys that came while the document was compiled; nothing is done twice.
        self._bare = sign_zones(zones, self._zones, self._keys, self._signatures)
        self._server.swap(zones=self._proving(self._bare), view=view, transfers=transfers)
        self._documented.set()

    async def run(self) -> None:
        """Serves, once there are sockets and a document."""
        await self._bound.wait()
        await self._documented.wait()
        if any(zone.dnssec is not None for zone in self._zones):
            try:
                async with asyncio.timeout(KEYS_SECONDS):
                    await self._keyed.wait()
            except TimeoutError:
                logs.log("error", "no keys for signed zones came; serving them unsigned until they do")
        logs.log("info", "dns serves", sockets=len(self._sockets))
        doors = Doors(
            udp=self._bound_for("udp", encrypted=False),
            tcp=self._bound_for("tcp", encrypted=False),
            tls=self._bound_for("tcp", encrypted=True),
            quic=self._bound_for("udp", encrypted=True),
            https=[sock for (kind, _, _), sock in self._sockets.items() if kind == "unix"],
            tls_context=self._tls.context_for(["dot"]) if self._tls_port else None,
            choose_certificate=self._tls.quic_certificate,
        )
        await self._server.serve(doors)

    def _bound_for(self, wanted: str, *, encrypted: bool) -> list[socket.socket]:
        return [
            sock
            for (kind, _, port), sock in self._sockets.items()
            if kind == wanted and (port == self._tls_port) is encrypted
        ]

    def on_state(self, frame: Frame) -> None:
        """The verdict, the zones' keys, the secrets of cookies, what ACME needs and a trial concern DNS."""
        match frame.WhichOneof("body"):
            case "zone_keys":
                self._take_keys(frame)
            case "cookie_secrets":
                self._take_cookie_secrets(frame)
            case "proofs":
                self._take_proofs(frame)
            case "obtained":
                self._take_obtained(frame)
            case "trial":
                self._trial = frame.trial
                self._try_out()
            case "verdict":
                self._verdict = verdict_from_proto(frame.verdict, clock.now())
                try:
                    self._look_again()
                except ValueError as error:  # an address that is none, from a node of another version
                    logs.log("error", "verdict not understood, answering by the one before", reason=str(error))

    def _look_again(self) -> None:
        """The verdict changed, or time ended a doubt. Raises ValueError."""
        self._server.swap(view=self._view(self._regions, self._steering))
        if self._candidate is not None and self._server.trial is not None:
            _, document, _ = self._candidate
            self._server.trial.swap(self._view_of(document.regions, document.steering))

    def _view(self, regions: Sequence[model.Region], steering: dns_words.Steering) -> RegionView:
        """What the server answers from now on; notes when it must be made again because a doubt ends by itself."""
        self._doubt_ends = doubt_ends(self._verdict, clock.now(), steering)
        self._in_force = self._view_of(regions, steering)
        return self._in_force

    def _view_of(self, regions: Sequence[model.Region], steering: dns_words.Steering) -> RegionView:
        return build_view(regions, self._verdict, self._own, clock.now(), steering)

    def _take_keys(self, frame: Frame) -> None:
        try:
            self._keys = key_sets_from(frame.zone_keys)
        except KeyUnfit as error:
            logs.log("error", "keys not understood, signing by the ones before", reason=str(error))
            return
        self._bare = sign_zones(self._bare, self._zones, self._keys, self._signatures)
        self._server.swap(zones=self._proving(self._bare))
        self._keyed.set()

    def _take_cookie_secrets(self, frame: Frame) -> None:
        try:
            self._cookies.replace(frame.cookie_secrets.secrets)
        except ValueError as error:  # from an agent of another version
            logs.log("error", "secrets of cookies not understood, going on with those before", reason=str(error))

    def _take_proofs(self, frame: Frame) -> None:
        try:
            self._texts = {name_from_text(name): found.values for name, found in frame.proofs.texts.items()}
        except ValueError as error:  # from an agent of another version
            logs.log("error", "proofs not understood, going on with those before", reason=str(error))
            return
        self._server.swap(zones=self._proving(self._bare))
        self._send(held_frame(frame.proofs))

    def _proving(self, zones: ZoneSet) -> ZoneSet:
        """The zones with the proofs in them. Secondaries get none: their copies are made from the document."""
        return ZoneSet([with_texts(zone, self._texts) for zone in zones], zones.views) if self._texts else zones

    def _take_obtained(self, frame: Frame) -> None:
        try:
            self._tls.obtain(pairs_of(frame.obtained))
        except CertificateError as error:
            logs.log("error", "obtained certificates stay unused", why=str(error))

    def on_sockets(self, sockets: BoundSockets) -> None:
        """The sockets that the launcher bound; they never change in a node's life."""
        if not self._sockets:
            self._sockets = sockets
            self._bound.set()

    def drain(self, on: bool) -> None:
        """Nothing: a server that leaves answers to the end, with what the verdict says, itself left out."""

    def tick(self, send: Callable[[Frame], None]) -> None:
        """Ends a doubt whose time is over; what a trial compared and what was seen of queries goes out."""
        if self._doubt_ends is not None and clock.now() >= self._doubt_ends:
            self._look_again()
        if (trial := self._server.trial) is not None:
            send(arms_to_proto(self._tried, Arms(self._trial.share, {}, {}, {QUESTIONS: sample_of(trial.compared)})))
        if spans := self._watcher.flush():
            send(spans_to_proto(spans))

    def series(self) -> Sequence[Series]:
        """The server's counters, and the verdict that it answers by."""
        view = self._in_force
        verdict = (("version", IN_FORCE, view.version), ("fallback", MERGED, view.fallback))
        gauges = [Series(f"meridian_verdict_{name}", "gauge", help, {}, float(value)) for name, help, value in verdict]
        help = "Signatures made; those that are asked for again are kept."
        made = Series("meridian_dns_signatures_total", "counter", help, {}, float(self._signatures.made))
        return [*series_of(self._server), *self._watcher.series(), made, *gauges]

    async def succeed(self, predecessor: socket.socket) -> bool:
        """There is nothing to take over but the sockets, which come from the launcher."""
        predecessor.close()
        return True

    async def retire(self, successor: socket.socket, seconds: float) -> tuple[int, int]:
        """Both may read for a moment: every datagram is answered by who read it. Those who ask by connections (TLS,
        QUIC) open new ones, as they do when a server restarts."""
        successor.close()
        await asyncio.sleep(RETIRE_SECONDS)
        return 0, 0

    def meet(self, inbox: socket.socket, others: Mapping[tuple[int, int], socket.socket]) -> None:
        """Only gateway workers have something to say to each other."""

    async def close(self, grace_seconds: float) -> None:
        """Nothing is under way for long; a resolver that finds nobody here asks another server."""


def open_geo(path: str | None) -> GeoData | None:
    """Opens the geo file; without it, or if it cannot be read, DNS steers by networks alone and the log says so."""
    if path is None:
        return None
    try:
        return GeoData.open(path)
    except GeoError as error:
        logs.log("error", "no geo data", reason=str(error))
        return None


def sample_of(compared: Compared) -> Sample:
    """What a trial has compared, as it is judged."""
    asked = compared.questions
    return Sample(
        PAIRED_SHARE,
        Tally(asked, unrouted=compared.unanswered_in_force),
        Tally(asked, failed=compared.failed, unrouted=compared.unanswered),
    )


def main(birth: Birth) -> int:
    """Runs the worker."""
    return run_worker(birth, lambda: DnsDuties(birth.settings))
