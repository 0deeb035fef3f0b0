"""Certificates obtained by a leader and its peers from an authority that checks everything, over real HTTP and TLS."""

import asyncio
import datetime
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from tests import acme_server
from tests.acme_server import AcmeServer
from tests.control.parts import KEYS, FlakyStore, running
from tests.control.test_zone_keys import CLUSTER_KEY, MemoryDisk
from tests.gateway.harness import document, serving, upstream
from tests.support import wait_until

from meridian.control.acme.jws import to_base64url
from meridian.control.acme.keeper import CertificateKeeper, CertificateStatus
from meridian.control.acme.records import Authority, External, Obtained, Proofs, Wish
from meridian.control.members import MemberRecord
from meridian.core.acme import certificate_id
from meridian.core.snapshot import Snapshot
from meridian.gateway.gateway import Gateway
from meridian.store.port import Delete

HOSTS = ("shop.example.com", "www.example.com")
OBTAINED_SECONDS = 10.0  # a tick, a dozen requests over TLS of their own, an authority that looks


class Desk:
    """One node: its keeper, and a gateway that answers authorities. `fence` says under which term it leads."""

    def __init__(self, store: FlakyStore, gateway: Gateway, fence: int | None, disk: MemoryDisk | None = None) -> None:
        self.fence, self.disk, self.gateway = fence, disk or MemoryDisk(), gateway
        self.obtained: Mapping[str, Obtained] = {}
        self.held, self.ahead = 0, 0.0
        self.deaf = False  # its workers take over no proof
        self.peers: list[Desk] = [self]
        self.keeper = CertificateKeeper(
            store, KEYS, self.disk, CLUSTER_KEY, fence=lambda: self.fence, wall_clock=self.wall_clock,
            draw=lambda: 0.5, members=self.members, obtained=self._on_obtained, proofs=self._on_proofs,
            tick_seconds=0.05,
        )  # fmt: skip

    def wall_clock(self) -> float:
        return datetime.datetime.now(datetime.UTC).timestamp() + self.ahead

    def members(self) -> list[MemberRecord]:
        return [MemberRecord(f"n{i}", f"{i}", "eu", (), proofs_held=one.held) for i, one in enumerate(self.peers)]

    def _on_obtained(self, obtained: Mapping[str, Obtained]) -> None:
        self.obtained = obtained

    def _on_proofs(self, revision: int, proofs: Proofs) -> None:
        if not self.deaf:
            self.gateway.prove({token.encode(): proof.encode() for token, proof in proofs.http.items()})
            self.held = revision

    @property
    def status(self) -> CertificateStatus:
        (found,) = self.keeper.status()
        return found


@pytest.fixture
def authority() -> Iterator[AcmeServer]:
    with acme_server.running() as server:
        yield server


def wish(server: AcmeServer, **more: object) -> Wish:
    found = Authority("test", server.directory, ca_pem=server.ca_pem, email="ops@example.com")
    return Wish(certificate_id(server.directory, HOSTS), HOSTS, replace(found, **more))  # type: ignore[arg-type]


def plain(port: int) -> Snapshot:
    return document(port, [upstream(1)])


@asynccontextmanager
async def desks(server: AcmeServer, count: int = 2) -> AsyncIterator[tuple[FlakyStore, list[Desk]]]:
    """Nodes with gateways that the authority looks at; the first leads."""
    store = FlakyStore(asyncio.get_running_loop().time)
    fence = await store.put(KEYS.leader(), b"me")
    async with serving(plain) as one, serving(plain) as other:
        found = [Desk(store, each.gateway, None) for each in (one, other)[:count]]
        found[0].fence = fence
        for desk in found:
            desk.peers = found
            desk.keeper.set_wishes([wish(server)])
        server.behaviour.http = [("127.0.0.1", each.port) for each in (one, other)[:count]]
        yield store, found


async def has(desk: Desk, count: int = 1, within_seconds: float = OBTAINED_SECONDS) -> None:
    await wait_until(
        lambda: len(desk.obtained) == count and not desk.status.reason, within_seconds=within_seconds,
        what="a certificate",
    )  # fmt: skip


def leaf(desk: Desk) -> x509.Certificate:
    (found,) = desk.obtained.values()
    certificate = x509.load_pem_x509_certificate(found.chain_pem)
    key = serialization.load_pem_private_key(found.key_pem, password=None)
    assert key.public_key() == certificate.public_key()
    return certificate


async def test_one_order_is_made_for_all_nodes_and_no_key_is_in_the_clear(authority: AcmeServer) -> None:
    authority.behaviour.bad_nonces = 1
    async with desks(authority) as (store, (first, other)), running(first.keeper.run(), other.keeper.run()):
        await has(first)
        await has(other)
        assert leaf(first) == leaf(other) == authority.issued[0]
        assert len(authority.orders) == len(authority.issued) == 1
        assert list(authority.contacts.values()) == [["mailto:ops@example.com"]]
        assert set(authority.looked) == set(authority.behaviour.http), "it looked at every node"
        kept = [item.value for item in (await store.list(KEYS.root())).items] + list(first.disk.copies.values())
        assert not any(b"PRIVATE" in value for value in kept)
        assert not (await store.list(KEYS.acme_challenges())).items
        assert "PRIVATE" not in repr(first.obtained)
        assert first.status.not_after > first.status.renew_at > first.wall_clock()


async def test_the_authority_is_told_nothing_before_every_node_holds_the_proof(authority: AcmeServer) -> None:
    async with desks(authority) as (store, (first, other)):
        other.deaf = True
        async with running(first.keeper.run(), other.keeper.run()):
            await wait_until(lambda: first.held, within_seconds=5, what="the proof at the leader's node")
            await asyncio.sleep(0.3)  # some looks of the leader at its members
            assert not authority.looked
            (item,) = (await store.list(KEYS.acme_challenges())).items
            other.gateway.prove(first.gateway._proofs)
            other.held = item.mod_revision
            await has(first)


async def test_whoever_leads_next_goes_on_with_the_order(authority: AcmeServer) -> None:
    authority.behaviour.gate.clear()
    async with desks(authority) as (store, (first, other)):
        async with running(other.keeper.run()):
            async with running(first.keeper.run()):
                await wait_until(lambda: authority.orders and first.held, within_seconds=5, what="an order under way")
            await store.txn([], [Delete(KEYS.leader())])
            other.fence = await store.put(KEYS.leader(), b"another")
            other.peers = [other]
            authority.behaviour.gate.set()
            await has(other)
        assert len(authority.orders) == len(authority.issued) == 1


async def test_a_term_that_is_over_writes_nothing(authority: AcmeServer) -> None:
    async with desks(authority) as (store, (first, _)), running(first.keeper.run()):
        assert first.fence is not None
        first.fence -= 1
        await asyncio.sleep(0.5)  # many ticks
        assert not (await store.list(KEYS.acme_prefix())).items and not authority.orders


async def test_what_the_authority_does_not_like_is_told_and_tried_again_later(authority: AcmeServer) -> None:
    authority.behaviour.rate_limits, authority.behaviour.retry_after = 1, 600
    async with desks(authority) as (_, (first, other)), running(first.keeper.run(), other.keeper.run()):
        await wait_until(lambda: "too many new orders" in other.status.reason, within_seconds=5, what="the reason")
        assert "(rateLimited)" in other.status.reason
        assert 500 < other.status.try_at - other.wall_clock() <= 600, "as the authority wants it"
        first.ahead = 601.0
        await has(other)
        assert len(authority.issued) == 1


async def test_a_proof_that_is_not_found_is_told_by_host(authority: AcmeServer) -> None:
    async with desks(authority) as (_, (first, _)):
        authority.behaviour.http = [*authority.behaviour.http, ("127.0.0.1", 1)]
        first.peers = [first]
        async with running(first.keeper.run()):
            await wait_until(lambda: first.status.try_at, within_seconds=5, what="a failure")
            assert "example.com: ('127.0.0.1'," in first.status.reason and "answered 502" in first.status.reason
            assert 60 < first.status.try_at - first.wall_clock() < 200
            assert not first.obtained and len(authority.orders) == 1
            authority.behaviour.http = authority.behaviour.http[:1]
            first.ahead = 200.0
            await has(first)
            assert len(authority.orders) == 2


async def test_an_authority_that_is_away_is_asked_again_and_loses_no_order(authority: AcmeServer) -> None:
    async with desks(authority, 1) as (_, (first,)):
        first.keeper.set_wishes([wish(authority, ca_pem=None)])
        async with running(first.keeper.run()):
            await wait_until(lambda: first.status.try_at, within_seconds=5, what="a failure")
            assert "cannot be asked" in first.status.reason and "certificate" in first.status.reason
            first.keeper.set_wishes([wish(authority)])
            first.ahead = 200.0
            await has(first)


async def test_it_is_renewed_when_the_authority_says_so(authority: AcmeServer) -> None:
    authority.behaviour.window = (30 * 86_400.0, 31 * 86_400.0)
    async with desks(authority, 1) as (_, (first,)), running(first.keeper.run()):
        await has(first)
        old = leaf(first)
        await wait_until(
            lambda: abs(first.status.renew_at - first.wall_clock() - 30.5 * 86_400) < 60, within_seconds=5,
            what="the time that the authority suggests",
        )  # fmt: skip
        first.ahead = 31 * 86_400.0
        await wait_until(lambda: len(authority.issued) == 2, within_seconds=OBTAINED_SECONDS, what="another")
        await wait_until(lambda: leaf(first) != old, within_seconds=5, what="it to be handed out")
        assert authority.orders[1].replaces == acme_server.renewal_name(old)
        assert len(authority.accounts) == 1


async def test_without_a_suggestion_it_is_renewed_after_two_thirds_of_its_life(authority: AcmeServer) -> None:
    authority.behaviour.days = 90.0
    async with desks(authority, 1) as (_, (first,)), running(first.keeper.run()):
        await has(first)
        assert 56 * 86_400 < first.status.renew_at - first.wall_clock() < 60 * 86_400
        first.ahead = 61 * 86_400.0
        await wait_until(lambda: len(authority.issued) == 2, within_seconds=OBTAINED_SECONDS, what="another")


async def test_orders_are_bounded_by_the_hour(authority: AcmeServer) -> None:
    async with desks(authority, 1) as (_, (first,)), running(first.keeper.run()):
        bounded = wish(authority, orders_per_hour=1)
        more = replace(bounded, id=certificate_id(authority.directory, ("a.example.com",)), hosts=("a.example.com",))
        first.keeper.set_wishes([bounded, more])
        await wait_until(lambda: len(first.obtained) == 1, within_seconds=OBTAINED_SECONDS, what="the first")
        await wait_until(
            lambda: "waits" in first.keeper.status()[1].reason, within_seconds=5, what="the second to wait"
        )
        assert len(authority.orders) == 1
        first.ahead = 3601.0
        await wait_until(lambda: len(first.obtained) == 2, within_seconds=OBTAINED_SECONDS, what="the second")


async def test_an_account_is_bound_to_one_that_the_authority_knows(authority: AcmeServer) -> None:
    authority.behaviour.external = {"customer-7": b"a secret of the authority's"}
    async with desks(authority, 1) as (_, (first,)), running(first.keeper.run()):
        await wait_until(lambda: "(externalAccountRequired)" in first.status.reason, within_seconds=5, what="why not")
        external = External("customer-7", to_base64url(b"a secret of the authority's").encode() + b"\n")
        assert "secret" not in repr(external)
        first.keeper.set_wishes([wish(authority, external=external)])
        first.ahead = 200.0
        await has(first)


async def test_a_store_that_begins_anew_gets_back_what_nodes_hold(authority: AcmeServer) -> None:
    async with desks(authority, 1) as (store, (first,)):
        async with running(first.keeper.run()):
            await has(first)
        again = Desk(store, first.gateway, first.fence, first.disk)
        again.keeper.set_wishes([wish(authority)])
        store.away = True
        await again.keeper.load()
        assert leaf(again) == leaf(first), "it serves without the store"
        store.away = False
        place = KEYS.acme_certificate(wish(authority).id)
        await store.txn([], [Delete(place)])
        async with running(again.keeper.run()):
            await wait_until(lambda: place in (again.keeper._view or {}), within_seconds=5, what="it in the store")
        assert len(authority.orders) == 1 and leaf(again) == leaf(first)


async def test_what_is_not_wanted_any_more_goes_when_it_has_run_out(authority: AcmeServer) -> None:
    async with desks(authority, 1) as (store, (first,)), running(first.keeper.run()):
        await has(first)
        first.keeper.set_wishes([])
        await asyncio.sleep(0.3)  # some ticks
        assert first.obtained, "a rollback would order it anew"
        first.ahead = 91 * 86_400.0
        await wait_until(lambda: not first.obtained, within_seconds=5, what="it to be forgotten")
        assert not (await store.list(KEYS.acme_certificates())).items


async def test_a_proof_of_what_is_not_wanted_any_more_is_taken_away(authority: AcmeServer) -> None:
    authority.behaviour.gate.clear()
    async with desks(authority, 1) as (store, (first,)):
        async with running(first.keeper.run()):
            await wait_until(lambda: authority.looking, within_seconds=5, what="an order under way")
        first.keeper.set_wishes([])
        async with running(first.keeper.run()):
            await wait_until(lambda: not first.held, within_seconds=5, what="the proof to be gone")
        assert not (await store.list(KEYS.acme_challenges())).items


def spoilt(part: str, change: Callable[[Any], Any]) -> Callable[[str, Any], Any]:
    return lambda path, body: change(body) if part in path else body


def of_another_key(chain: bytes) -> bytes:
    return trustme.CA().issue_cert(*HOSTS).cert_chain_pems[0].bytes()


SPOILT = {
    "directory": (spoilt("/directory", lambda body: [body]), "no directory"),
    "page": (spoilt("/directory", lambda body: b"<html>"), "is `directory` right?"),
    "look": (spoilt("/order/", lambda body: {**body, "authorizations": 7}), "no order"),
    "host": (
        spoilt("/authorization/", lambda body: {**body, "identifier": {"type": "dns", "value": "evil.example.com"}}),
        "'evil.example.com' to be proven, which nobody asked for",
    ),
    "token": (
        spoilt(
            "/authorization/",
            lambda body: {**body, "challenges": [{**body["challenges"][0], "token": "<script>"}]},
        ),
        "the token that the authority gives for http-01 is none",
    ),
    "key": (spoilt("/certificate", of_another_key), "for another key"),
    "chain": (spoilt("/certificate", lambda chain: b"-----BEGIN CERTIFICATE-----"), "cannot be read"),
}


@pytest.mark.parametrize("part", SPOILT)
async def test_an_authority_that_answers_nonsense_is_told_of_and_nothing_else_suffers(
    authority: AcmeServer, part: str
) -> None:
    authority.behaviour.spoil, message = SPOILT[part]
    async with desks(authority, 1) as (_, (first,)), running(first.keeper.run()) as tasks:
        await wait_until(lambda: first.status.try_at, within_seconds=5, what="a failure")
        assert message in first.status.reason and not first.obtained and not tasks[0].done()
        authority.behaviour.spoil = lambda path, body: body
        first.ahead = 200.0
        await has(first)
