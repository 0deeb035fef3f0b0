"""The agent's side of `explain dns` and `dns check`: the same document, verdict, keys and geo data as its DNS worker,
given to the same functions (`meridian_dns.explain`, `meridian_dns.lint`).

Invariant: nothing is decided here. What it builds, it builds by `dns_state` and `zone_signing`, as the worker does.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from ipaddress import ip_address, ip_network

from meridian.admin.explained import (
    CannotExplain,
    DnsExplanation,
    ExplainedCandidate,
    ExplainedRecord,
    ExplainedStep,
    UnknownZone,
    ZoneCheck,
    ZoneFinding,
)
from meridian.control.zone_keys import Keyring
from meridian.core.verdicts import NodeVerdict, Standing, Verdict
from meridian.nodes import clock
from meridian.nodes.config_flow import Reading
from meridian.nodes.dns_state import build_view, build_zones
from meridian.nodes.settings import Settings
from meridian.nodes.zone_files import zone_seen
from meridian.nodes.zone_keys import keys_status, zone_keys_frame
from meridian.nodes.zone_signing import key_sets_from, sign_zones
from meridian_dns.explain import Candidate, explain
from meridian_dns.geo import GeoData, GeoError
from meridian_dns.lint import lint
from meridian_dns.names import name_from_text, name_to_text
from meridian_dns.policy import Question
from meridian_dns.records import RCODE_NAMES
from meridian_dns.responder import Holdings
from meridian_dns.security_text import type_of
from meridian_dns.signing import KeyUnfit, Signatures
from meridian_dns.view import Network, RegionView
from meridian_dns.zone import ZoneSet
from meridian_dns.zonefile import zone_to_file

NOBODY = "127.0.0.1"  # who asks if nobody is named: near to no region


@dataclass(frozen=True, slots=True)
class Sources:
    """What a node answers from. `worker_version`: of the document that its DNS worker has; None: there is no worker."""

    reading: Reading
    verdict: Verdict
    keyrings: Mapping[str, Keyring]
    worker_version: int | None


class DnsExplainer:
    """An admin.panel.ZoneDesk. Keeps the zones of the last document that it was asked about: building 100,000 records
    takes a second.
    """

    def __init__(self, settings: Settings, sources: Callable[[], Sources | None]) -> None:
        """`sources` gives what holds now; None before the first document."""
        self._settings = settings
        self._sources = sources
        self._own = NodeVerdict(settings.name, settings.region, settings.advertise, Standing.SERVING)
        self._geo: GeoData | None = None
        if settings.geo_file is not None:
            with contextlib.suppress(GeoError):  # the worker says so in its log, and the explanation in its steps
                self._geo = GeoData.open(settings.geo_file)
        self._signatures = Signatures(lambda: clock.unix_nanoseconds() // 10**9)
        self._built: tuple[int, ZoneSet] | None = None
        self._building = asyncio.Lock()

    async def explain(self, name: str, type_: str, client: str) -> DnsExplanation:
        """How a question is answered now. Raises CannotExplain."""
        sources = self._sources()
        if sources is None:
            raise CannotExplain("this node has no document yet, so its DNS server answers nothing")
        question = _question(name, type_)
        source, subnet = _client(client)
        zones, view = await self._zones(sources), self._view(sources)
        found = explain(Holdings(zones, view, self._geo), question, source, subnet, draw=0)
        version = sources.reading.version
        first = ExplainedStep(topic="node", text=self._about_node(version, sources.worker_version))
        error = found.decided.extended_error
        return DnsExplanation(
            node=self._settings.name,
            region=self._settings.region,
            question=f"{name} {type_.upper()}",
            client=client or NOBODY,
            config_version=version,
            verdict_version=view.version,
            verdict_fallback=view.fallback,
            steps=(first, *(ExplainedStep(topic=step.topic, text=step.text) for step in found.steps)),
            candidates=tuple(_candidate(candidate, sources.verdict.nodes) for candidate in found.candidates),
            rcode=RCODE_NAMES.get(found.decided.rcode, str(found.decided.rcode)),
            extended_error="" if error is None else str(error),
            scope=found.decided.scope,
            records=tuple(ExplainedRecord(**asdict(line)) for line in found.records),
        )

    async def check(self, zone: str, of_view: str = "") -> ZoneCheck:
        """What is to be said of a zone as it is served now, to clients of a view or of none. Raises UnknownZone."""
        sources = self._known()
        zones, view = await self._zones(sources), self._view(sources)
        served, seen = zone_seen(zones, zone, of_view)
        findings = await asyncio.to_thread(lint, served, seen, view)
        told = [ZoneFinding(**asdict(finding)) for finding in findings]
        keyring = sources.keyrings.get(name_to_text(served.origin))
        if keyring is not None and (status := keys_status(keyring)).next_step != "nothing":
            problem = f"its keys: {status.state}"
            told.append(ZoneFinding(level="note", name=status.zone, problem=problem, remedy=status.next_step))
        return ZoneCheck(zone=name_to_text(served.origin), view=of_view, findings=tuple(told))

    async def export(self, zone: str, of_view: str = "") -> str:
        """A zone as a zone file, as clients of a view or of none see it. Raises UnknownZone."""
        served, _ = zone_seen(await self._zones(self._known()), zone, of_view)
        return await asyncio.to_thread(zone_to_file, served)

    def _known(self) -> Sources:
        sources = self._sources()
        if sources is None:
            raise UnknownZone("this node has no document yet, and so no zone")
        return sources

    def _view(self, sources: Sources) -> RegionView:
        document = sources.reading.document
        return build_view(document.regions, sources.verdict, self._own, clock.now(), document.steering)

    async def _zones(self, sources: Sources) -> ZoneSet:
        async with self._building:
            version, zones = self._built or (0, ZoneSet())
            known = zones if version == sources.reading.version else None
            zones = await asyncio.to_thread(self._build, sources, known)
            self._built = (sources.reading.version, zones)
            return zones

    def _build(self, sources: Sources, zones: ZoneSet | None) -> ZoneSet:
        reading = sources.reading
        if zones is None:
            zones = build_zones(reading.document.zones, reading.version, reading.files, reading.document.dns.views)
        keys = zone_keys_frame(list(sources.keyrings.values())).zone_keys
        try:
            return sign_zones(zones, reading.document.zones, key_sets_from(keys), self._signatures)
        except KeyUnfit:  # the worker signs by the keys before, and says so in its log
            return zones

    def _about_node(self, version: int, worker_version: int | None) -> str:
        where = f"node {self._settings.name} of region {self._settings.region}"
        if worker_version is None:
            return f"{where} runs no DNS server; by document version {version} one would answer so"
        if worker_version != version:
            return f"{where} has document version {version}; its DNS server still answers by {worker_version or 'none'}"
        return f"{where} answers by document version {version}"


def _question(name: str, type_: str) -> Question:
    try:
        return Question(name_from_text(name), type_of(type_.upper()))
    except ValueError as error:
        raise CannotExplain(f"{name} {type_}: {error}") from None


def _client(client: str) -> tuple[str, Network | None]:
    """Who asks: the sender's address, and the network that it passed on, if the client is given as one."""
    try:
        if "/" in client:
            network = ip_network(client, strict=False)
            return str(network[0]), network
        return str(ip_address(client or NOBODY)), None
    except ValueError as error:
        raise CannotExplain(f"client {client!r}: {error}") from None


def _candidate(candidate: Candidate, nodes: Mapping[str, NodeVerdict]) -> ExplainedCandidate:
    judged = nodes.get(candidate.member)
    reason = candidate.reason
    if judged is not None and judged.reason and not candidate.answered:
        reason += f" ({judged.reason})"
    return ExplainedCandidate(
        owner=candidate.owner,
        type=candidate.type,
        region=candidate.region,
        node=candidate.member,
        addresses=candidate.addresses,
        standing=judged.standing.name.lower() if judged is not None else "",
        answered=candidate.answered,
        reason=reason,
    )
