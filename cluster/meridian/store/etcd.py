"""The store on etcd: the port, spoken to etcd's public v3 API over `grpc.aio`.

Invariant: a call ends one attempt after the deadline at the latest, and never does more than it says. What keeps it:
attempts of one second over the members in turn until the deadline; what only reads, or can be done twice with the same
effect, is repeated on the next member; a write whose answer was lost is not, and says `OutcomeUnknown`. Every call
demands that its member knows a leader: one cut off from the quorum refuses at once, before anything is proposed, and
the next one is asked.

The proposal that is in flight while etcd's leader dies hangs on the server; hence short attempts, not one long one.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any

import grpc
import grpc.aio

from meridian.core.upkeep import MemberHealth
from meridian.store import etcd_messages as messages
from meridian.store import etcd_watch
from meridian.store.etcd_errors import CLOSED, Fate, judge
from meridian.store.etcd_members import EtcdTls, EtcdUser, Member, Members, Metadata, Search, cancelled_from_outside
from meridian.store.port import (
    Batch,
    Compare,
    Item,
    Lease,
    LeaseLost,
    Listing,
    Op,
    OutcomeUnknown,
    Put,
    Refused,
    StoreHealth,
    StoreUnavailable,
    TxnResult,
    check_lease,
    check_txn,
    encode_key,
    prefix_end,
)
from meridian_proto.v1 import etcd_pb2 as pb

ATTEMPT_SECONDS = 1.0
DEADLINE_SECONDS = 5.0
# A file of some GiB on a slow disk. The member answers nobody else meanwhile.
DEFRAGMENT_SECONDS = 60.0
# A token that is refused right after it was made is no matter of age.
TOKEN_RENEWALS_MAX = 2

_REQUIRE_LEADER: Metadata = (("hasleader", "true"),)

# Which call of a member: it takes (request, *, metadata, timeout) and gives the answer. The generated stubs have no
# types, so the answer's type is named where it is read.
Rpc = Callable[[Member], Callable[..., Awaitable[Any]]]


class EtcdStore:
    """A client of one etcd cluster. Make it in a running event loop, and close it there."""

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        tls: EtcdTls | None = None,
        user: EtcdUser | None = None,
        attempt_seconds: float = ATTEMPT_SECONDS,
        deadline_seconds: float = DEADLINE_SECONDS,
    ) -> None:
        """`endpoints` are URLs, the nearest first; all https with `tls`, all http without. Raises StoreError."""
        self._members = Members(endpoints, tls)
        self._user = user
        self._authorized: Metadata | None = None
        self._token_lock = asyncio.Lock()
        self._attempt_seconds = attempt_seconds
        self._deadline_seconds = deadline_seconds
        self._writes = 0

    async def get(self, key: str) -> Item | None:
        answer: pb.RangeResponse = await self._call(
            lambda member: member.kv.Range, pb.RangeRequest(key=encode_key(key))
        )
        return messages.item(answer.kvs[0]) if answer.kvs else None

    async def list(self, prefix: str, *, keys_only: bool = False, limit: int = 0) -> Listing:
        request = pb.RangeRequest(
            key=encode_key(prefix), range_end=prefix_end(prefix), keys_only=keys_only, limit=limit
        )
        answer: pb.RangeResponse = await self._call(lambda member: member.kv.Range, request)
        return Listing(tuple(messages.item(kv) for kv in answer.kvs), answer.header.revision, answer.header.cluster_id)

    async def txn(self, when: Sequence[Compare], then: Sequence[Op], otherwise: Sequence[Op] = ()) -> TxnResult:
        check_txn(when, then, otherwise)
        self._writes += 1
        answer: pb.TxnResponse = await self._call(
            lambda member: member.kv.Txn, messages.txn_request(when, then, otherwise), repeatable=False
        )
        return TxnResult(answer.succeeded, answer.header.revision)

    async def put(self, key: str, value: bytes, *, lease: int = 0) -> int:
        return (await self.txn((), (Put(key, value, lease),))).revision

    def watch(self, prefix: str, *, after_revision: int, era: int = 0) -> AsyncGenerator[Batch, None]:
        return etcd_watch.watch(self._search(), self._metadata, prefix, after_revision, era)

    async def grant_lease(self, ttl_seconds: int) -> Lease:
        check_lease(ttl_seconds)
        self._writes += 1
        # Done twice, it leaves a lease that nobody prolongs and that ends by itself.
        answer: pb.LeaseGrantResponse = await self._call(
            lambda member: member.lease.LeaseGrant, pb.LeaseGrantRequest(TTL=ttl_seconds)
        )
        return Lease(answer.ID, answer.TTL)

    async def keep_alive(self, lease_id: int) -> float:
        self._writes += 1
        answer: pb.LeaseKeepAliveResponse = await self._call(
            lambda member: member.keep_alive, pb.LeaseKeepAliveRequest(ID=lease_id)
        )
        if answer.TTL <= 0:
            raise LeaseLost(f"etcd knows no lease {lease_id:x}: grant a new one")
        return float(answer.TTL)

    async def revoke_lease(self, lease_id: int) -> None:
        self._writes += 1
        try:
            await self._call(lambda member: member.lease.LeaseRevoke, pb.LeaseRevokeRequest(ID=lease_id))
        except LeaseLost:
            pass

    async def compact(self, revision: int) -> None:
        try:
            await self._call(lambda member: member.kv.Compact, pb.CompactionRequest(revision=revision))
        except Refused as error:
            if "has been compacted" not in str(error):
                raise

    async def health(self) -> StoreHealth:
        members = tuple(self._members)
        if self._members.closed:
            return StoreHealth(False, False, members[0].endpoint, CLOSED.reason, writes=self._writes)
        found = await asyncio.gather(*(self._status(member) for member in members))
        detail = "; ".join(f"{one.endpoint}: {one.detail}" for one in found)
        # The healthiest first; among equals the one that we talk to.
        best = max(
            range(len(members)),
            key=lambda i: (found[i].reachable, found[i].knows_leader, members[i] is self._members.current),
        )
        told = found[best]
        return StoreHealth(told.reachable, told.knows_leader, told.endpoint, detail, tuple(found), writes=self._writes)

    async def defragment(self, endpoint: str) -> None:
        member = next((member for member in self._members if member.endpoint == endpoint), None)
        if member is None:
            raise Refused(f"{endpoint} is not a member that this node was given: name one that --etcd names")
        metadata = await self._metadata()
        # Not through the search: it is this member that is meant, and it may take longer than any other call.
        try:
            await member.maintenance.Defragment(pb.DefragmentRequest(), metadata=metadata, timeout=DEFRAGMENT_SECONDS)
        except grpc.aio.AioRpcError as error:
            reason = judge(error.code(), error.details()).reason
            raise StoreUnavailable(f"{endpoint} was not defragmented: {reason}") from None

    async def disarm(self) -> None:
        listed: pb.AlarmResponse = await self._call(
            lambda member: member.maintenance.Alarm, pb.AlarmRequest(action=pb.AlarmRequest.GET)
        )
        for raised in listed.alarms:
            if raised.alarm == pb.NOSPACE:  # each member's by its id: etcd takes no "all"
                request = pb.AlarmRequest(action=pb.AlarmRequest.DEACTIVATE, memberID=raised.memberID, alarm=pb.NOSPACE)
                await self._call(lambda member: member.maintenance.Alarm, request)

    async def close(self) -> None:
        await self._members.close()

    def _search(self) -> Search:
        return Search(self._members, attempt_seconds=self._attempt_seconds, deadline_seconds=self._deadline_seconds)

    async def _status(self, member: Member) -> MemberHealth:
        try:
            answer = await member.status(self._attempt_seconds)
        except grpc.aio.AioRpcError as error:
            return MemberHealth(member.endpoint, False, judge(error.code(), error.details()).reason)
        return messages.member_health(member.endpoint, answer)

    async def _metadata(self, refused: Metadata | None = None) -> Metadata:
        """Returns what goes with every call; with a new token if `refused` is what we would send. One token for all."""
        if self._user is None:
            return _REQUIRE_LEADER
        async with self._token_lock:
            if self._authorized is None or self._authorized == refused:
                self._authorized = await self._authenticate(self._user)
            return self._authorized

    async def _authenticate(self, user: EtcdUser) -> Metadata:
        request = pb.AuthenticateRequest(name=user.name, password=user.password)
        try:
            answer: pb.AuthenticateResponse = await self._call(
                lambda member: member.auth.Authenticate, request, anonymous=True
            )
        except Refused as error:
            if "authentication is not enabled" in str(error):
                return _REQUIRE_LEADER  # a user was given before etcd asks for one: let the operator enable it later
            raise
        return (*_REQUIRE_LEADER, ("token", answer.token))

    async def _call(self, rpc: Rpc, request: object, *, repeatable: bool = True, anonymous: bool = False) -> Any:
        """Sends `request` to members in turn until one answers. What a failure means, `judge` says."""
        search = self._search()
        metadata = _REQUIRE_LEADER if anonymous else await self._metadata()
        renewals = 0
        while True:
            member = await search.member()
            try:
                return await rpc(member)(request, metadata=metadata, timeout=search.attempt_seconds)
            except grpc.aio.AioRpcError as error:
                judgement = judge(error.code(), error.details())
            except asyncio.CancelledError:
                if cancelled_from_outside():
                    raise
                judgement = CLOSED
            place = f"{member.endpoint}: {judgement.reason}"
            match judgement.fate:
                case Fate.FINAL:
                    raise judgement.error(place)
                case Fate.TOKEN:
                    if self._user is None or anonymous or renewals == TOKEN_RENEWALS_MAX:
                        raise Refused(f"{place}: etcd asks for a user: check the etcd user and password given")
                    renewals += 1
                    metadata = await self._metadata(refused=metadata)
                case Fate.UNKNOWN if not repeatable:
                    self._members.leave(member)
                    raise OutcomeUnknown(f"the answer to a write was lost ({place}): read the key back")
                case _:
                    await search.failed(member, judgement.reason)
