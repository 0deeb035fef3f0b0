"""What a probe is: one HTTP/1.1 GET on a fresh connection, one that is only opened, or one call of gRPC's health
checking protocol; and who is probed: endpoints, and the other nodes.

Over TLS an endpoint is verified as its upstream's `tls` says; one that traffic would not believe is down. Of a node
only life is asked, not identity.

A fresh connection each time, because a service that no longer accepts is dead to new clients, however well its old
connections do.
"""

import asyncio
import functools
import socket
import ssl
import struct
from collections.abc import Callable, Iterable, Mapping

import grpc

from meridian.control.members import Endpoints, MemberRecord
from meridian.control.prober import Subject
from meridian.core.addresses import split_host_port
from meridian.core.health import Policy
from meridian.core.snapshot import Upstream, UpstreamTls
from meridian.core.verdicts import Verdict
from meridian_proto.v1.grpc_health_pb2 import HealthAnswer, HealthQuestion

_TCP_INFO = struct.Struct("=148xI")  # as far as tcpi_min_rtt, microseconds (Linux, uapi/linux/tcp.h)
_UNTIMED = (0, 2**32 - 1)
STATUS_LINE_BYTES_MAX = 8192  # llhttp's default for a header line; a longer one is no HTTP
# Each probe has a connection of its own, straight to the endpoint.
_GRPC_OPTIONS = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0), ("grpc.enable_retries", 0))
NODE_PATH = "/.meridian/health"
# Down after three misses: 0.5 s for the first and two quick ones, or 1.7 s if each runs into its timeout; silence takes
# 1.5 s anyway. Up after eight in a row, 1.6 s at the quick pace: what a return within 10 s of the start leaves.
NODE_POLICY = Policy(interval_seconds=0.5, suspect_interval_seconds=0.2, timeout_seconds=0.4, rise=8, fall=3)
NODE_TLS = UpstreamTls(verify=False)

ContextOf = Callable[[UpstreamTls], ssl.SSLContext]
NoteRoundTrip = Callable[[str, float], None]


async def any_answer(subject: Subject, note: NoteRoundTrip = lambda host, seconds: None) -> bool:
    """Returns whether any well-formed answer came in time, from whomever: a sign of life. `note` is told of the host
    how long a round trip to it took.
    """
    return await _status(subject, lambda _: _unverified(), note) is not None


async def good_answer(subject: Subject, context_of: ContextOf) -> bool:
    """Returns whether the subject is well by the kind of probe that it wants: a good status, a connection, SERVING.
    `context_of` gives what TLS is spoken with."""
    if subject.kind == "tcp":
        return await _connects(subject, context_of)
    if subject.kind == "grpc":
        return await _serves_grpc(subject)
    status = await _status(subject, context_of, lambda host, seconds: None)
    return status is not None and not {str(status), f"{status // 100}xx"}.isdisjoint(subject.statuses)


async def _open(subject: Subject, context_of: ContextOf) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Raises OSError, also for TLS that does not come about."""
    tls = subject.tls
    return await asyncio.open_connection(
        subject.host, subject.port, limit=STATUS_LINE_BYTES_MAX, ssl=context_of(tls) if tls is not None else None,
        server_hostname=(tls.server_name or subject.host) if tls is not None else None,
    )  # fmt: skip


async def _connects(subject: Subject, context_of: ContextOf) -> bool:
    try:
        async with asyncio.timeout(subject.policy.timeout_seconds):
            _, writer = await _open(subject, context_of)
    except OSError:  # TimeoutError is one
        return False
    writer.transport.abort()
    return True


async def _serves_grpc(subject: Subject) -> bool:
    """Whether Check says SERVING (https://github.com/grpc/grpc/blob/master/doc/health-checking.md)."""
    host = f"[{subject.host}]" if ":" in subject.host else subject.host
    options = [*_GRPC_OPTIONS, *([("grpc.default_authority", subject.authority)] if subject.authority else [])]
    target = f"{host}:{subject.port}"
    if (tls := subject.tls) is not None:
        options += [("grpc.ssl_target_name_override", tls.server_name)] if tls.server_name else []
        credentials = grpc.ssl_channel_credentials(tls.ca_pem, tls.key_pem, tls.chain_pem)
        made = grpc.aio.secure_channel(target, credentials, options=options)
    else:
        made = grpc.aio.insecure_channel(target, options=options)
    async with made as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check", HealthQuestion.SerializeToString, HealthAnswer.FromString
        )
        try:
            answer: HealthAnswer = await check(
                HealthQuestion(service=subject.service), timeout=subject.policy.timeout_seconds
            )
        except grpc.aio.AioRpcError:
            return False
        return answer.status == HealthAnswer.SERVING


async def _status(subject: Subject, context_of: ContextOf, note: NoteRoundTrip) -> int | None:
    """Returns the status code, None for whatever else a peer may do."""
    try:
        async with asyncio.timeout(subject.policy.timeout_seconds):
            return await _ask(subject, context_of, note)
    except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return None


async def _ask(subject: Subject, context_of: ContextOf, note: NoteRoundTrip) -> int:
    """Returns the status code; raises ValueError for what is no HTTP (RFC 9112 section 4), OSError and its like."""
    reader, writer = await _open(subject, context_of)
    try:
        if (seconds := round_trip_of(writer.get_extra_info("socket"))) is not None:
            note(subject.host, seconds)
        host = f"[{subject.host}]" if ":" in subject.host else subject.host
        authority = subject.authority or f"{host}:{subject.port}"
        head = f"GET {subject.path} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: meridian\r\n"
        writer.write(f"{head}Connection: close\r\n\r\n".encode())
        line = await reader.readuntil(b"\n")
        version, _, rest = line.partition(b" ")
        if not version.startswith(b"HTTP/1.") or not rest[:3].isdigit():
            raise ValueError("not an HTTP/1 status line")
        return int(rest[:3])
    finally:
        writer.transport.abort()  # close() would wait up to 30 s for a hanging peer's part of TLS's goodbye


def round_trip_of(sock: socket.socket) -> float | None:
    """The quickest of a TCP connection so far, in seconds, as the kernel timed it; None where it does not tell."""
    told = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
    if len(told) < _TCP_INFO.size:
        return None
    (microseconds,) = _TCP_INFO.unpack(told)
    return microseconds / 1e6 if microseconds not in _UNTIMED else None


@functools.cache
def _unverified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def endpoint_subjects(upstreams: Iterable[Upstream]) -> dict[tuple[str, str], Subject]:
    """Returns whom to probe, by (upstream, address): the endpoints of all upstreams that have a health policy."""
    subjects = {}
    for upstream in upstreams:
        if (asked := upstream.health) is None:
            continue
        quick = min(asked.interval_seconds, 0.2)
        policy = Policy(asked.interval_seconds, quick, asked.timeout_seconds, asked.rise, asked.fall, asked.jitter)
        for endpoint in upstream.endpoints:
            subjects[upstream.name, endpoint.address] = Subject(
                endpoint.host, endpoint.port, asked.path, policy, tls=upstream.tls, kind=asked.kind,
                authority=asked.host, statuses=asked.statuses, service=asked.service,
            )  # fmt: skip
    return subjects


def node_subjects(own: MemberRecord, members: Mapping[str, MemberRecord], verdict: Verdict) -> dict[str, Subject]:
    """Returns the other nodes to probe, by name, on the address that DNS publishes.

    A node that the store has forgotten but the verdict still names is probed on the port of this node, or of any that
    has one (a witness has none): address records carry no port, so all nodes of a cluster use the same.
    """
    subjects = {}
    common = next((one.endpoints for one in (own, *members.values()) if _serves(one.endpoints)), own.endpoints)
    for name in sorted({*members, *verdict.nodes} - {own.name}):
        member = members.get(name)
        addresses = member.addresses if member else verdict.nodes[name].addresses
        endpoints = member.endpoints if member and _serves(member.endpoints) else common
        where = endpoints.http or endpoints.https
        if addresses and where:
            _, port = split_host_port(where)
            subjects[name] = Subject(addresses[0], port, NODE_PATH, NODE_POLICY, None if endpoints.http else NODE_TLS)
    return subjects


def _serves(endpoints: Endpoints) -> bool:
    return bool(endpoints.http or endpoints.https)
