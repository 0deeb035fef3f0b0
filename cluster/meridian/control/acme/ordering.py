"""One order, walked by the leader: begun, its hosts proven, the certificate fetched.

    nothing --order--> begun --proofs in the store, seen by every node--> responded --finalize--> certificate

Invariant: of one wish there is one order at a time in the whole cluster, and no certificate that the store does not
hold. What keeps it: where an order is, and the sealed key of its certificate, stand in the store before anything is
proven; whoever leads next goes on with them. Only an order that was begun in the moment in which its leader died, and
was not written down yet, is begun once more; the authority lets it expire. Each write is conditional on the record read
and on the leader's key.

An authority may look at any node, so it is told to look only when all members have said that all their workers hold
the proof.
"""

import asyncio
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec

from meridian.control.acme import jws, messages
from meridian.control.acme.client import Client
from meridian.control.acme.errors import AcmeError, TermOver
from meridian.control.acme.messages import Authorization, Challenge
from meridian.control.acme.pairs import checked, key_of, leaf_of, new_key, pem_of, request_for
from meridian.control.acme.records import (
    AccountRecord,
    Authority,
    CertificateRecord,
    Order,
    Proofs,
    Wish,
    read,
)
from meridian.control.bundle import BundleError, Sealer
from meridian.control.fences import revision_of
from meridian.core import acme
from meridian.store.keys import Keys
from meridian.store.port import Absent, Compare, CreatedAt, Delete, ModifiedAt, Op, Put, Store

SEEN_SECONDS = 20.0  # for all nodes to take over a proof: a watch and a message; a member's lease is shorter
SEEN_EVERY_SECONDS = 0.1
SETTLED_SECONDS = 120.0  # for an authority to look, from several places of the world, and to sign
POLL_FIRST_SECONDS, POLL_MAX_SECONDS = 0.2, 10.0
_UNDER_WAY = frozenset({"pending", "processing"})
_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,512}")  # RFC 8555 section 8.1: it becomes a part of what we answer

Settling = TypeVar("Settling", messages.Order, Authorization)

_log = logging.getLogger("meridian.control")


@dataclass(slots=True)
class _Draft:
    """A record with the revision that it was read or written at; 0 if the store has none."""

    record: CertificateRecord
    revision: int


class Orders:
    """All walks of one node; one at a time."""

    def __init__(
        self,
        store: Store,
        keys: Keys,
        sealer: Sealer,
        *,
        fence: Callable[[], int | None],
        wall_clock: Callable[[], float],
        draw: Callable[[], float],
        behind: Callable[[int], Sequence[str]],
    ) -> None:
        """`behind` names the members whose workers do not hold all proofs up to a revision."""
        self._store, self._keys, self._sealer = store, keys, sealer
        self._fence, self._wall_clock, self._draw, self._behind = fence, wall_clock, draw, behind
        self._clients: dict[Authority, Client] = {}

    async def obtain(self, wish: Wish, fence: int) -> None:
        """One try to get the certificate, the first or the next; how it ended stands in the store.

        Raises TermOver, StoreError."""
        draft = await self._draft(wish)
        if not is_due(draft.record, self._wall_clock()):
            return  # the view of whoever asked is behind
        try:
            client = await self._client(wish.authority, fence)
            if draft.record.order is None:
                await self._begin(client, draft, wish, fence)
            await self._walk(client, draft, wish, fence)
        except AcmeError as error:
            self._clients.pop(wish.authority, None)
            await self._fail(draft, error, fence)

    async def look(self, wish: Wish, fence: int) -> float:
        """Asks when the certificate should be renewed; returns when to ask again. Raises TermOver, StoreError."""
        now = self._wall_clock()
        draft = await self._draft(wish)
        if not draft.record.chain:
            return now
        try:
            client = await self._client(wish.authority, fence)
            window, wait_seconds = await client.suggestion(leaf_of(draft.record.chain))
        except AcmeError as error:
            self._clients.pop(wish.authority, None)
            _log.info("%s does not say when to renew %s: %s", wish.authority.name, title(wish.hosts), error)
            return acme.look_time(now, None)
        if window is not None and window != draft.record.window:
            record = draft.record
            renew_at = acme.renewal_time(record.not_before, record.not_after, window, self._draw())
            await self._write(draft, fence, window=window, renew_at=renew_at)
        return acme.look_time(now, wait_seconds)

    async def put_back(self, record: CertificateRecord, fence: int) -> None:
        """Writes what this node still holds and the store lost. Raises TermOver, StoreError."""
        await self._write(_Draft(record, 0), fence)

    # The walk

    async def _begin(self, client: Client, draft: _Draft, wish: Wish, fence: int) -> None:
        now, account_key = self._wall_clock(), self._keys.acme_account(_account_id(wish.authority))
        item = await self._store.get(account_key)
        account = read(item, AccountRecord)
        if item is None or account is None:
            self._clients.clear()  # the store lost it: another account is made
            raise TermOver
        free_at = acme.order_time(account.begun, now, wish.authority.orders_per_hour)
        if free_at > now:
            reason = f"{wish.authority.orders_per_hour} orders began within an hour (orders_per_hour); this one waits"
            raise AcmeError(reason, "waits", free_at - now)
        replaces = leaf_of(draft.record.chain) if draft.record.chain else None
        url = await client.new_order(wish.hosts, replaces)
        key = new_key()
        order = Order(url, self._sealer.seal(wish.id, pem_of(key)), now)
        begun = msgspec.structs.replace(account, begun=(*acme.recent(account.begun, now), now))
        await self._write(
            draft, fence, Put(account_key, msgspec.json.encode(begun)),
            when=[ModifiedAt(account_key, item.mod_revision)], order=order,
        )  # fmt: skip
        _log.info("certificate for %s: ordered at %s", title(wish.hosts), wish.authority.name)

    async def _walk(self, client: Client, draft: _Draft, wish: Wish, fence: int) -> None:
        order = draft.record.order
        assert order is not None
        try:
            key_pem = self._sealer.open(wish.id, order.sealed_key)
        except BundleError as error:
            raise AcmeError(str(error), final=True) from None
        found, _ = await client.look(order.url, messages.Order)
        if found.status == "pending":
            await self._prove(client, found.authorizations, wish, fence)
            found = await self._settled(client, order.url, messages.Order, fence)
        if found.status == "ready":
            await client.finalize(found.finalize, request_for(key_pem, wish.hosts))
        found = await self._settled(client, order.url, messages.Order, fence, frozenset({"ready", "processing"}))
        if found.status != "valid":
            raise AcmeError(str(found.error or "the authority gives up this order without a reason"), final=True)
        chain = await client.chain(found.certificate)
        leaf = checked(chain, key_pem, wish.hosts)
        since, until = leaf.not_valid_before_utc.timestamp(), leaf.not_valid_after_utc.timestamp()
        await self._write(
            draft, fence, Delete(self._keys.acme_challenge(wish.id)), hosts=wish.hosts, chain=chain,
            sealed_key=order.sealed_key, not_before=since, not_after=until, window=None, order=None, failures=0,
            renew_at=acme.renewal_time(since, until, None, self._draw()), reason="", try_at=0.0,
        )  # fmt: skip
        _log.info("certificate for %s: obtained, valid until %s", title(wish.hosts), leaf.not_valid_after_utc)

    async def _prove(self, client: Client, authorizations: Sequence[str], wish: Wish, fence: int) -> None:
        """Puts the proofs where the authority will look, has it look, and waits for what it found."""
        http: dict[str, str] = {}
        texts: dict[str, tuple[str, ...]] = {}
        challenges: dict[str, str] = {}  # by authorization
        for url in authorizations:
            found, _ = await client.look(url, Authorization)
            if found.status != "pending":
                continue  # proven for an order before this one
            challenge = _challenge(found, wish)
            challenges[url] = challenge.url
            proof = f"{challenge.token}.{client.thumbprint}"
            if challenge.type == "http-01":
                http[challenge.token] = proof
            else:
                name = acme.challenge_name(found.identifier.value)
                texts[name] = (*texts.get(name, ()), jws.digest(proof))
        if not challenges:
            return
        proofs = Put(self._keys.acme_challenge(wish.id), msgspec.json.encode(Proofs(http, texts)))
        await self._seen(await self._commit(fence, [], [proofs]))
        for challenge_url in challenges.values():
            self._check_term(fence)
            await client.respond(challenge_url)
        for url in challenges:
            found = await self._settled(client, url, Authorization, fence)
            if found.status != "valid":
                raise AcmeError(_why_not(found), "unauthorized", final=True)

    async def _seen(self, revision: int) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + SEEN_SECONDS
        while behind := self._behind(revision):
            if loop.time() > deadline:
                raise AcmeError(f"{', '.join(behind)} did not take over the proof in {SEEN_SECONDS:g} s")
            await asyncio.sleep(SEEN_EVERY_SECONDS)

    async def _settled(
        self, client: Client, url: str, kind: type[Settling], fence: int, under_way: frozenset[str] = _UNDER_WAY
    ) -> Settling:
        """What an order or an authorization has come to. Raises AcmeError, TermOver."""
        loop = asyncio.get_running_loop()
        deadline, pause = loop.time() + SETTLED_SECONDS, POLL_FIRST_SECONDS
        while True:
            self._check_term(fence)
            found, wait_seconds = await client.look(url, kind)
            if found.status not in under_way:
                return found
            if loop.time() > deadline:
                raise AcmeError(f"the authority is not ready after {SETTLED_SECONDS:g} s")
            await asyncio.sleep(min(max(pause, wait_seconds or 0.0), POLL_MAX_SECONDS))
            pause *= 2

    async def _fail(self, draft: _Draft, error: AcmeError, fence: int) -> None:
        record, now = draft.record, self._wall_clock()
        waits = error.kind == "waits"
        failures = record.failures + (0 if waits else 1)
        try_at = now + error.wait_seconds if waits else acme.retry_time(now, failures, error.wait_seconds, self._draw())
        _log.warning("certificate for %s: %s", title(record.hosts), error)
        await self._write(
            draft, fence, Delete(self._keys.acme_challenge(record.id)), failures=failures, reason=str(error),
            try_at=try_at, order=None if error.final else record.order,
        )  # fmt: skip

    # The account

    async def _client(self, authority: Authority, fence: int) -> Client:
        """One that is open. The account's key is in the store before the authority hears of it."""
        client = self._clients.get(authority)
        if client is None:
            client = await asyncio.to_thread(Client, authority, await self._account_key(authority, fence))
            await client.open()
            self._clients[authority] = client
        return client

    async def _account_key(self, authority: Authority, fence: int) -> ec.EllipticCurvePrivateKey:
        id_ = _account_id(authority)
        place = self._keys.acme_account(id_)
        item = await self._store.get(place)
        account = read(item, AccountRecord)
        if account is not None:
            try:
                return key_of(self._sealer.open(id_, account.sealed_key))
            except BundleError as error:
                raise AcmeError(str(error)) from None
        key = new_key()
        record = AccountRecord(authority.directory, self._sealer.seal(id_, pem_of(key)))
        unchanged = Absent(place) if item is None else ModifiedAt(place, item.mod_revision)
        await self._commit(fence, [unchanged], [Put(place, msgspec.json.encode(record))])
        return key

    # The store

    async def _draft(self, wish: Wish) -> _Draft:
        item = await self._store.get(self._keys.acme_certificate(wish.id))
        record = read(item, CertificateRecord) or CertificateRecord(wish.id, wish.hosts)
        return _Draft(record, item.mod_revision if item is not None else 0)

    async def _write(self, draft: _Draft, fence: int, *more: Op, when: Sequence[Compare] = (), **changes: Any) -> None:
        place = self._keys.acme_certificate(draft.record.id)
        record = msgspec.structs.replace(draft.record, **changes)
        unchanged = ModifiedAt(place, draft.revision) if draft.revision else Absent(place)
        draft.revision = await self._commit(fence, [unchanged, *when], [Put(place, msgspec.json.encode(record)), *more])
        draft.record = record

    async def _commit(self, fence: int, when: Sequence[Compare], then: Sequence[Op]) -> int:
        """Returns the revision written. Raises TermOver, StoreError."""
        leads = CreatedAt(self._keys.leader(), revision_of(fence))
        result = await self._store.txn([leads, *when], then)
        if not result.succeeded:
            raise TermOver
        return result.revision

    def _check_term(self, fence: int) -> None:
        if self._fence() != fence:
            raise TermOver


def is_due(record: CertificateRecord, now: float) -> bool:
    """Whether something is to be done about it now: nothing was obtained yet, or it is time to renew."""
    return record.try_at <= now and (record.order is not None or record.renew_at <= now)


def title(hosts: Sequence[str]) -> str:
    """A certificate's name in the log: its first host, and how many follow."""
    return hosts[0] if len(hosts) == 1 else f"{hosts[0]} and {len(hosts) - 1} more"


def _account_id(authority: Authority) -> str:
    return acme.account_id(authority.directory, authority.external.key_id if authority.external is not None else "")


def _challenge(authorization: Authorization, wish: Wish) -> Challenge:
    """The one to prove the host by. Raises AcmeError."""
    host, kind = authorization.identifier.value, wish.authority.challenge
    if host not in {one.removeprefix("*.").lower().rstrip(".") for one in wish.hosts}:
        raise AcmeError(f"the authority wants {host!r} to be proven, which nobody asked for", final=True)
    offered = [one for one in authorization.challenges if one.type == kind]
    for one in offered:
        if _TOKEN.fullmatch(one.token):
            return one
    if offered:
        raise AcmeError(f"{host}: the token that the authority gives for {kind} is none (RFC 8555)", final=True)
    known = ", ".join(one.type for one in authorization.challenges) or "nothing"
    raise AcmeError(f"{host}: the authority offers {known}, not {kind}; change `challenge`", final=True)


def _why_not(authorization: Authorization) -> str:
    """What the authority found instead of the proof."""
    errors = [one.error for one in authorization.challenges if one.error is not None]
    why = errors[0] if errors else "the authority refused the proof without a reason"
    return f"{authorization.identifier.value}: {why}"
