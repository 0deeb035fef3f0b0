"""Seats against a store: never two nodes on one, a node keeps its own, a limit changes when all have acknowledged."""

import asyncio
from collections.abc import Mapping, Sequence

import pytest
from tests.control.parts import KEYS, FlakyStore, running
from tests.simulation.virtual import run_virtual
from tests.support import wait_until

from meridian.control import seat_orders, seating
from meridian.control.disk import NoDisk
from meridian.control.grants import Grants
from meridian.control.identity import cut_for
from meridian.control.seat_orders import SeatsDamaged, SeatsRefused
from meridian.control.seating import Epoch
from meridian.core.granting.seats import Seat, Tell
from meridian.core.granting.shares import Cut, Rule, Value
from meridian.store.port import Compare, DeletePrefix, Op, Put, StoreUnavailable, TxnResult

CUT = cut_for(3, 2)


class Memory(NoDisk):
    """A disk that outlives the node; while `full` it takes nothing."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.full = False

    async def save(self, name: str, content: bytes) -> None:
        if self.full:
            raise OSError(28, "no space left")
        self.kept[name] = content

    async def load(self, name: str) -> bytes | None:
        return self.kept.get(name)


class Node:
    """An agent's grants, and workers that confirm at once unless they are `slow`."""

    boots = 0

    def __init__(
        self, store: FlakyStore, name: str, *, disk: NoDisk | None = None, cut: Cut = CUT, workers: int = 2,
        sits: bool = True,
    ) -> None:  # fmt: skip
        Node.boots += 1
        self.name = name
        self.store = store
        self.told: list[Tell] = []
        self.slow = False
        self.fence: int | None = None
        self.workers = workers
        self.grants = Grants(
            store, KEYS, name, f"boot{Node.boots}", cut, disk or Memory(), asyncio.get_running_loop().time,
            workers=workers, sits=sits, fence=lambda: self.fence, told=self._told, seated=lambda: None,
        )  # fmt: skip

    async def run(self) -> None:
        await self.grants.load()
        for slot in range(self.workers):
            self.grants.worker_started(slot)
        await self.grants.run()

    def _told(self, cut: Cut, tell: Tell) -> None:
        self.told.append(tell)
        if not self.slow:
            self.confirm()

    def confirm(self) -> None:
        for slot in range(self.workers):
            allowance = self.told[-1].allowance
            self.grants.worker_confirmed(slot, allowance.agent, allowance.sequence)

    @property
    def seats(self) -> set[int]:
        """What its workers may spend, by the last word."""
        return set(self.told[-1].allowance.home | self.told[-1].allowance.leased) if self.told else set()


def store() -> FlakyStore:
    return FlakyStore(asyncio.get_running_loop().time)


def meet(*nodes: Node) -> None:
    for node in nodes:
        node.grants.set_members(one.name for one in nodes)


async def lead(node: Node, rules: Mapping[str, Rule]) -> None:
    """Makes it the leader, by a leader key that is there."""
    await node.store.put(KEYS.leader(), b"leader")
    item = await node.store.get(KEYS.leader())
    assert item is not None
    node.fence = item.create_revision
    node.grants.set_rules(rules)


async def values(of: FlakyStore) -> dict[str, Value]:
    listing = await of.list(KEYS.limit_values())
    return seating.read_values({item.key: item for item in listing.items}, KEYS)


def fresh(node: Node) -> set[int]:
    return set(node.told[-1].allowance.fresh)


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_home_is_fresh_for_the_first_agent_alone_that_ever_sat_there(lost: int) -> None:
    async def story() -> None:
        one = store()
        one.lose_answers = lost
        first = Node(one, "a")
        async with running(first.run()):
            meet(first)
            await asyncio.sleep(15)
        assert fresh(first) == set(first.told[-1].allowance.home) != set()
        again = Node(one, "a")
        async with running(again.run()):
            meet(again)
            await asyncio.sleep(15)
        assert fresh(again) == set() and again.told[-1].allowance.home == first.told[-1].allowance.home
        await seat_orders.free(one, KEYS, "a", [])
        heir = Node(one, "b")
        async with running(heir.run()):
            meet(heir)
            await asyncio.sleep(15)
        assert heir.told[-1].allowance.home and fresh(heir) == set(), "it was another's"

    run_virtual(story)


def test_a_home_that_an_older_node_took_is_not_fresh() -> None:
    async def story() -> None:
        one = store()
        first = Node(one, "a")
        async with running(first.run()):
            meet(first)
            await asyncio.sleep(5)
        await one.txn((), [DeletePrefix(KEYS.limits() + "held/")])  # as it wrote no marks
        second = Node(one, "a")
        async with running(second.run()):
            meet(second)
            await asyncio.sleep(5)
        assert second.told[-1].allowance.home and fresh(second) == set()
        assert (await one.list(KEYS.limits() + "held/")).items

    run_virtual(story)


@pytest.mark.parametrize("lost", [0, 1, 2, 3, 5])
def test_all_seats_are_divided_and_none_is_two_nodes_also_when_answers_are_lost(lost: int) -> None:
    async def story() -> None:
        one = store()
        one.lose_answers = lost
        nodes = [Node(one, name) for name in "abc"]
        meet(*nodes)
        async with running(*(node.run() for node in nodes)):
            await asyncio.sleep(30.0)
            found = [seat for node in nodes for seat in node.seats]
            assert sorted(found) == list(range(12))
            assert [len(node.seats) for node in nodes] == [4, 4, 4]
            assert sorted(len(node.told[-1].allowance.home) for node in nodes) == [1, 1, 1]

    run_virtual(story)


def test_who_is_gone_leaves_its_leased_seats_to_the_others_and_keeps_its_home() -> None:
    async def story() -> None:
        one = store()
        a, b = Node(one, "a"), Node(one, "b")
        meet(a, b)
        async with running(a.run()):
            async with running(b.run()):
                await asyncio.sleep(20.0)
                home = b.told[-1].allowance.home
                assert len(b.seats) == 6 and len(home) == 1
            a.grants.set_members(["a"])
            await asyncio.sleep(30.0)
            assert a.seats == set(range(12)) - home

    run_virtual(story)


def test_a_node_keeps_its_home_without_the_store_and_over_restarts_and_leases_end() -> None:
    async def story() -> None:
        one, disk = store(), Memory()
        first = Node(one, "a", disk=disk)
        meet(first)
        async with running(first.run()):
            await asyncio.sleep(15.0)
            home = first.told[-1].allowance.home
            assert len(first.seats) == 12
            one.away = True
            await asyncio.sleep(CUT.lease_seconds + 1.0)
            assert first.seats == home and first.grants.leased == frozenset()
            assert "the store is away" in first.grants.detail
        again = Node(one, "a", disk=disk)
        meet(again)
        async with running(again.run()):
            await asyncio.sleep(5.0)
            assert again.seats == home, "from the disk"
            one.away = False
            await asyncio.sleep(30.0)
            assert len(again.seats) == 12 and again.told[-1].allowance.home == home
            assert again.grants.detail == ""
        assert first.told[-1].allowance.agent != again.told[-1].allowance.agent, "incarnations are never used twice"

    run_virtual(story)


def test_nothing_is_told_that_could_not_be_saved() -> None:
    async def story() -> None:
        one, disk = store(), Memory()
        disk.full = True
        node = Node(one, "a", disk=disk)
        meet(node)
        async with running(node.run()):
            await asyncio.sleep(5.0)
            assert node.told == [] and "disk cannot be written" in node.grants.detail
            disk.full = False
            await asyncio.sleep(15.0)
            assert len(node.seats) == 12

    run_virtual(story)


def test_a_limit_changes_when_every_holder_keeps_to_the_lesser_and_who_does_not_is_named() -> None:
    async def story() -> None:
        one = store()
        a, b = Node(one, "a"), Node(one, "b")
        meet(a, b)
        old, new = Rule(10.0, 40), Rule(20.0, 20)
        async with running(a.run(), b.run()):
            await asyncio.sleep(20.0)
            await lead(a, {"some": old})
            await asyncio.sleep(2.0)
            assert await values(one) == {"some": Value(0, 0, old)}
            b.slow = True
            a.grants.set_rules({"some": new})
            await asyncio.sleep(5.0)
            assert await values(one) == {"some": Value(0, 1, old, new)}
            assert b.told[-1].values["some"].rules == (old, new), "told, but not confirmed"
            assert a.grants.view is not None and a.grants.view.blocking("some") == ("b",)
            b.slow = False
            b.confirm()
            await asyncio.sleep(3.0)
            assert await values(one) == {"some": Value(0, 2, new)}
            assert a.told[-1].values == b.told[-1].values == {"some": Value(0, 2, new)}

    run_virtual(story)


def test_a_former_leader_changes_no_limit() -> None:
    async def story() -> None:
        one = store()
        node = Node(one, "a")
        meet(node)
        async with running(node.run()):
            await asyncio.sleep(15.0)
            await lead(node, {})
            assert node.fence is not None
            node.fence -= 1
            node.grants.set_rules({"some": Rule(1.0, 1)})
            await asyncio.sleep(5.0)
            assert await values(one) == {}

    run_virtual(story)


def test_writes_end_when_nothing_changes() -> None:
    async def story() -> None:
        one = store()
        nodes = [Node(one, name) for name in "abc"]
        meet(*nodes)
        async with running(*(node.run() for node in nodes)):
            await lead(nodes[0], {"some": Rule(10.0, 40)})
            await asyncio.sleep(40.0)
            before: TxnResult = await one.txn([], [])
            await asyncio.sleep(120.0)
            assert (await one.txn([], [])).revision == before.revision

    run_virtual(story)


def test_another_configuration_is_reported_and_not_applied() -> None:
    async def story() -> None:
        one = store()
        first, second = Node(one, "a"), Node(one, "b", cut=cut_for(5, 4), workers=4)
        async with running(first.run()):
            await asyncio.sleep(0.5)
        meet(second)
        async with running(second.run()):
            await asyncio.sleep(5.0)
            assert second.grants.state is not None and second.grants.state.cut == CUT
            assert "says 5 of 4, which is not applied" in second.grants.detail

    run_virtual(story)


def test_fewer_workers_than_slices_confirm_for_those_that_are_not() -> None:
    async def story() -> None:
        one = store()
        node = Node(one, "a", workers=1)
        meet(node)
        async with running(node.run()):
            await lead(node, {"some": Rule(10.0, 40)})
            await asyncio.sleep(15.0)
            assert await one.get(KEYS.limit_ack("some", "a")) is not None

    run_virtual(story)


def test_a_record_that_cannot_be_read_stops_nothing_that_is_held() -> None:
    async def story() -> None:
        one = store()
        node = Node(one, "a")
        meet(node)
        async with running(node.run()):
            await asyncio.sleep(15.0)
            await one.txn([], [Put(KEYS.limit_seat(3), b"?")])
            await asyncio.sleep(1.0)
            assert "cannot be read" in node.grants.detail and len(node.seats) == 12

    run_virtual(story)


def test_a_restored_store_has_its_values_stamped_with_its_generation() -> None:
    view = seating.read({}, KEYS)
    assert view is None
    restored = seating.View(Epoch(CUT, 1), {0: Seat("a", "n", True)}, {"l": Value(0, 7, Rule(1.0, 1))}, {}, {})
    assert seating.next_value(restored, "l", Rule(1.0, 1)) == Value(1, 8, Rule(1.0, 1))


def test_a_restored_store_moves_nothing_until_an_operator_says_that_all_are_back() -> None:
    async def story() -> None:
        one = store()
        disk = Memory()
        node = Node(one, "a", disk=disk)
        meet(node)
        async with running(node.run()):
            await asyncio.sleep(15.0)
            await lead(node, {"some": Rule(1.0, 1)})
            home = node.grants.home
            assert home
            await one.txn([], [DeletePrefix(KEYS.limits())])
            frozen = Put(KEYS.limit_epoch(), seating.encode(Epoch(CUT, 1, frozen=True)))
            await one.txn([], [frozen, Put(KEYS.limit_value("some"), seating.encode(Value(0, 7, Rule(1.0, 1))))])
            await asyncio.sleep(15.0)
            assert node.grants.home == home  # spent on, and claimed again
            assert "meridian limits settle" in node.grants.detail
            node.grants.set_rules({"some": Rule(2.0, 2)})
            await asyncio.sleep(5.0)
            assert (await values(one))["some"].current == Rule(1.0, 1)
            await seat_orders.settle(one, KEYS)
            await asyncio.sleep(15.0)
            assert (await values(one))["some"].current == Rule(2.0, 2)
            assert node.grants.home == home
            with pytest.raises(SeatsRefused, match="do not wait"):
                await seat_orders.settle(one, KEYS)

    run_virtual(story)


def test_an_emptied_store_costs_nobody_its_home() -> None:
    async def story() -> None:
        one = store()
        nodes = [Node(one, name) for name in "ab"]
        meet(*nodes)
        async with running(nodes[0].run()), running(nodes[1].run()):
            await asyncio.sleep(15.0)
            homes = [node.grants.home for node in nodes]
            assert all(homes)
            await one.txn([], [DeletePrefix(KEYS.limits())])
            for _ in range(150):
                await asyncio.sleep(0.1)
                assert [node.grants.home for node in nodes] == homes
            assert all("meridian limits settle" in node.grants.detail for node in nodes)

    run_virtual(story)


def test_home_seats_of_a_machine_that_is_off_go_to_others_when_an_operator_says_so() -> None:
    async def story() -> None:
        one = store()
        stays, goes = Node(one, "a"), Node(one, "b")
        meet(stays, goes)
        async with running(stays.run()):
            async with running(goes.run()):
                await asyncio.sleep(15.0)
                with pytest.raises(SeatsRefused, match="is there and may be spending"):
                    await seat_orders.free(one, KEYS, "b", ["a", "b"])
            meet(stays)
            await asyncio.sleep(15.0)
            assert goes.grants.home and not goes.grants.home & stays.seats
            assert await seat_orders.free(one, KEYS, "b", ["a"]) == len(goes.grants.home)
            await asyncio.sleep(15.0)
            assert goes.grants.home <= stays.seats
            with pytest.raises(SeatsRefused, match="no home seat"):
                await seat_orders.free(one, KEYS, "b", ["a"])

    run_virtual(story)


def test_a_witness_takes_no_seat_and_changes_limits_while_it_leads() -> None:
    async def story() -> None:
        one = store()
        a, witness = Node(one, "a"), Node(one, "w", sits=False)
        meet(a)
        async with running(a.run(), witness.run()):
            await asyncio.sleep(15.0)
            await lead(witness, {"some": Rule(10.0, 40)})
            await asyncio.sleep(3.0)
            assert await values(one) == {"some": Value(0, 0, Rule(10.0, 40))}
            assert len(a.seats) == 12 and witness.told == [] and witness.grants.detail == ""

    run_virtual(story)


def test_a_witness_alone_does_not_cut_the_limits() -> None:
    async def story() -> None:
        one = store()
        witness = Node(one, "w", sits=False)
        async with running(witness.run()):
            await asyncio.sleep(5.0)
            assert (await one.list(KEYS.limits())).items == ()

    run_virtual(story)


def test_what_was_tried_in_vain_is_not_remembered_for_ever() -> None:
    class Jammed(FlakyStore):
        """It takes leases, and refuses seats."""

        async def txn(self, when: Sequence[Compare], then: Sequence[Op], otherwise: Sequence[Op] = ()) -> TxnResult:
            if any(isinstance(op, Put) and op.key.startswith(KEYS.limit_seats()) for op in then):
                raise StoreUnavailable("jammed")
            return await super().txn(when, then, otherwise)

    async def story() -> None:
        node = Node(Jammed(asyncio.get_running_loop().time), "a")
        meet(node)
        async with running(node.run()):
            await asyncio.sleep(120.0)
            assert 0 < len(node.grants._written) <= 4 * CUT.seats

    run_virtual(story)


@pytest.mark.parametrize("epoch", [b"{", b'{"cut":{"homes":0}}', b'{"cut":{"lease_seconds":1}}'])
async def test_a_damaged_epoch_is_told_as_the_store_s_and_stops_no_agent(epoch: bytes) -> None:
    one = store()
    await one.put(KEYS.limit_epoch(), epoch)
    for order in (seat_orders.settle(one, KEYS), seat_orders.free(one, KEYS, "a", [])):
        with pytest.raises(SeatsDamaged, match="restore a backup"):
            await order
    node = Node(one, "a")
    async with running(node.run()):
        await wait_until(lambda: "cannot be read" in node.grants.detail, within_seconds=5, what="the agent says so")
