"""One worker's limits: levels outlive snapshots, a request that one limit refuses takes from none, and the owner of a
key answers within its time or not at all."""

from collections.abc import Callable, Mapping

import pytest

from meridian.core.granting.messages import Consult, Consulted, Message, addressee
from meridian.core.granting.shares import Cut, Rule, Value
from meridian.core.granting.spender import Allowance
from meridian.core.invariants import admission_violations
from meridian.core.snapshot import Limit
from meridian.gateway.limits import AGAIN_SECONDS, CONSULT_SECONDS, Decision, Limits, Told

CUT = Cut(seats=4, slices=1, homes=2, alone_max=2)
WHOLE = frozenset(range(4))


class Scene:
    """Workers of a cluster, their clock, and the letters between them."""

    def __init__(self, names: str = "ab") -> None:
        self.now = 100.0
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.lost = False
        self.workers = {name: self.worker(name) for name in names}

    def worker(self, name: str) -> Limits:
        limits = Limits(lambda: self.now, alone=False)
        limits.join(f"{name}/0", 0)
        limits.post = self.post
        limits.later = lambda seconds, act: self.timers.append((self.now + seconds, act))
        return limits

    def post(self, message: Message) -> None:
        if not self.lost:
            self.workers[addressee(message)[0]].hear(message, self.now)

    def wait(self, seconds: float) -> None:
        self.now += seconds
        for due, act in self.timers:
            if due <= self.now:
                act()

    def tell(self, limit: Limit, seats: Mapping[str, frozenset[int]], *, sequence: int = 0, lost: bool = False) -> None:
        value = Value(0, sequence, Rule(limit.rate_per_second, limit.burst))
        sitting = {seat: name for name, held in seats.items() for seat in held}
        for name, worker in self.workers.items():
            told = Allowance("agent", sequence, seats.get(name, frozenset()))
            worker.allow(Told(CUT, told, {limit.name: value}, store_is_lost=lost), self.now)
            worker.set_spenders([f"{one}/0" for one in self.workers], sitting)
            worker.replace({limit.name: limit}, self.now)


def alone(now: float, *limits: Limit) -> Limits:
    made = Limits(lambda: now)
    made.replace({limit.name: limit for limit in limits}, now)
    return made


def test_a_new_snapshot_keeps_levels_and_a_new_key_function_starts_empty() -> None:
    old = Limit("few", ("client_ip",), 10.0, 5)
    limits = alone(0.0, old)
    assert [limits.decide([(old, "a")], 10.0).admitted for _ in range(6)] == [True] * 5 + [False]
    new = Limit("few", ("client_ip",), 100.0, 50)
    limits.replace({"few": new}, 10.0)
    assert not limits.decide([(new, "a")], 10.0).admitted, "no burst by a change of the burst"
    assert limits.decide([(new, "a")], 10.2).admitted, "but the new rate counts"
    by_route = Limit("few", ("route",), 100.0, 50)
    limits.replace({"few": by_route}, 20.0)
    assert not limits.decide([(by_route, "r")], 20.0).admitted


def test_a_request_that_one_limit_refuses_takes_from_none() -> None:
    wide, narrow = Limit("wide", ("route",), 1.0, 5), Limit("narrow", ("client_ip",), 1.0, 2)
    limits = alone(0.0, wide, narrow)
    asked = [(wide, "r"), (narrow, "a")]
    first = limits.decide(asked, 10.0)
    assert (first.admitted, first.limit, first.remaining) == (True, "narrow", 1)
    assert first.reset_seconds == pytest.approx(1.01), "one token, by a clock that may be 1 % fast"
    assert limits.decide(asked, 10.0).admitted
    refused = limits.decide(asked, 10.0)
    assert not refused.admitted and refused.limit == "narrow" and 0.9 < refused.retry_after_seconds < 1.1
    assert [limits.decide([(wide, "r")], 10.0).remaining for _ in range(3)] == [2, 1, 0], "nothing was taken of wide"


def test_a_worker_spends_nothing_before_it_is_told_and_nothing_of_what_it_may_have_lent() -> None:
    scene, limit = Scene(), Limit("some", ("client_ip",), 10.0, 40)
    scene.workers["a"].replace({"some": limit}, scene.now)
    assert not scene.workers["a"].decide([(limit, "k")], scene.now).admitted
    scene.tell(limit, {"a": WHOLE})
    scene.now += CUT.withheld_seconds / 2
    assert not scene.workers["a"].decide([(limit, "k")], scene.now).admitted
    assert scene.workers["a"].confirmed(scene.now) is None
    scene.now += CUT.withheld_seconds / 2 + 1.0
    times = [scene.now for _ in range(100) if scene.workers["a"].decide([(limit, "k")], scene.now).admitted]
    assert 5 <= len(times) <= 11, "what accrued since, and no burst"
    assert scene.workers["a"].confirmed(scene.now) == ("agent", 0)


def test_workers_lend_to_each_other_and_stay_within_the_limit() -> None:
    scene, limit = Scene(), Limit("some", ("client_ip",), 50.0, 40)
    scene.tell(limit, {"a": frozenset({0, 1}), "b": frozenset({2, 3})})
    times: list[float] = []
    for step in range(2000):
        scene.now += 0.005
        if scene.workers["a"].decide([(limit, "k")], scene.now).admitted:
            times.append(scene.now)
        if step % 10 == 0:
            for worker in scene.workers.values():
                worker.poll(scene.now)
    assert admission_violations(times, 50.0, 40) == []
    late = [time for time in times if time > 105.0]
    assert len(late) >= 0.95 * 50.0 * (scene.now - 105.0), f"all of the limit reaches one worker: {len(late)}"


def test_the_owner_of_a_small_limits_key_is_asked_and_admits_for_all() -> None:
    scene, limit = Scene(), Limit("two", ("client_ip",), 1.0, 2)
    scene.tell(limit, {"a": frozenset({0, 1}), "b": frozenset({2, 3})})
    scene.now += 10.0
    admitted: list[Decision] = []
    for worker in scene.workers.values():
        for number in range(30):
            asked = [(limit, f"k{number}")]
            for _ in range(2):
                if worker.consults(asked):
                    worker.consult(asked, admitted.append)
                else:
                    admitted.append(worker.decide(asked, scene.now))
    assert sum(decision.admitted for decision in admitted) == 30 * 2, "two each, whichever worker was asked"
    assert {decision.limit for decision in admitted} == {"two"}


@pytest.mark.parametrize("policy", ["deny", "allow"])
def test_an_owner_that_does_not_answer_costs_no_more_than_its_time(policy: str) -> None:
    scene = Scene()
    limit = Limit("two", ("client_ip",), 1.0, 2, when_unreachable="allow" if policy == "allow" else "deny")
    scene.tell(limit, {"b": WHOLE})
    scene.now += 10.0
    scene.lost = True
    found: list[Decision] = []
    scene.workers["a"].consult([(limit, "k")], found.append)
    scene.wait(CONSULT_SECONDS / 2)
    assert found == []
    scene.wait(CONSULT_SECONDS / 2)
    assert found == [Decision(policy == "allow", "two", 0, 0.0, 0.0 if policy == "allow" else AGAIN_SECONDS)]


def test_an_answer_admits_one_request_once() -> None:
    scene, limit = Scene(), Limit("two", ("client_ip",), 1.0, 2)
    scene.tell(limit, {"b": WHOLE})
    sent: list[Consult] = []
    worker = scene.workers["a"]
    worker.post = lambda message: sent.append(message) if isinstance(message, Consult) else None
    found: list[Decision] = []
    worker.consult([(limit, "k")], found.append)
    answer = Consulted("two", "k", "a/0", sent[0].number, True, 1.0, 1.0, 0.0)
    worker.hear(answer, scene.now)
    worker.hear(answer, scene.now)
    worker.hear(Consulted("two", "k", "a/0", sent[0].number + 1, True, 1.0, 1.0, 0.0), scene.now)
    scene.wait(1.0)
    assert [decision.admitted for decision in found] == [True]


@pytest.mark.parametrize(("policy", "admitted"), [("floor", 10), ("deny", 0), ("open", 20)])
def test_what_happens_when_the_store_is_lost_is_the_operators_choice(policy: str, admitted: int) -> None:
    scene = Scene("a")
    policies = {"floor": "floor", "deny": "deny", "open": "open"}
    limit = Limit("some", ("client_ip",), 1.0, 40, when_store_is_lost=policies[policy])  # type: ignore[arg-type] # a literal
    scene.tell(limit, {"a": frozenset({0})})
    scene.now += 100.0
    scene.tell(limit, {"a": frozenset({0})}, sequence=1, lost=True)
    decisions = [scene.workers["a"].decide([(limit, "k")], scene.now) for _ in range(20)]
    assert sum(decision.admitted for decision in decisions) == admitted


def test_what_a_limit_lent_before_it_left_is_waited_for() -> None:
    scene, limit = Scene(), Limit("some", ("client_ip",), 10.0, 40)
    scene.tell(limit, {"a": WHOLE})
    scene.now += 10.0
    worker = scene.workers["a"]
    assert worker.confirmed(scene.now) == ("agent", 0)
    worker.replace({}, scene.now)
    assert worker.confirmed(scene.now) is None
    worker.replace({"some": limit}, scene.now)
    scene.now += CUT.withheld_seconds - 0.1
    assert not worker.decide([(limit, "k")], scene.now).admitted and worker.confirmed(scene.now) is None
    scene.now += 0.2
    assert worker.confirmed(scene.now) == ("agent", 0)


def consulted(worker: Limits, *asked: tuple[Limit, str]) -> bool:
    """Whether it admits, with the owner's answer if one is to be asked."""
    found: list[Decision] = []
    if not worker.consults(asked):
        return worker.decide(asked, worker._clock()).admitted
    worker.consult(asked, found.append)
    return found[0].admitted


@pytest.mark.parametrize(("policy", "admitted"), [("floor", 2), ("deny", 0), ("open", 5)])
def test_what_happens_when_the_store_is_lost_holds_for_a_key_of_another_worker_too(policy: str, admitted: int) -> None:
    scene, policies = Scene(), {"floor": "floor", "deny": "deny", "open": "open"}
    limit = Limit("two", ("client_ip",), 1.0, 2, when_store_is_lost=policies[policy])  # type: ignore[arg-type] # a literal
    scene.tell(limit, {"a": WHOLE})
    scene.now += 100.0
    scene.tell(limit, {"a": WHOLE}, sequence=1, lost=True)
    assert sum(consulted(scene.workers["b"], (limit, "k")) for _ in range(5)) == admitted


def test_a_limit_that_is_open_without_the_store_opens_no_other() -> None:
    scene = Scene()
    two = Limit("two", ("client_ip",), 1.0, 2)
    some = Limit("some", ("client_ip",), 1.0, 40, when_store_is_lost="open")
    values = {one.name: Value(0, 0, Rule(one.rate_per_second, one.burst)) for one in (two, some)}
    for name, worker in scene.workers.items():
        home = WHOLE if name == "a" else frozenset[int]()
        worker.allow(Told(CUT, Allowance("agent", 0, home), values, store_is_lost=True), scene.now)
        worker.set_spenders(["a/0", "b/0"], dict.fromkeys(WHOLE, "a"))
        worker.replace({"two": two, "some": some}, scene.now)
    scene.now += 100.0
    assert sum(consulted(scene.workers["b"], (some, "k"), (two, "k")) for _ in range(5)) == 2


def test_what_was_lent_before_limits_were_cut_anew_is_waited_for() -> None:
    scene, limit = Scene(), Limit("some", ("client_ip",), 10.0, 40)
    scene.tell(limit, {"a": WHOLE})
    scene.now += 10.0
    worker, value = scene.workers["a"], {"some": Value(0, 0, Rule(10.0, 40))}
    assert worker.confirmed(scene.now) == ("agent", 0)
    anew = Cut(seats=8, slices=1, homes=2, alone_max=2)
    worker.allow(Told(anew, Allowance("agent", 1, frozenset(range(8))), value), scene.now)
    scene.now += CUT.withheld_seconds - 0.1
    assert not worker.decide([(limit, "k")], scene.now).admitted and worker.confirmed(scene.now) is None
    scene.now += 0.3
    assert worker.decide([(limit, "k")], scene.now).admitted and worker.confirmed(scene.now) == ("agent", 1)
