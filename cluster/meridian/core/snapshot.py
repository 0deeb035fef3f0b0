"""The document compiled for workers: immutable, replaced whole by one assignment, never patched.

An exchange takes the current snapshot once and keeps it to its end, so that it never sees two versions.
`compile_snapshot` checks again what `apply` checked: a node trusts nobody's validation but its own.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from math import inf
from typing import Literal

from meridian.core import (
    addresses,
    l4_words,
    limit_words,
    model,
    outliers,
    retrying,
    upstream_words,
)
from meridian.core.acme import certificate_id
from meridian.core.adaptive import Adaptive
from meridian.core.authentication import Gate
from meridian.core.forward_proxy import route_name
from meridian.core.forward_words import ForwardProxy
from meridian.core.guards import USUAL, Guards
from meridian.core.hashing import Table, maglev_of, ring_of
from meridian.core.hedging import Hedge
from meridian.core.l4 import L4Route, L4Table, build_l4
from meridian.core.overload_making import make_adaptive, make_bounds
from meridian.core.rates import parse_rate
from meridian.core.retry_making import make_hedge, make_retry
from meridian.core.retrying import Allowance, Policy, Timeouts
from meridian.core.route_making import make_forward_route, make_route
from meridian.core.routing import DNS, Route, RouteTable, build_table
from meridian.core.shedding import Bounds

_TABLES: Mapping[str, Callable[[tuple[tuple[str, int], ...]], Table]] = {
    "ring_hash": ring_of,
    "maglev": maglev_of,
    "ip_hash": maglev_of,
}


class SnapshotError(Exception):
    """This document cannot run here: the message names the place and the remedy."""


@dataclass(frozen=True, slots=True)
class ClientAuth:
    """See tls_words.ClientCertificates; PEM."""

    ca_pem: bytes
    required: bool = True
    crl_pem: bytes | None = None
    forward: bool = True


@dataclass(frozen=True, slots=True)
class Listener:
    """See model.Listener; `host` is an IP address."""

    name: str
    host: str
    port: int
    protocols: tuple[str, ...]
    tls: bool
    trusted_proxies: tuple[str, ...]
    client_field: str = "x-forwarded-for"
    proxy_protocol: bool = False
    https_redirect: bool = False
    hsts: bytes | None = None  # the field's value
    tls_profile: str = "intermediate"
    client_auth: ClientAuth | None = None
    early_data: bool = False
    forward: Route | None = None  # of a forward proxy: what takes all its requests
    guards: Guards = USUAL


@dataclass(frozen=True, slots=True)
class Certificate:
    """PEM chain and key for these hosts."""

    hosts: tuple[str, ...]
    chain_pem: bytes
    key_pem: bytes


@dataclass(frozen=True, slots=True)
class Ordered:
    """A certificate that is obtained by ACME, and what it is kept under (core/acme)."""

    hosts: tuple[str, ...]
    id: str


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address; `index` is its place in its upstream, so that state can stand in lists."""

    index: int
    address: str
    host: str
    port: int
    region: str | None
    weight: int
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Sticky:
    """See upstream_words.Sticky. `tokens` are what the cookie says of each endpoint, in their order."""

    cookie: bytes
    attributes: bytes
    tokens: tuple[bytes, ...]
    places: Mapping[bytes, int]  # of tokens


@dataclass(frozen=True, slots=True)
class Breakers:
    """See upstream_words.Breakers; what is not limited is infinite."""

    requests_max: float = inf
    pending_max: float = inf
    connections_max: float = inf
    retries_max: float = inf


@dataclass(frozen=True, slots=True)
class UpstreamTls:
    """See tls_words.UpstreamTls; PEM. No authorities: the system's."""

    verify: bool = True
    server_name: str | None = None
    ca_pem: bytes | None = None
    chain_pem: bytes | None = None
    key_pem: bytes | None = field(default=None, repr=False)
    min_version: str = "1.2"


@dataclass(frozen=True, slots=True)
class Upstream:
    """See upstream_words.Upstream."""

    name: str
    balance: str
    endpoints: tuple[Endpoint, ...]
    health: upstream_words.Health | None
    connect_timeout_seconds: float
    idle_timeout_seconds: float
    connections_max: int
    table: Table | None = None  # of balance by hash
    hash_on: str = "client_ip"
    load_bound: float = 0.0
    sticky: Sticky | None = None
    slow_start_seconds: float = 0.0
    has_priorities: bool = False
    spill_below: float = 0.0
    panic_below: float = 0.0
    ejection: outliers.Policy = outliers.USUAL
    breakers: Breakers = Breakers()
    retry: Policy = retrying.USUAL
    retry_budget: Allowance = field(default_factory=Allowance)
    timeouts: Timeouts = field(default_factory=Timeouts)
    tls: UpstreamTls | None = None
    hedge: Hedge | None = None
    protocol: Literal["h1", "h2"] = "h1"
    streams_max: int = 100
    adaptive: Adaptive | None = None


@dataclass(frozen=True, slots=True)
class Limit:
    """See model.Limit; amounts are requests, of all nodes together. `kind` says which of the words below counts."""

    name: str
    key: tuple[str, ...]
    rate_per_second: float = 0.0
    burst: int = 0
    kind: Literal["rate", "window", "quota", "concurrent"] = "rate"
    amount: int = 0  # of a window, a quota, or under way
    window_seconds: float = 0.0
    period: Literal["day", "month"] = "day"
    time_zone: str = "UTC"
    status: int = 429
    dry_run: bool = False
    announce: bool = True
    when_unreachable: Literal["deny", "allow"] = "deny"
    when_store_is_lost: Literal["floor", "deny", "open"] = "floor"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One version of everything a gateway worker needs."""

    version: int
    listeners: tuple[Listener, ...]
    certificates: tuple[Certificate | Ordered, ...]
    upstreams: Mapping[str, Upstream]
    gates: Mapping[str, Gate]
    limits: Mapping[str, Limit]
    table: RouteTable
    l4: Mapping[str, L4Table]  # by listener
    regions: tuple[str, ...]
    trace_ratio: float
    overload: Bounds | None = None
    cache_bytes_max: int = 0

    def upstream_of(self, route: Route) -> Upstream:
        """The upstream that `route` leads to; it exists, compile_snapshot saw to it."""
        return self.upstreams[route.upstream]


def compile_snapshot(
    document: model.Document, files: Mapping[str, bytes], version: int, dns_socket: str = ""
) -> Snapshot:
    """Compiles a document. `files` maps the names of files to their contents; at `dns_socket` (a path)
    the node's DNS server takes what routes hand on.

    Raises SnapshotError where a reference leads nowhere or a file is missing.
    """
    for place, problem in document.problems():
        raise SnapshotError(f"{'.'.join(map(str, place))}: {problem}")
    limits = {limit.name: _limit(limit) for limit in document.limits}
    routes = [make_route(route) for route in document.routes]
    return Snapshot(
        version=version,
        listeners=tuple(_listener(listener, files) for listener in document.listeners),
        certificates=compile_certificates(document, files),
        upstreams={
            **{upstream.name: _upstream(upstream, files) for upstream in document.upstreams},
            **({DNS: _dns_upstream(dns_socket)} if any(route.dns for route in routes) else {}),
            **{
                route_name(one.name): _passing_upstream(one.name, one.forward_proxy)
                for one in document.listeners
                if one.forward_proxy is not None
            },
        },
        gates={one.name: Gate.of(one) for one in document.authenticators},
        limits=limits,
        table=build_table(routes),
        l4=build_l4(_l4_route(route) for route in document.l4_routes),
        regions=tuple(region.name for region in document.regions),
        trace_ratio=document.tracing.sample_ratio,
        overload=make_bounds(document.overload) if document.overload is not None else None,
        cache_bytes_max=document.cache.bytes_max,
    )


def compile_certificates(document: model.Document, files: Mapping[str, bytes]) -> tuple[Certificate | Ordered, ...]:
    """The certificates alone, for workers that serve nothing else of a snapshot. Raises SnapshotError."""
    directories = {authority.name: authority.directory for authority in document.acme}
    return tuple(_certificate(certificate, files, directories) for certificate in document.certificates)


def _listener(listener: model.Listener, files: Mapping[str, bytes]) -> Listener:
    host, port = addresses.split_host_port(listener.bind)
    return Listener(
        listener.name,
        host,
        port,
        listener.protocols,
        listener.uses_tls,
        listener.trusted_proxies,
        listener.client_field,
        listener.proxy_protocol,
        listener.https_redirect,
        _hsts(listener.hsts) if listener.hsts is not None else None,
        listener.tls_profile,
        compile_client_auth(listener, files),
        listener.early_data,
        make_forward_route(listener.name, listener.forward_proxy) if listener.forward_proxy is not None else None,
        Guards.of(listener.guards),
    )


def _hsts(words: model.Hsts) -> bytes:
    parts = [f"max-age={words.max_age_seconds}"]
    parts += ["includeSubDomains"] if words.include_subdomains else []
    parts += ["preload"] if words.preload else []
    return "; ".join(parts).encode()


def compile_client_auth(listener: model.Listener, files: Mapping[str, bytes]) -> ClientAuth | None:
    """What is asked of clients' certificates. Raises SnapshotError if a file did not come."""
    words = listener.client_certificates
    if words is None:
        return None
    place = f"listeners: {listener.name}"
    crl = _file(words.crl_file, files, place) if words.crl_file is not None else None
    return ClientAuth(_file(words.ca_file, files, place), words.required, crl, words.forward)


def _certificate(
    certificate: model.Certificate, files: Mapping[str, bytes], directories: Mapping[str, str]
) -> Certificate | Ordered:
    if certificate.acme is not None:
        return Ordered(certificate.hosts, certificate_id(directories[certificate.acme], certificate.hosts))
    assert certificate.cert_file is not None and certificate.key_file is not None
    chain = _file(certificate.cert_file, files, "certificates")
    return Certificate(certificate.hosts, chain, _file(certificate.key_file, files, "certificates"))


def _file(name: str, files: Mapping[str, bytes], place: str) -> bytes:
    if name not in files:
        raise SnapshotError(f"{place}: the contents of {name} did not come with the document; apply it again")
    return files[name]


def _limit(limit: limit_words.Limit) -> Limit:
    bare = Limit(
        limit.name,
        limit.key,
        status=limit.status,
        dry_run=limit.dry_run,
        announce=limit.announce,
        when_unreachable=limit.when_unreachable,
        when_store_is_lost=limit.when_store_is_lost,
    )
    if limit.window is not None:
        amount, seconds = limit_words.parse_window(limit.window)
        return replace(bare, kind="window", amount=amount, window_seconds=seconds)
    if limit.quota is not None:
        amount, period = limit_words.parse_quota(limit.quota)
        return replace(bare, kind="quota", amount=amount, period=period, time_zone=limit.time_zone)
    if limit.concurrent is not None:
        return replace(bare, kind="concurrent", amount=limit.concurrent)
    assert limit.rate is not None and limit.burst is not None, "model.Limit has seen to it"
    return replace(bare, rate_per_second=parse_rate(limit.rate), burst=limit.burst)


def _l4_route(route: l4_words.L4Route) -> L4Route:
    version = {None: 0, "v1": 1, "v2": 2}[route.proxy_protocol]
    return L4Route(route.name, route.listener, route.server_names, route.upstream, version, route.idle_timeout_seconds)


def _upstream(upstream: upstream_words.Upstream, files: Mapping[str, bytes]) -> Upstream:
    endpoints = []
    for index, one in enumerate(upstream.endpoints):
        host, port = addresses.split_host_port(one.address)
        endpoints.append(Endpoint(index, one.address, host, port, one.region, one.weight, one.priority))
    weights = tuple((endpoint.address, endpoint.weight) for endpoint in upstream.endpoints)
    make_table = _TABLES.get(upstream.balance)
    return Upstream(
        name=upstream.name,
        balance=upstream.balance,
        endpoints=tuple(endpoints),
        health=upstream.health,
        connect_timeout_seconds=upstream.connect_timeout_seconds,
        idle_timeout_seconds=upstream.idle_timeout_seconds,
        connections_max=upstream.connections_max,
        table=make_table(weights) if make_table is not None else None,
        hash_on=_hash_on(upstream.hash_on or "client_ip"),
        load_bound=0.0 if upstream.balance == "ip_hash" else upstream.load_bound_percent / 100,
        sticky=_sticky(upstream.name, upstream.sticky, endpoints) if upstream.sticky is not None else None,
        slow_start_seconds=upstream.slow_start_seconds,
        has_priorities=any(endpoint.priority for endpoint in endpoints),
        spill_below=upstream.spill_below_percent / 100,
        panic_below=upstream.panic_below_percent / 100,
        ejection=_ejection(upstream.ejection),
        breakers=Breakers(**upstream.breakers.model_dump(exclude_none=True)),
        protocol=upstream.protocol,
        streams_max=upstream.streams_max,
        retry=make_retry(upstream.retry_words),
        retry_budget=Allowance(upstream.retry_budget.ratio, upstream.retry_budget.minimum_per_second),
        timeouts=Timeouts(
            answer=upstream.response_timeout_seconds,
            idle=upstream.stream_idle_timeout_seconds or upstream.response_timeout_seconds,
            total=upstream.timeout_seconds or inf,
            stream=upstream.stream_seconds_max or inf,
        ),
        tls=compile_upstream_tls(upstream, files),
        adaptive=make_adaptive(upstream.adaptive_concurrency) if upstream.adaptive_concurrency is not None else None,
        hedge=make_hedge(upstream.hedge) if upstream.hedge is not None else None,
    )


def _dns_upstream(path: str) -> Upstream:
    """The node's own DNS server as an upstream like any other, behind a Unix socket."""
    words = upstream_words.Upstream.model_validate({"name": "dns", "endpoints": [{"address": "127.0.0.1:53"}]})
    endpoint = Endpoint(0, "dns.sock", f"unix:{path}", 0, None, 1)
    return replace(_upstream(words, {}), name=DNS, endpoints=(endpoint,))


def _passing_upstream(listener: str, words: ForwardProxy) -> Upstream:
    """What a forward proxy reaches, as an upstream whose endpoints each exchange finds for itself."""
    plain = upstream_words.Upstream(
        name="forward",
        endpoints=(upstream_words.Endpoint(address="127.0.0.1:1"),),
        connect_timeout_seconds=words.connect_timeout_seconds,
        response_timeout_seconds=words.response_timeout_seconds,
    )
    return replace(_upstream(plain, {}), name=route_name(listener), endpoints=())


def compile_upstream_tls(upstream: upstream_words.Upstream, files: Mapping[str, bytes]) -> UpstreamTls | None:
    """How its endpoints are spoken to. Raises SnapshotError if a file did not come."""
    words = upstream.tls
    if words is None:
        return None
    ca, chain, key = (
        _file(name, files, f"upstreams: {upstream.name}") if name is not None else None
        for name in (words.ca_file, words.cert_file, words.key_file)
    )
    return UpstreamTls(words.verify, words.server_name, ca, chain, key, words.min_version)


def _ejection(words: upstream_words.Ejection) -> outliers.Policy:
    same = words.model_dump(exclude={"percent_max"})
    return outliers.Policy(**same, part_max=words.percent_max / 100)


def _hash_on(words: str) -> str:
    """Names of fields are in lower case as the codecs give them; those of cookies are as written."""
    return words.lower() if words.startswith("header:") else words


def _sticky(upstream: str, words: upstream_words.Sticky, endpoints: Iterable[Endpoint]) -> Sticky:
    """A token is a digest: it stays when the endpoints' order changes, and tells no address."""
    tokens = [
        blake2b(f"{upstream} {endpoint.address}".encode(), digest_size=12, person=b"meridian sticky").hexdigest()
        for endpoint in endpoints
    ]
    parts = ["Path=/", "HttpOnly", f"SameSite={words.same_site.capitalize()}"]
    parts += ["Secure"] if words.secure else []
    parts += [f"Max-Age={words.ttl_seconds:.0f}"] if words.ttl_seconds is not None else []
    coded = tuple(token.encode() for token in tokens)
    places = {token: place for place, token in enumerate(coded)}
    return Sticky(words.cookie.encode(), "; ".join(["", *parts]).encode(), coded, places)
