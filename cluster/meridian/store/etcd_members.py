"""The members of an etcd cluster as we call them: one channel each, whose turn it is, and when to give up.

Invariant: a request that changes something goes only to a member whose connection is up and whose last answer was
good. What keeps it: `Member.why_not_ready` asks a harmless question (Status) first wherever that is not known. So
refused connections, bad certificates, hanging and leaderless members show before a write leaves, with the reason in
words.

The search is sticky: it stays with a member that answers and moves on from one that does not.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio

from meridian.store.etcd_errors import CLOSED, explain
from meridian.store.port import StoreError, StoreUnavailable
from meridian_proto.v1 import etcd_pb2 as pb
from meridian_proto.v1 import etcd_pb2_grpc as stubs

# A whole listing comes in one answer; our largest are some thousand members or versions of about 1 KiB.
ANSWER_BYTES_MAX = 64 * 1024 * 1024
# Between two rounds over all members when none of them helps: quick at first, for a member that restarts.
PAUSE_FIRST_SECONDS = 0.05
PAUSE_MAX_SECONDS = 0.5

_CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", ANSWER_BYTES_MAX),
    # Our own deadlines decide; gRPC must not sit out a long backoff on a member that is back already.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 500),
    # Clears away connections to machines that vanished: with keep-alive gRPC also sets TCP_USER_TIMEOUT to its timeout.
    # etcd hangs up on pings more frequent than each 5 s.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
)


# What goes with a call besides its message: names and values.
Metadata = tuple[tuple[str, str], ...]


def cancelled_from_outside() -> bool:
    """Tells, in a handler of CancelledError, a cancel of our task from gRPC's own, which a closed channel raises."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


@dataclass(frozen=True, slots=True)
class EtcdTls:
    """PEM contents. Without `certificate` and `key` we do not identify ourselves."""

    ca: bytes
    certificate: bytes | None = None
    key: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class EtcdUser:
    name: str
    password: str = field(repr=False)


class Member:
    """One etcd server: its channel and the stubs of the five services."""

    def __init__(self, endpoint: str, tls: EtcdTls | None) -> None:
        self.endpoint = endpoint
        self.doubtful = True  # until it has answered, and again when it has failed somebody
        scheme, _, target = endpoint.rpartition("://")
        if scheme not in ("http", "https") or not target or "/" in target:
            raise StoreError(f"{endpoint!r} is not an etcd endpoint: write http://HOST:PORT or https://HOST:PORT")
        if (scheme == "https") != (tls is not None):
            raise StoreError(
                f"{endpoint}: https needs a CA file and http takes none: correct the endpoint or the files"
            )
        if tls is None:
            self.channel = grpc.aio.insecure_channel(target, options=_CHANNEL_OPTIONS)
        else:
            credentials = grpc.ssl_channel_credentials(tls.ca, tls.key, tls.certificate)
            self.channel = grpc.aio.secure_channel(target, credentials, options=_CHANNEL_OPTIONS)
        # The generated stubs have no types.
        self.kv: Any = stubs.KVStub(self.channel)  # type: ignore[no-untyped-call]
        self.watch: Any = stubs.WatchStub(self.channel)  # type: ignore[no-untyped-call]
        self.lease: Any = stubs.LeaseStub(self.channel)  # type: ignore[no-untyped-call]
        self.maintenance: Any = stubs.MaintenanceStub(self.channel)  # type: ignore[no-untyped-call]
        self.auth: Any = stubs.AuthStub(self.channel)  # type: ignore[no-untyped-call]

    async def status(self, timeout_seconds: float) -> pb.StatusResponse:
        """Asks the member how it is; raises grpc.aio.AioRpcError."""
        answer: pb.StatusResponse = await self.maintenance.Status(pb.StatusRequest(), timeout=timeout_seconds)
        return answer

    async def keep_alive(self, request: pb.LeaseKeepAliveRequest, *, metadata: Metadata, timeout: float) -> Any:
        """Prolongs a lease once: etcd has only a stream for it, of which we use one question and one answer."""
        call = self.lease.LeaseKeepAlive([request], metadata=metadata, timeout=timeout)
        try:
            answer = await call.read()
            if answer is grpc.aio.EOF:
                raise StoreError(f"{self.endpoint} ended a keep-alive without an answer: is it etcd?")
            return answer
        finally:
            call.cancel()

    async def why_not_ready(self, timeout_seconds: float) -> str | None:
        """Returns None when the member can be asked; connects to it and asks how it is where that is in doubt."""
        if not self.doubtful and self.channel.get_state() is grpc.ChannelConnectivity.READY:
            return None
        try:
            answer = await self.status(timeout_seconds)
        except grpc.aio.AioRpcError as error:
            return explain(error.code(), error.details())
        self.doubtful = not answer.leader
        return "this member sees no leader" if self.doubtful else None


class Members:
    """All members, and the one whose turn it is. Make it in a running loop: gRPC binds channels to it."""

    def __init__(self, endpoints: Sequence[str], tls: EtcdTls | None) -> None:
        if not endpoints:
            raise StoreError("no etcd endpoint was given: name at least one, for example https://127.0.0.1:2379")
        self._members = tuple(Member(endpoint, tls) for endpoint in dict.fromkeys(endpoints))
        self._turn = 0
        self.closed = False

    def __iter__(self) -> Iterator[Member]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    @property
    def current(self) -> Member:
        return self._members[self._turn]

    def leave(self, member: Member) -> None:
        """Moves on from `member`, which has failed, unless somebody else has moved on already."""
        member.doubtful = True
        if self.current is member:
            self._turn = (self._turn + 1) % len(self._members)

    async def close(self) -> None:
        self.closed = True
        for member in self._members:
            await member.channel.close()


class Search:
    """One caller's search for a member that helps: what each one said, the pauses, and when to give up."""

    def __init__(self, members: Members, *, attempt_seconds: float, deadline_seconds: float) -> None:
        self._members = members
        self.attempt_seconds = attempt_seconds
        self._deadline_seconds = deadline_seconds
        self.restart()

    def restart(self) -> None:
        """Begins anew: some member has helped."""
        self._gives_up_at = asyncio.get_running_loop().time() + self._deadline_seconds
        self._reasons: dict[str, str] = {}
        self._pause_seconds = PAUSE_FIRST_SECONDS
        self._failures = 0

    @property
    def all_failed(self) -> bool:
        """Whether every member was asked in vain since one has helped."""
        return len(self._reasons) == len(self._members)

    async def member(self) -> Member:
        """Returns a member whose connection is up; raises StoreUnavailable when there is none before the deadline."""
        while True:
            if self._members.closed:
                raise StoreUnavailable(CLOSED.reason)
            member = self._members.current
            reason = await member.why_not_ready(self.attempt_seconds)
            if reason is None:
                return member
            await self.failed(member, reason)

    async def failed(self, member: Member, reason: str) -> None:
        """Notes why `member` did not help and moves on; pauses after each round over all of them.

        Raises StoreUnavailable when the deadline would pass: a whole call takes the deadline and one attempt at most.
        """
        self._members.leave(member)
        self._reasons[member.endpoint] = reason
        self._failures += 1
        pause = 0.0 if self._failures % len(self._members) else self._pause_seconds
        if asyncio.get_running_loop().time() + pause >= self._gives_up_at:
            raise StoreUnavailable(self._complaint())
        if pause:
            await asyncio.sleep(pause)
            self._pause_seconds = min(2 * pause, PAUSE_MAX_SECONDS)

    def _complaint(self) -> str:
        told = "; ".join(f"{endpoint}: {reason}" for endpoint, reason in self._reasons.items())
        return (
            f"no etcd member helped within {self._deadline_seconds:g} s ({told}). "
            "A majority of the members must run and be reachable."
        )
