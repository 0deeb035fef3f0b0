"""The operator's document: its words, their defaults and their bounds.

Everything an operator may write stands here and nowhere else; `meridian schema` exports it. Unknown words are
refused (core/document.py names the nearest known one). Rules that need more than one field, such as a route that
names an upstream, are in `Document.problems`.
"""

import ipaddress
import re
from collections.abc import Collection, Iterator
from itertools import islice
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from meridian.core.authentication import Authenticator
from meridian.core.limit_words import Limit, checked_rate
from meridian.core.words import Name, Seconds, Word

Protocol = Literal["h1", "h2", "h3"]
Balance = Literal["round_robin", "random", "least_request"]


def split_host_port(text: str) -> tuple[str, int]:
    """Splits `host:port` or `[v6]:port`; raises ValueError that says what is wrong."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit():
        raise ValueError(f"{text!r} is not host:port, for example 10.1.0.11:8000 or [2001:db8::1]:8000")
    if not 0 < int(port) < 65536:
        raise ValueError(f"{text!r}: the port must be between 1 and 65535")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        ipaddress.IPv6Address(host)
    elif ":" in host:
        raise ValueError(f"{text!r}: write an IPv6 address in brackets, [{host}]:{port}")
    return host, int(port)


def split_dns_address(text: str) -> tuple[str, int]:
    """Splits an IP address with or without a port, which is 53 if absent; raises ValueError that says what is wrong."""
    try:
        return str(ipaddress.ip_address(text)), 53
    except ValueError:
        pass
    try:
        host, port = split_host_port(text)
        return str(ipaddress.ip_address(host)), port
    except ValueError:
        raise ValueError(
            f"{text!r} is not an IP address, such as 192.0.2.53, 192.0.2.53:5353 or [2001:db8::53]:5353"
        ) from None


def _checked_address(text: str) -> str:
    split_host_port(text)
    return text


def _checked_bind(text: str) -> str:
    host, _ = split_host_port(text)
    ipaddress.ip_address(host)
    return text


def _checked_ip(text: str) -> str:
    ipaddress.ip_address(text)
    return text


def _checked_network(text: str) -> str:
    ipaddress.ip_network(text)
    return text


def _checked_near(text: str) -> str:
    if re.match(r"^(continent|country)/[A-Z]{2}$", text):
        return text
    try:
        return _checked_network(text)
    except ValueError:
        raise ValueError(f"{text!r} is neither continent/EU, country/TR nor a network such as 203.0.113.0/24") from None


class Listener(Word):
    """An address where every node accepts connections. TLS is on where h2 or h3 is, or where `tls` says so."""

    name: Name
    bind: Annotated[str, AfterValidator(_checked_bind)] = Field(description="0.0.0.0:443 or [::]:443; see --address")
    protocols: tuple[Protocol, ...] = Field(min_length=1)
    tls: bool | None = Field(default=None, description="by default on where protocols has h2 or h3")
    trusted_proxies: tuple[Annotated[str, AfterValidator(_checked_network)], ...] = Field(
        default=(), description="networks whose X-Forwarded-* fields are believed and extended"
    )
    client_field: Literal["x-forwarded-for", "forwarded"] = Field(
        default="x-forwarded-for",
        description="where trusted proxies name their client; the other is not believed",
    )

    @property
    def uses_tls(self) -> bool:
        """Whether connections to this listener are encrypted."""
        return self.tls if self.tls is not None else bool({"h2", "h3"} & set(self.protocols))

    @model_validator(mode="after")
    def _tls_fits(self) -> "Listener":
        if self.tls is False and {"h2", "h3"} & set(self.protocols):
            raise ValueError("h2 and h3 need TLS; leave out tls: false, or serve only h1 here")
        return self


class Certificate(Word):
    """A certificate chain and its key, read on the side of `apply`, served for these hosts (RFC 6125 wildcards)."""

    hosts: tuple[str, ...] = Field(min_length=1, description="shop.example.com or *.example.com")
    cert_file: str = Field(description="PEM chain, leaf first; relative to the document's folder")
    key_file: str = Field(description="PEM key without a password")


class Region(Word):
    """Where nodes stand, and which clients are near them."""

    name: Name
    addresses: tuple[Annotated[str, AfterValidator(_checked_ip)], ...] = Field(
        default=(), description="what DNS answers for this region instead of what its nodes advertise"
    )
    near: tuple[Annotated[str, AfterValidator(_checked_near)], ...] = Field(
        default=(), description="continent/EU, country/TR or 203.0.113.0/24; the longest network wins, then the country"
    )
    fallback: tuple[Name, ...] = Field(default=(), description="regions that come next for these clients")
    capacity: Annotated[str, BeforeValidator(checked_rate)] | None = Field(
        default=None, description="requests that it carries, such as 5000/s; where all say it, load decides who moves"
    )


class Endpoint(Word):
    """One address of an upstream. Without a region it is as near to every node as to any other."""

    address: Annotated[str, AfterValidator(_checked_address)] = Field(description="host:port or [v6]:port")
    region: Name | None = Field(default=None, description="nodes of this region prefer it")
    weight: int = Field(default=1, ge=1, le=1000, description="its share among endpoints of the same nearness")


class Health(Word):
    """How endpoints are probed: GET `path` must answer 2xx or 3xx."""

    path: Annotated[str, Field(pattern=r"^/")] = "/"
    interval_seconds: Seconds = 1.0
    timeout_seconds: Seconds = 0.5
    rise: int = Field(default=2, ge=1, le=100, description="good answers in a row until it is up")
    fall: int = Field(default=3, ge=1, le=100, description="misses in a row until it is down")


class Upstream(Word):
    """A named set of endpoints that serve the same thing."""

    name: Name
    balance: Balance = "round_robin"
    endpoints: tuple[Endpoint, ...] = Field(min_length=1, max_length=10_000)
    health: Health | None = Field(default=None, description="without it only outcomes of requests tell")
    connect_timeout_seconds: Seconds = 1.0
    response_timeout_seconds: Seconds = Field(
        default=60.0,
        ge=0.1,  # gateway.SWEEP_SECONDS: a shorter one would end some answers that came in time
        description="longest silence while a response is awaited, to a tenth of a second",
    )
    idle_timeout_seconds: Seconds = Field(default=30.0, description="how long an unused connection is kept")
    retries: int = Field(default=2, ge=0, le=10, description="further tries on other endpoints before the first byte")
    connections_max: int = Field(default=1024, ge=1, le=65_536, description="per endpoint and worker")


class Match(Word):
    """Which requests a route takes. What is left out matches all; the most specific route wins."""

    host: str | None = Field(default=None, description="shop.example.com or *.example.com")
    path: Annotated[str, Field(pattern=r"^/")] | None = Field(default=None, description="exactly this path")
    path_prefix: Annotated[str, Field(pattern=r"^/")] | None = Field(
        default=None, description="whole segments: /api matches /api and /api/x, not /apix"
    )
    methods: tuple[Annotated[str, Field(pattern=r"^[A-Z]+$")], ...] = Field(default=(), description="all if none")

    @model_validator(mode="after")
    def _one_path(self) -> "Match":
        if self.path is not None and self.path_prefix is not None:
            raise ValueError("path and path_prefix exclude each other: keep one")
        return self


class Cache(Word):
    """Accepted so that documents stay valid; this version passes such requests on uncached and `apply` says so."""

    ttl_seconds: Seconds


class Stage(Word):
    """One step of a route: exactly one of its words."""

    authenticate: Name | None = Field(default=None, description="who asks; limits by consumer come after it")
    limit: Name | None = None
    cache: Cache | None = None

    @model_validator(mode="after")
    def _one_word(self) -> "Stage":
        if [self.authenticate, self.limit, self.cache].count(None) != 2:
            raise ValueError("a stage is exactly one of: authenticate, limit, cache")
        return self


class Route(Word):
    """From a match to an upstream, through stages in the order written."""

    name: Name
    match: Match = Match()
    upstream: Name
    stages: tuple[Stage, ...] = Field(default=(), max_length=32)


class Steer(Word):
    """An answer made from the cluster's verdict: only what serves, and all if nothing does.

    geo: nearest first. latency: quickest first, by the matrix. failover: the first region that serves. weighted: one
    region by draw. multivalue: all, turned by chance. sticky: one region, the same for a client's network each time.
    """

    policy: Literal["geo", "latency", "failover", "weighted", "multivalue", "sticky"] = "geo"
    regions: tuple[Name, ...] = Field(min_length=1)
    answers_max: int | None = Field(default=None, ge=1, le=32, description="at most so many addresses; all if absent")
    weights: dict[Name, Annotated[int, Field(ge=0, le=1000)]] = Field(
        default={}, description="for weighted: 1 if absent; 0: never, unless no region with a weight serves"
    )
    latency_milliseconds: dict[Name, dict[Name, Annotated[float, Field(ge=0, le=60_000)]]] = Field(
        default={}, description="for latency: from the region nearest to the client to each region"
    )

    @model_validator(mode="after")
    def _words_fit(self) -> "Steer":
        if self.weights and self.policy != "weighted":
            raise ValueError(f"weights mean nothing to policy {self.policy}: use policy weighted")
        if bool(self.latency_milliseconds) != (self.policy == "latency"):
            raise ValueError("policy latency and latency_milliseconds need each other: give both or none")
        named = [("weights", name) for name in self.weights]
        named += [(f"latency_milliseconds.{row}", name) for row, to in self.latency_milliseconds.items() for name in to]
        for word, name in named:
            if name not in self.regions:
                raise ValueError(f"{word}: {name!r} is not among the regions of this steer")
        return self


RecordType = Literal[
    "A", "AAAA", "ALIAS", "CAA", "CNAME", "DS", "HTTPS", "MX", "NS", "PTR", "SRV", "SVCB", "TLSA", "TXT"
]


class Record(Word):
    """One record set, or a name steered by the verdict."""

    name: str = Field(description="below the zone; @ is the zone itself")
    type: RecordType
    value: str | None = None
    values: tuple[str, ...] = Field(default=(), max_length=1000, description="several records of one name and type")
    steer: Steer | None = None
    alpn: tuple[Annotated[str, Field(min_length=1, max_length=255)], ...] = Field(
        default=(), description="for a steered HTTPS record: protocols, best first, such as [h3, h2]"
    )
    ttl_seconds: int = Field(default=300, ge=0, le=604_800)

    @model_validator(mode="after")
    def _one_source(self) -> "Record":
        if (self.value is not None) + bool(self.values) + (self.steer is not None) != 1:
            raise ValueError("a record has exactly one of: value, steer (or values: several)")
        if self.steer is not None and self.type not in ("A", "AAAA", "HTTPS"):
            raise ValueError("steer answers with addresses: type must be A, AAAA or HTTPS")
        if bool(self.alpn) != (self.steer is not None and self.type == "HTTPS"):
            raise ValueError("alpn belongs to a steered HTTPS record, and to no other")
        return self


class TsigKey(Word):
    """A secret shared with secondaries; they must spell its name and algorithm alike."""

    name: str = Field(description="a domain name, such as meridian-ns2.example.net")
    algorithm: Literal["hmac-sha256", "hmac-sha384", "hmac-sha512"] = "hmac-sha256"
    secret_file: str = Field(description="base64, as openssl rand -base64 32 writes it; read on the side of apply")


class Secondary(Word):
    """Another DNS server that may have the zone by transfer, and is told when it changes.

    It is known by where it asks from, and by its key if it has one. To know it by its key alone, give
    networks: ["0.0.0.0/0", "::/0"].
    """

    address: str | None = Field(
        default=None, description="where it is told of changes, port 53 unless given; without it, it only asks"
    )
    networks: tuple[Annotated[str, AfterValidator(_checked_network)], ...] = Field(
        default=(), max_length=64, description="where it asks from; its address alone if absent"
    )
    tsig_key: str | None = Field(default=None, description="the name of the key that must sign its requests")

    @model_validator(mode="after")
    def _is_somewhere(self) -> "Secondary":
        if self.address is None and not self.networks:
            raise ValueError("a secondary needs an address, networks, or both")
        if self.address is not None:
            split_dns_address(self.address)
        return self


class Dnssec(Word):
    """A zone is signed. Keys are made once and kept; to be unsigned again the parent lets go first."""

    algorithm: Literal[13, 15] = Field(default=13, description="13: ECDSA P-256, 15: Ed25519; fixed once keys exist")
    denial: Literal["compact", "white_lies"] = Field(
        default="compact", description="how what is missing is proved: RFC 9824, or RFC 4470"
    )
    split_keys: bool = Field(default=False, description="a KSK and a ZSK in place of one key; fixed once keys exist")
    parent_ttl_seconds: int = Field(default=172_800, ge=60, le=604_800, description="TTL of DS in the parent zone")


class Zone(Word):
    """A zone that the cluster's DNS servers are authoritative for. Its serial is the document's version.

    Secondaries steer nothing: a steered record goes to them with all addresses that the document gives its regions.
    """

    name: str
    nameservers: tuple[str, ...] = Field(min_length=1)
    contact: str | None = Field(default=None, description="mail address for the SOA, with @")
    serial_offset: int = Field(
        default=0, ge=0, lt=2**32, description="added to the serial: for secondaries that hold one of another primary"
    )
    secondaries: tuple[Secondary, ...] = Field(default=(), max_length=64)
    dnssec: Dnssec | None = None
    records: tuple[Record, ...] = Field(default=(), max_length=100_000)

    @model_validator(mode="after")
    def _is_signed_or_copied(self) -> "Zone":
        # A copy would hold no signatures while the parent says that the zone is signed: all of it would be bogus.
        if self.dnssec is not None and self.secondaries:
            raise ValueError("a zone that is signed as it is asked cannot be copied: remove `dnssec` or `secondaries`")
        return self


class AnswerLimit(Word):
    """What one client network (/24 of IPv4, /56 of IPv6) is answered by each DNS server over UDP, where addresses can
    be forged. Beyond it, some answers only say "ask by TCP" and the rest are left out. Who shows a valid cookie, or
    comes by TCP or TLS, is not limited."""

    rate: Annotated[str, BeforeValidator(checked_rate)] = Field(description="answers, such as 200/s")
    burst: int = Field(ge=1, le=1_000_000, description="answers at once")
    slip: int = Field(default=2, ge=0, le=10, description="over the limit, one of so many says ask by TCP; 0: none")


class Dns(Word):
    """How the DNS servers treat their clients."""

    limit: AnswerLimit | None = Field(default=None, description="no limit if absent")


class Tracing(Word):
    """Which requests are traced and where spans go (OTLP over gRPC)."""

    sample_ratio: float = Field(default=0.0, ge=0, le=1)
    otlp_endpoint: str | None = Field(default=None, description="http://host:4317; https for TLS")


class Steering(Word):
    """How steered answers of all zones react to doubt: they are kept for less long while a region is suspect, or has
    come to stand otherwise lately, so that the next change reaches clients sooner."""

    doubt_ttl_seconds: int = Field(default=5, ge=0, le=86400, description="time to live of steered answers in doubt")
    doubt_lasts_seconds: float = Field(default=60.0, ge=0, le=86400, description="after a region's last change")


class Rollout(Word):
    """How `apply` brings the next document into force: a small share first, then a region, then all."""

    canary_percent: float = Field(default=5.0, gt=0, le=50, description="of the exchanges on canary nodes")
    region: Name | None = Field(default=None, description="that takes it before all others; by default the first")
    min_exchanges: int = Field(default=200, ge=50, le=1_000_000, description="of the candidate, in each stage")
    stage_seconds: Seconds = Field(default=10.0, description="that each stage lasts at least")


class Document(Word):
    """Everything, validated, versioned and applied as a whole."""

    listeners: tuple[Listener, ...] = Field(min_length=1, max_length=64)
    certificates: tuple[Certificate, ...] = ()
    regions: tuple[Region, ...] = ()
    upstreams: tuple[Upstream, ...] = ()
    authenticators: tuple[Authenticator, ...] = ()
    limits: tuple[Limit, ...] = ()
    routes: tuple[Route, ...] = ()
    tsig_keys: tuple[TsigKey, ...] = Field(default=(), max_length=1000)
    zones: tuple[Zone, ...] = ()
    dns: Dns = Dns()
    tracing: Tracing = Tracing()
    steering: Steering = Steering()
    rollout: Rollout = Rollout()

    def files(self) -> Iterator[tuple[str, str]]:
        """Yields (place, name) of each file that the document names, to be read beside it."""
        yield from self.certificate_files()
        yield from self.secret_files()

    def certificate_files(self) -> Iterator[tuple[str, str]]:
        """Those of them that TLS is served with."""
        for i, certificate in enumerate(self.certificates):
            yield f"certificates[{i}].cert_file", certificate.cert_file
            yield f"certificates[{i}].key_file", certificate.key_file

    def secret_files(self) -> Iterator[tuple[str, str]]:
        """Those of them that DNS alone knows."""
        for i, key in enumerate(self.tsig_keys):
            yield f"tsig_keys[{i}].secret_file", key.secret_file

    def problems(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """Yields (place, message) for each reference that leads nowhere and each name used twice."""
        for section in ("listeners", "regions", "upstreams", "authenticators", "limits", "routes", "zones"):
            yield from _repeated(section, [item.name for item in getattr(self, section)])
        yield from _repeated("tsig_keys", [key.name.lower().rstrip(".") for key in self.tsig_keys])
        regions, upstreams = (
            dict.fromkeys(item.name for item in getattr(self, section)) for section in ("regions", "upstreams")
        )
        for i, region in enumerate(self.regions):
            yield from _unknown(("regions", i, "fallback"), region.fallback, regions, "region")
        for i, upstream in enumerate(self.upstreams):
            for j, endpoint in enumerate(upstream.endpoints):
                if endpoint.region is not None:
                    spot = ("upstreams", i, "endpoints", j, "region")
                    yield from _unknown(spot, (endpoint.region,), regions, "region")
        if self.rollout.region is not None:
            yield from _unknown(("rollout", "region"), (self.rollout.region,), regions, "region")
        for i, route in enumerate(self.routes):
            yield from _unknown(("routes", i, "upstream"), (route.upstream,), upstreams, "upstream")
            yield from self._stage_problems(i, route)
        keys = dict.fromkeys(key.name for key in self.tsig_keys)
        for i, zone in enumerate(self.zones):
            for j, secondary in enumerate(zone.secondaries):
                if secondary.tsig_key is not None:
                    yield from _unknown(("zones", i, "secondaries", j, "tsig_key"), (secondary.tsig_key,), keys, "key")
            for j, record in enumerate(zone.records):
                if record.steer is not None:
                    place = ("zones", i, "records", j, "steer", "regions")
                    yield from _unknown(place, record.steer.regions, regions, "region")
                    rows = ("zones", i, "records", j, "steer", "latency_milliseconds")
                    yield from _unknown(rows, tuple(record.steer.latency_milliseconds), regions, "region")
        if not self.certificates and any(listener.uses_tls for listener in self.listeners):
            yield ("certificates",), "a listener uses TLS but there is no certificate; add one under certificates"

    def _stage_problems(self, index: int, route: Route) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """Of one route: what its stages name, and in which order."""
        limits = {limit.name: limit for limit in self.limits}
        authenticators = dict.fromkeys(item.name for item in self.authenticators)
        known: str | None = None  # who said who asks
        for j, stage in enumerate(route.stages):
            place = ("routes", index, "stages", j)
            if stage.authenticate is not None:
                yield from _unknown((*place, "authenticate"), (stage.authenticate,), authenticators, "authenticator")
                if known is not None:
                    yield (*place, "authenticate"), f"{known!r} has said already who asks; keep one authenticate"
                known = stage.authenticate
            if stage.limit is not None:
                yield from _unknown((*place, "limit"), (stage.limit,), limits, "limit")
                if stage.limit in limits and "consumer" in limits[stage.limit].key and known is None:
                    yield (*place, "limit"), "its key is the consumer: put a stage authenticate before it"

    def warnings(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """Yields (place, message) for what is accepted but does less than it says."""
        for i, route in enumerate(self.routes):
            for j, stage in enumerate(route.stages):
                if stage.cache is not None:
                    yield (
                        ("routes", i, "stages", j, "cache"),
                        "this version has no cache yet: requests pass on uncached",
                    )


def _repeated(section: str, names: list[str]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    seen: set[str] = set()
    for i, name in enumerate(names):
        if name in seen:
            yield (section, i, "name"), f"{name!r} is used twice in {section}; names are unique"
        seen.add(name)


def _unknown(
    place: tuple[str | int, ...], names: tuple[str, ...], known: Collection[str], kind: str
) -> Iterator[tuple[tuple[str | int, ...], str]]:
    for name in names:
        if name not in known:
            choices = ", ".join(islice(known, 8)) or "none is defined"
            yield place, f"there is no {kind} {name!r} (known: {choices})"
