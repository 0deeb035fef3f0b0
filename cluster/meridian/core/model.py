"""The operator's document: its words, their defaults and their bounds.

Everything an operator may write stands here and in the `_words` modules beside it, and nowhere else; `meridian schema`
exports it. Unknown words are refused (core/document.py names the nearest known one). Rules that need more than one
section, such as a route that names an upstream, are in `Document.problems`.
"""

from collections.abc import Collection, Iterator
from itertools import islice
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from meridian.core.acme_words import Acme, host_problems, is_in_zone
from meridian.core.addresses import checked_bind, checked_ip, checked_near, checked_network
from meridian.core.authentication import Authenticator
from meridian.core.dns_words import Dns, Dnssec, Group, Steering, TsigKey, Zone
from meridian.core.forward_words import ForwardProxy
from meridian.core.guard_words import Guards
from meridian.core.l4_words import L4Route
from meridian.core.limit_words import Limit, checked_rate
from meridian.core.overload_words import Overload
from meridian.core.route_making import make_route, too_many_patterns, useless
from meridian.core.route_words import Route
from meridian.core.tls_words import ClientCertificates, Profile
from meridian.core.upstream_words import Upstream
from meridian.core.words import Name, Seconds, Word

FILE_BYTES_MAX = 1024 * 1024  # a certificate chain with its key has some KiB, a secret less; more is the wrong file
ZONE_FILE_BYTES_MAX = 8 * 1024 * 1024  # 150,000 records; with them, the whole of a document is below the store's limit

Protocol = Literal["h1", "h2", "h3", "tcp", "udp"]


class Hsts(Word):
    """Strict-Transport-Security (RFC 6797): browsers that have seen it ask only over TLS."""

    max_age_seconds: int = Field(default=31_536_000, ge=0, le=126_144_000, description="0 makes browsers forget it")
    include_subdomains: bool = False
    preload: bool = Field(default=False, description="may be taken into browsers themselves, which is hard to undo")


class Listener(Word):
    """An address where every node accepts connections. TLS is on where h2 or h3 is, or where `tls` says so. What comes
    to a listener of tcp or udp passes through, see `l4_routes`.
    """

    name: Name
    bind: Annotated[str, AfterValidator(checked_bind)] = Field(description="0.0.0.0:443 or [::]:443; see --address")
    protocols: tuple[Protocol, ...] = Field(min_length=1)
    tls: bool | None = Field(
        default=None,
        description="by default on where protocols has h2 or h3; false with h2: clients begin with HTTP/2 unencrypted"
        " (prior knowledge, RFC 9113 section 3.3), as gRPC's do within a network",
    )
    trusted_proxies: tuple[Annotated[str, AfterValidator(checked_network)], ...] = Field(
        default=(), description="networks whose X-Forwarded-* fields are believed and extended"
    )
    client_field: Literal["x-forwarded-for", "forwarded"] = Field(
        default="x-forwarded-for",
        description="where trusted proxies name their client; the other is not believed",
    )
    https_redirect: bool = Field(default=False, description="everything here is sent to the listener with TLS (308)")
    hsts: Hsts | None = Field(default=None, description="of a listener with TLS")
    tls_profile: Profile = Field(
        default="intermediate", description="Mozilla's: TLS 1.2 and 1.3, or modern: TLS 1.3 alone"
    )
    client_certificates: ClientCertificates | None = Field(default=None, description="without it none is asked for")

    early_data: bool = Field(
        default=False,
        description="of h3: clients that come back send GET, HEAD and OPTIONS with the first packet (0-RTT); upstreams"
        " are told by Early-Data: 1, other requests get 425",
    )
    forward_proxy: ForwardProxy | None = Field(default=None, description="of a listener of its own")
    proxy_protocol: bool = Field(
        default=False,
        description="only trusted_proxies come, and first say by the PROXY protocol (v1 or v2) who their client is",
    )
    guards: Guards = Guards()

    @property
    def uses_tls(self) -> bool:
        """Whether connections to this listener are encrypted."""
        return self.tls if self.tls is not None else bool({"h2", "h3"} & set(self.protocols))

    @model_validator(mode="after")
    def _tls_fits(self) -> "Listener":
        if self.tls is False and "h3" in self.protocols:
            raise ValueError("h3 needs TLS; leave out tls: false, or serve only h1 and h2 here")
        if self.https_redirect and self.uses_tls:
            raise ValueError("https_redirect is of a listener without TLS: clients of this one speak it already")
        if self.early_data and ("h3" not in self.protocols or self.client_certificates is not None):
            raise ValueError("early_data is of a listener with h3, and without client_certificates")
        if self.hsts is not None and not self.uses_tls:
            raise ValueError("hsts is of a listener with TLS: without it browsers ignore the field")
        if self.client_certificates is not None and not self.uses_tls:
            raise ValueError("client_certificates need TLS; add tls: true")
        return self

    @property
    def passes_through(self) -> bool:
        """Whether `l4_routes` take its connections, not `routes`."""
        return bool({"tcp", "udp"} & set(self.protocols))

    @model_validator(mode="after")
    def _is_one_proxy(self) -> "Listener":
        if self.forward_proxy is not None and (self.passes_through or self.https_redirect or self.hsts):
            raise ValueError(
                "forward_proxy is of a listener of its own: h1, h2 and h3 alone, no https_redirect and no hsts"
            )
        return self

    @model_validator(mode="after")
    def _is_of_one_layer(self) -> "Listener":
        if self.passes_through and {"h1", "h2", "h3"} & set(self.protocols):
            raise ValueError("tcp and udp pass through, HTTP is read here: give each a listener with a port of its own")
        if self.passes_through and (self.tls or (self.trusted_proxies and not self.proxy_protocol)):
            raise ValueError(
                "tcp and udp pass through unread: leave out tls (and trusted_proxies but for proxy_protocol)"
            )
        return self

    @model_validator(mode="after")
    def _proxies_are_known(self) -> "Listener":
        if self.proxy_protocol and not self.trusted_proxies:
            raise ValueError("proxy_protocol needs trusted_proxies: the networks whose word is taken for the client")
        if self.proxy_protocol and {"h3", "udp"} & set(self.protocols):
            raise ValueError("the PROXY protocol is of TCP: give h3 or udp a listener of its own")
        return self


class Certificate(Word):
    """A certificate that is served for these hosts (RFC 6125 wildcards): its chain and key, read on the side of
    `apply`, or where it is obtained. Until it is, a host that no other entry serves gets a placeholder that nobody
    believes."""

    hosts: tuple[str, ...] = Field(min_length=1, description="shop.example.com or *.example.com")
    cert_file: str | None = Field(default=None, description="PEM chain, leaf first; relative to the document's folder")
    key_file: str | None = Field(default=None, description="PEM key without a password")
    acme: Name | None = Field(default=None, description="authority that it is obtained from and renewed by, in `acme`")

    @model_validator(mode="after")
    def _comes_from_somewhere(self) -> "Certificate":
        files = self.cert_file is not None, self.key_file is not None
        if files != ((False, False) if self.acme is not None else (True, True)):
            raise ValueError("give cert_file and key_file, or acme: the name of an authority")
        return self


class Region(Word):
    """Where nodes stand, and which clients are near them."""

    name: Name
    addresses: tuple[Annotated[str, AfterValidator(checked_ip)], ...] = Field(
        default=(), description="what DNS answers for this region instead of what its nodes advertise"
    )
    near: tuple[Annotated[str, AfterValidator(checked_near)], ...] = Field(
        default=(), description="continent/EU, country/TR or 203.0.113.0/24; the longest network wins, then the country"
    )
    fallback: tuple[Name, ...] = Field(default=(), description="regions that come next for these clients")
    capacity: Annotated[str, BeforeValidator(checked_rate)] | None = Field(
        default=None, description="requests that it carries, such as 5000/s; where all say it, load decides who moves"
    )


class Tracing(Word):
    """Which requests are traced and where spans go (OTLP over gRPC)."""

    sample_ratio: float = Field(default=0.0, ge=0, le=1)
    otlp_endpoint: str | None = Field(default=None, description="http://host:4317; https for TLS")


class Cache(Word):
    """The memory that answers are kept in (stages: cache)."""

    bytes_max: int = Field(default=64 * 1024 * 1024, ge=0, le=64 * 1024**3, description="of each gateway worker")


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
    acme: tuple[Acme, ...] = Field(default=(), max_length=100)
    regions: tuple[Region, ...] = ()
    upstreams: tuple[Upstream, ...] = ()
    authenticators: tuple[Authenticator, ...] = ()
    limits: tuple[Limit, ...] = ()
    routes: tuple[Route, ...] = ()
    l4_routes: tuple[L4Route, ...] = Field(default=(), max_length=1000)
    tsig_keys: tuple[TsigKey, ...] = Field(default=(), max_length=1000)
    zones: tuple[Zone, ...] = ()
    dns: Dns = Dns()
    tracing: Tracing = Tracing()
    steering: Steering = Steering()
    rollout: Rollout = Rollout()
    overload: Overload | None = Field(default=None, description="without it no request is turned away for it")
    cache: Cache = Cache()

    def files(self) -> Iterator[tuple[str, str]]:
        """Yields (place, name) of each file that the document names, to be read beside it."""
        yield from self.certificate_files()
        yield from self.client_files()
        yield from self.upstream_files()
        yield from self.acme_files()
        yield from self.secret_files()
        yield from self.zone_files()

    def certificate_files(self) -> Iterator[tuple[str, str]]:
        """Those of them that TLS is served with."""
        for i, certificate in enumerate(self.certificates):
            for word in ("cert_file", "key_file"):
                if (name := getattr(certificate, word)) is not None:
                    yield f"certificates[{i}].{word}", name

    def client_files(self) -> Iterator[tuple[str, str]]:
        """Those of them that clients' certificates are judged by."""
        for i, listener in enumerate(self.listeners):
            for word in ("ca_file", "crl_file"):
                if (name := getattr(listener.client_certificates, word, None)) is not None:
                    yield f"listeners[{i}].client_certificates.{word}", name

    def upstream_files(self) -> Iterator[tuple[str, str]]:
        """Those of them that endpoints are spoken to with."""
        for i, upstream in enumerate(self.upstreams):
            for word in ("ca_file", "cert_file", "key_file"):
                if (name := getattr(upstream.tls, word, None)) is not None:
                    yield f"upstreams[{i}].tls.{word}", name

    def acme_files(self) -> Iterator[tuple[str, str]]:
        """Those of them that authorities are spoken to with."""
        for i, authority in enumerate(self.acme):
            if authority.ca_file is not None:
                yield f"acme[{i}].ca_file", authority.ca_file
            if authority.external_account is not None:
                yield f"acme[{i}].external_account.key_file", authority.external_account.key_file

    def secret_files(self) -> Iterator[tuple[str, str]]:
        """Those of them that DNS alone knows."""
        for i, key in enumerate(self.tsig_keys):
            yield f"tsig_keys[{i}].secret_file", key.secret_file

    def zone_files(self) -> Iterator[tuple[str, str]]:
        """Those of them that hold records of zones."""
        for i, zone in enumerate(self.zones):
            if zone.file is not None:
                yield f"zones[{i}].file", zone.file

    def problems(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """Yields (place, message) for each reference that leads nowhere and each name used twice."""
        for section in ("listeners", "acme", "regions", "upstreams", "authenticators", "limits", "routes", "l4_routes"):
            yield from _repeated(section, [item.name for item in getattr(self, section)])
        yield from _repeated("zones", [zone.title for zone in self.zones])
        for place, message in _repeated("views", [view.name for view in self.dns.views]):
            yield ("dns", *place), message
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
            for place, name in route.upstreams():
                yield from _unknown(("routes", i, *place), (name,), upstreams, "upstream")
            yield from self._stage_problems(i, route)
        for i, l4_route in enumerate(self.l4_routes):
            yield from _unknown(("l4_routes", i, "upstream"), (l4_route.upstream,), upstreams, "upstream")
            if any(upstream.name == l4_route.upstream and upstream.tls for upstream in self.upstreams):
                yield (
                    ("l4_routes", i, "upstream"),
                    "what passes through is not encrypted here; leave out the upstream's tls",
                )
        yield from self._certificate_problems()
        yield from self._l4_problems()
        yield from self._forward_problems()
        places = {route.name: ("routes", i, "match") for i, route in enumerate(self.routes)}
        if any(route.match.path_regex is not None for route in self.routes):
            for name, problem in too_many_patterns([make_route(route) for route in self.routes]):
                yield (*places[name], "path_regex"), problem
        if not any(listener.client_certificates for listener in self.listeners):
            for i, authenticator in enumerate(self.authenticators):
                if authenticator.uses_certificates:
                    yield ("authenticators", i), "no listener asks for a certificate; give one client_certificates"
        keys = dict.fromkeys(key.name for key in self.tsig_keys)
        views = dict.fromkeys(view.name for view in self.dns.views)
        signing: dict[str, Dnssec | None] = {}
        for i, zone in enumerate(self.zones):
            if zone.view is not None:
                yield from _unknown(("zones", i, "view"), (zone.view,), views, "view")
            # Validators take the parent's word for all views alike, and the keys are those of the name.
            if signing.setdefault(zone.name.lower().rstrip("."), zone.dnssec) != zone.dnssec:
                yield ("zones", i, "dnssec"), f"{zone.name} has another dnssec in another view: say the same in all"
            for j, secondary in enumerate(zone.secondaries):
                if secondary.tsig_key is not None:
                    yield from _unknown(("zones", i, "secondaries", j, "tsig_key"), (secondary.tsig_key,), keys, "key")
            for j, record in enumerate(zone.records):
                if record.steer is not None:
                    yield from _steer_problems(("zones", i, "records", j, "steer"), record.steer, regions)
        for i, listener in enumerate(self.listeners):
            if listener.https_redirect and not any(other.uses_tls for other in self.listeners):
                yield ("listeners", i, "https_redirect"), "there is no listener with TLS to send clients to; add one"
        if not self.certificates and any(listener.uses_tls for listener in self.listeners):
            yield ("certificates",), "a listener uses TLS but there is no certificate; add one under certificates"

    def _certificate_problems(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """Of certificates that are obtained: from whom, and whether their hosts can be proven."""
        authorities = {authority.name: authority for authority in self.acme}
        for i, certificate in enumerate(self.certificates):
            if certificate.acme in authorities:
                for problem in host_problems(authorities[certificate.acme], certificate.hosts):
                    yield ("certificates", i, "hosts"), problem
            elif certificate.acme is not None:
                yield from _unknown(("certificates", i, "acme"), (certificate.acme,), authorities, "authority")

    def _l4_problems(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """Of connections that pass through: whose they are."""
        listeners = {listener.name: listener for listener in self.listeners if listener.passes_through}
        taken: dict[tuple[str, str], str] = {}
        for i, route in enumerate(self.l4_routes):
            yield from _unknown(("l4_routes", i, "listener"), (route.listener,), listeners, "listener of tcp or udp")
            for name in route.server_names or ("",):
                other = taken.setdefault((route.listener, name), route.name)
                if other != route.name:
                    what = f"server name {name!r}" if name else "what no other route takes"
                    yield ("l4_routes", i), f"{other!r} takes {what} of this listener already; keep one of the two"
            udp = route.listener in listeners and "udp" in listeners[route.listener].protocols
            if udp and (route.server_names or route.proxy_protocol):
                yield ("l4_routes", i), "server_names and proxy_protocol are of TCP, and its listener has udp, too"
        routed = {route.listener for route in self.l4_routes}
        for i, listener in enumerate(self.listeners):
            if listener.passes_through and listener.name not in routed:
                yield ("listeners", i), "nothing takes its connections: add an entry of l4_routes that names it"

    def _forward_problems(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """Of forward proxies: what they name."""
        limits = {limit.name: limit for limit in self.limits}
        authenticators = {one.name: one for one in self.authenticators}
        for i, listener in enumerate(self.listeners):
            proxy, place = listener.forward_proxy, ("listeners", i, "forward_proxy")
            if proxy is None:
                continue
            yield from _unknown((*place, "limits"), proxy.limits, limits, "limit")
            if proxy.authenticate is None:
                for name in proxy.limits:
                    if name in limits and "consumer" in limits[name].key:
                        yield (*place, "limits"), f"the key of {name!r} is the consumer: say authenticate, too"
                continue
            yield from _unknown((*place, "authenticate"), (proxy.authenticate,), authenticators, "authenticator")
            gate = authenticators.get(proxy.authenticate)
            if gate is not None and not gate.basic and not gate.uses_certificates:
                yield (*place, "authenticate"), "clients of a proxy show who they are by basic: true, or a certificate"

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
        for i, upstream in enumerate(self.upstreams):
            if upstream.tls is not None and not upstream.tls.verify:
                yield ("upstreams", i, "tls", "verify"), "endpoints are not verified: anybody on the way may read along"
        yield from self._challenge_warnings()
        places = {route.name: i for i, route in enumerate(self.routes)}
        for name, problem in useless([make_route(route) for route in self.routes]):
            yield ("routes", places[name], "match"), problem

    def _challenge_warnings(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """Of proofs that an authority may not find."""
        challenges = {authority.name: authority.challenge for authority in self.acme}
        plain = any("h1" in listener.protocols and not listener.uses_tls for listener in self.listeners)
        for i, certificate in enumerate(self.certificates):
            challenge = challenges.get(certificate.acme or "")
            if challenge == "http-01" and not plain:
                yield ("certificates", i, "acme"), "http-01 asks on port 80, and no listener has h1 without TLS"
            copied = [zone.name for zone in self.zones if zone.secondaries]
            if challenge == "dns-01" and any(is_in_zone(host, zone) for host in certificate.hosts for zone in copied):
                problem = (
                    "its zone has secondaries, which never see the proof; use http-01, or let none be delegated to"
                )
                yield ("certificates", i, "acme"), problem


def file_bytes_max(place: str) -> int:
    """How large the file that a document names at `place` (of `Document.files`) may be."""
    return ZONE_FILE_BYTES_MAX if place.startswith("zones[") else FILE_BYTES_MAX


def _repeated(section: str, names: list[str]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    seen: set[str] = set()
    for i, name in enumerate(names):
        if name in seen:
            yield (section, i, "name"), f"{name!r} is used twice in {section}; names are unique"
        seen.add(name)


def _steer_problems(
    place: tuple[str | int, ...], steer: Group, regions: Collection[str]
) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Of one steer or group: the regions that it names."""
    known = dict.fromkeys((*steer.groups, *regions))
    yield from _unknown((*place, "regions"), steer.regions, known, "region")
    yield from _unknown((*place, "latency_milliseconds"), tuple(steer.latency_milliseconds), known, "region")
    for name, group in steer.groups.items():
        if name in regions:
            yield (*place, "groups", name), f"{name!r} is a region: give the group another name"
        yield from _steer_problems((*place, "groups", name), group, regions)


def _unknown(
    place: tuple[str | int, ...], names: tuple[str, ...], known: Collection[str], kind: str
) -> Iterator[tuple[tuple[str | int, ...], str]]:
    for name in names:
        if name not in known:
            choices = ", ".join(islice(known, 8)) or "none is defined"
            yield place, f"there is no {kind} {name!r} (known: {choices})"
