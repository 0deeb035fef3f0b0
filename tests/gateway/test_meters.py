"""What one worker counts, through new documents, other slices, and restarts."""

from collections.abc import Collection
from dataclasses import replace

from meridian.core.granting.messages import Ask, Grant, Message
from meridian.core.metering.ledgers import Ledgers, Line, Opened
from meridian.core.metering.portions import ALL, NEVER, Portion
from meridian.core.snapshot import Limit
from meridian.gateway.meters import Meters

NOON = 1_773_144_000.0
HOURLY = Limit("hourly", ("route",), kind="window", amount=10, window_seconds=3600.0)
DAILY = Limit("daily", ("route",), kind="quota", amount=100)
FEW = Limit("few", ("route",), kind="concurrent", amount=2)
LIMITS = {one.name: one for one in (HOURLY, DAILY, FEW)}


def spend(meters: Meters, limit: Limit, now: float = 0.0) -> int:
    """How many more it admits of one key at once."""
    count = 0
    while meters.admit(limit, "k", now, NOON + now) == 0.0:
        count += 1
        meters.written(meters.lines())
    return count


class Machine:
    """Workers of one slot, one after the other, and their disk."""

    def __init__(self, portion: Portion = ALL, fresh: Collection[int] = range(9)) -> None:
        """`fresh`: the slices that nobody had before."""
        self.disk = Ledgers()
        self.portion, self.fresh = portion, fresh

    def start(self, now: float, boot: str = "boot") -> Meters:
        was_new = self.disk.is_new
        self.disk.add(Opened(NOON + now, boot))
        self.disk.is_new = was_new
        meters = Meters("a/0", round(now), self.disk)
        meters.take(Portion(1, ()), now, NOON + now)  # the agent does not know its seats yet
        meters.take(self.portion, now, NOON + now, self.fresh)
        meters.replace(LIMITS, now, NOON + now)
        self.disk.is_new = False
        return meters

    def write(self, lines: list[Line]) -> None:
        for line in lines:
            self.disk.add(line)


def test_a_worker_that_is_new_has_all_at_once() -> None:
    meters = Machine().start(100.0)
    assert [spend(meters, one, 100.0) for one in (HOURLY, DAILY, FEW)] == [10, 100, 2]
    assert meters.period_seconds(HOURLY) == 3600.0 and meters.period_seconds(DAILY) == 86_400.0


def test_a_worker_whose_disk_is_new_has_nothing_of_what_others_may_have_spent() -> None:
    """The running window and day are over for it: its ledger was lost, or the seat was another machine's."""
    meters = Machine(Portion(2, (0, 1)), fresh=(1,)).start(100.0)
    assert [spend(meters, one, 100.0) for one in (HOURLY, DAILY, FEW)] == [5, 50, 2]
    meters = Machine(fresh=()).start(100.0)
    assert [spend(meters, one, 100.0) for one in (HOURLY, DAILY, FEW)] == [0, 0, 2]
    assert (spend(meters, HOURLY, 3900.0), spend(meters, DAILY, 100.0 + 86_400)) == (10, 100)
    alone = Meters.alone(100.0, NOON + 100)
    alone.replace(LIMITS, 100.0, NOON + 100)
    assert spend(alone, DAILY, 100.0) == 100, "who keeps no ledger begins with each start"


def test_a_planned_restart_begins_nothing_anew_and_loses_nothing() -> None:
    machine = Machine()
    first = machine.start(100.0)
    for limit, times in ((HOURLY, 4), (DAILY, 30), (FEW, 1)):
        for _ in range(times):
            assert first.admit(limit, "k", 100.0, NOON + 100) == 0.0
            lines = first.lines()
            machine.write(lines)
            first.written(lines)
    machine.write(first.close())
    second = machine.start(110.0)
    assert [spend(second, one, 110.0) for one in (HOURLY, DAILY, FEW)] == [6, 70, 2]
    assert spend(first, HOURLY, 110.0) == spend(first, DAILY, 110.0) == 0


def test_after_a_crash_windows_wait_and_quotas_count_what_may_have_been_spent() -> None:
    machine = Machine()
    first = machine.start(100.0)
    assert first.admit(DAILY, "k", 100.0, NOON + 100) == 0.0
    machine.write(first.lines())
    second = machine.start(110.0)
    assert spend(second, HOURLY, 110.0) == 0 and spend(second, HOURLY, 110.0 + 3700) == 10
    assert 100 - 30 < spend(second, DAILY, 110.0) < 100


def test_windows_are_not_carried_over_a_boot_whose_clock_begins_anew() -> None:
    machine = Machine()
    machine.write(machine.start(100.0).close())
    assert spend(machine.start(5.0, "another boot"), HOURLY, 5.0) == 0


def test_slices_of_others_wait() -> None:
    meters = Machine(Portion(2, (0,))).start(100.0)
    assert spend(meters, HOURLY, 100.0) == 5
    meters.take(Portion(2, (0, 1)), 200.0, NOON + 200)
    assert spend(meters, HOURLY, 200.0) == 0 and spend(meters, FEW, 200.0) == 2
    assert meters.settled()
    meters.take(Portion(2, (1,)), 300.0, NOON + 300)
    assert not meters.settled()
    meters.release(FEW, "k")
    assert meters.settled()


def test_counts_belong_to_the_name_and_come_back_with_it() -> None:
    meters = Meters.alone(0.0, NOON)
    meters.replace(LIMITS, 0.0, NOON)
    assert spend(meters, HOURLY) == 10
    meters.replace({**LIMITS, "hourly": replace(HOURLY, amount=12)}, 1.0, NOON)
    assert spend(meters, HOURLY, 1.0) == 2, "what was counted stays"
    meters.replace({}, 2.0, NOON)
    meters.replace(LIMITS, 3.0, NOON)
    assert spend(meters, HOURLY, 3.0) == 0
    other = replace(HOURLY, key=("host",))
    meters.replace({"hourly": other}, 4.0, NOON)
    assert spend(meters, other, 4.0) == 10, "another key is another limit"


def test_an_exchange_that_ends_after_its_limit_left_the_document_is_no_fault() -> None:
    meters = Meters.alone(0.0, NOON)
    meters.replace(LIMITS, 0.0, NOON)
    assert meters.admit(FEW, "k", 0.0, NOON) == 0.0
    meters.replace({}, 1.0, NOON)
    meters.release(FEW, "k")
    meters.release(FEW, "k")
    meters.replace(LIMITS, 2.0, NOON)
    assert spend(meters, FEW, 2.0) == 2


def test_letters_lend_between_workers() -> None:
    sent: list[Message] = []
    a, b = Meters("a/0", 1), Meters("b/0", 2)
    for index, meters in enumerate((a, b)):
        meters.post = sent.append
        meters.set_spenders(["a/0", "b/0"])
        meters.replace(LIMITS, 0.0, NOON)
        meters.take(Portion(2, (index,)), 0.0, NOON)
    assert spend(a, HOURLY) == 5
    a.poll(0.1)
    (ask,) = sent
    assert isinstance(ask, Ask) and b.hear(ask, 0.1)
    grant = sent[-1]
    assert isinstance(grant, Grant) and grant.tokens == 1.0 and a.hear(grant, 0.2)
    assert a.admit(HOURLY, "k", 0.3, NOON) == 0.0
    assert spend(b, HOURLY, 0.3) == 4
    assert not a.hear(replace(ask, limit="a token bucket"), 0.3)
    assert a.look(HOURLY, "k", 0.3, NOON)[2] != NEVER


def test_a_limit_that_was_another_for_a_while_goes_on_with_what_it_counted() -> None:
    meters = Meters.alone(0.0, NOON)
    meters.replace(LIMITS, 0.0, NOON)
    assert [spend(meters, one) for one in (HOURLY, DAILY, FEW)] == [10, 100, 2]
    meters.replace({one.name: replace(one, key=("host",)) for one in LIMITS.values()}, 1.0, NOON + 1)  # a mistake,
    meters.replace(LIMITS, 2.0, NOON + 2)  # rolled back
    assert [spend(meters, one, 3.0) for one in (HOURLY, DAILY, FEW)] == [0, 0, 0]
    meters.release(FEW, "k")
    assert spend(meters, FEW, 4.0) == 1


def test_a_limit_that_never_comes_back_is_forgotten_when_it_matters_no_more() -> None:
    meters = Meters.alone(0.0, NOON)
    for index in range(5):
        now = index * 40 * 86_400.0
        meters.replace({f"daily-{index}": replace(DAILY, name=f"daily-{index}")}, now, NOON + now)
    assert len(meters._all()) == 2, "the one in force and the last before it"


def test_of_two_limits_of_one_name_each_is_handed_over_as_what_it_is() -> None:
    machine, by_host = Machine(), replace(HOURLY, key=("host",))
    first = machine.start(100.0)
    machine.write(first.lines())
    assert spend(first, HOURLY, 100.0) == 10
    first.replace({"hourly": by_host}, 101.0, NOON + 101)
    assert [first.admit(by_host, "k", 101.0, NOON + 101) for _ in range(4)] == [0.0] * 4
    machine.write(first.close())
    second = machine.start(110.0)
    assert spend(second, HOURLY, 110.0) == 0
    second.replace({"hourly": by_host}, 111.0, NOON + 111)
    assert spend(second, by_host, 111.0) == 6


def test_slices_are_kept_until_what_a_limit_admitted_that_left_has_ended() -> None:
    meters = Meters.alone(0.0, NOON)
    meters.replace(LIMITS, 0.0, NOON)
    assert meters.admit(FEW, "k", 0.0, NOON) == 0.0
    meters.replace({}, 1.0, NOON)
    meters.take(Portion(1, ()), 2.0, NOON)
    assert not meters.settled()
    meters.release(FEW, "k")
    assert meters.settled()
