"""Each policy by itself, and what holds for all of them whatever the world looks like."""

from collections import Counter
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meridian_dns.choosing import choose, order_for, with_groups
from meridian_dns.nearness import Client
from meridian_dns.records import AAAA, A
from meridian_dns.steering import POLICIES, Choice, Steer, latency_row
from meridian_dns.view import Distance, Distances, Member, Region, RegionView

NAMES = ("eu", "us", "asia")
EXTRAS: dict[str, dict[str, object]] = {
    "weighted": {"weights": (("eu", 3), ("us", 0))},
    "latency": {"latency_milliseconds": (("asia", (("us", 5.0), ("eu", 9.0))), ("eu", (("eu", 1.0),)))},
}


def steer(policy: str, regions: tuple[str, ...] = NAMES, **more: object) -> Steer:
    return replace(Steer(policy, regions), **(EXTRAS.get(policy, {}) | more))  # type: ignore[arg-type]  # fields


def region(name: str, *addresses: str, serving: bool = True, suspect: bool = False, **more: object) -> Region:
    members = tuple(Member(f"{name}{index}", (address,), True) for index, address in enumerate(addresses))
    return Region(name, members, serving, suspect, **more)  # type: ignore[arg-type]  # near and fallback


EU, US, ASIA = (
    region("eu", "192.0.2.1", "192.0.2.2", near=("10.0.0.0/8",)),
    region("us", "192.0.2.3", near=("20.0.0.0/8",)),
    region("asia", "192.0.2.4", near=("30.0.0.0/8",)),
)
ANYONE = Client("10.0.0.1", None, None, None)


def world(*regions: Region) -> RegionView:
    return RegionView(1, {region.name: region for region in regions})


def out(region: Region) -> Region:
    return replace(region, serving=False)


def suspected(region: Region) -> Region:
    return replace(region, suspect=True)


def pick(wanted: Steer, view: RegionView, client: Client = ANYONE, draw: int = 0, type_: int = A) -> Choice:
    return choose(wanted, type_, view, order_for(wanted, view, client), draw)


def last_bytes(choice: Choice) -> list[int]:
    return [rdata[-1] for rdata in choice.rdatas]


def test_failover_answers_the_first_region_that_serves() -> None:
    first = steer("failover", ("us", "eu", "asia"))
    assert last_bytes(pick(first, world(EU, US, ASIA))) == [3]
    assert last_bytes(pick(first, world(EU, out(US), ASIA))) == [1, 2]
    assert last_bytes(pick(first, world(EU, out(US), ASIA), draw=1)) == [2, 1]
    assert last_bytes(pick(first, world(out(EU), out(US), ASIA))) == [4]
    assert last_bytes(pick(first, world(out(EU), out(US), out(ASIA)))) == [3, 1, 2, 4], "fails open"
    assert last_bytes(pick(first, world(EU, suspected(US), ASIA))) == [1, 2, 3], "the suspect is last, and kept"
    assert last_bytes(pick(first, world(suspected(EU), suspected(US), ASIA))) == [4, 3]
    assert last_bytes(pick(first, world(EU, US, suspected(ASIA)))) == [3]


def shares(wanted: Steer, view: RegionView) -> Counter[tuple[int, ...]]:
    draws = pick(wanted, view).draws
    return Counter(tuple(sorted(last_bytes(pick(wanted, view, draw=draw)))) for draw in range(draws))


def test_weighted_is_exact_over_all_draws() -> None:
    wanted = steer("weighted", weights=(("eu", 600), ("us", 300), ("asia", 100)))
    found = shares(wanted, world(EU, US, ASIA))
    assert found == {(1, 2): 12, (3,): 6, (4,): 2}
    assert shares(wanted, world(EU, out(US), ASIA)) == {(1, 2): 12, (4,): 2}
    turned = Counter(pick(wanted, world(EU), draw=draw).rdatas[0][-1] for draw in range(2))
    assert turned == {1: 1, 2: 1}, "chance also turns the members"


def test_weight_zero_is_never_answered_unless_all_others_failed() -> None:
    wanted = steer("weighted", weights=(("eu", 5), ("us", 0), ("asia", 0)))
    assert set(shares(wanted, world(EU, US, ASIA))) == {(1, 2)}
    assert set(shares(wanted, world(suspected(EU), US, ASIA))) == {(1, 2)}
    assert shares(wanted, world(out(EU), US, ASIA)) == {(3,): 1, (4,): 1}
    assert set(shares(wanted, world(out(EU), out(US), out(ASIA)))) == {(1, 2, 3, 4)}


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=4))
def test_a_drawn_suspect_is_joined_by_another_in_proportion(kinds: list[tuple[int, bool]]) -> None:
    regions = [region(f"r{at}", f"192.0.2.{at}", suspect=suspect) for at, (_, suspect) in enumerate(kinds)]
    wanted = steer("weighted", (), weights=tuple((f"r{at}", weight) for at, (weight, _) in enumerate(kinds)))
    found: Counter[int] = Counter()
    draws = pick(wanted, world(*regions)).draws
    for draw in range(draws):
        chosen = last_bytes(pick(wanted, world(*regions), draw=draw))
        found[chosen[0]] += 1
        assert len(chosen) == 1 or [kinds[at][1] for at in chosen] == [False, True]
    weights = [weight for weight, _ in kinds] if any(weight for weight, _ in kinds) else [1] * len(kinds)
    firm = [at for at, (_, suspect) in enumerate(kinds) if not suspect and weights[at]]
    first = firm or [at for at in range(len(kinds)) if weights[at]]
    total = sum(weights[at] for at in first)
    assert found == {at: draws * weights[at] // total for at in first}


def test_multivalue_turns_all_that_serve() -> None:
    wanted = steer("multivalue")
    view = world(EU, suspected(US), ASIA)
    seen = [last_bytes(pick(wanted, view, draw=draw)) for draw in range(3)]
    assert seen == [[1, 2, 4, 3], [2, 4, 1, 3], [4, 1, 2, 3]]
    assert pick(wanted, view).draws == 3
    assert len(last_bytes(pick(steer("multivalue", answers_max=2), view))) == 2


def shared(region: Region, share: float) -> Region:
    return replace(region, share=share)


NETWORKS = [Client(f"10.{at // 256}.{at % 256}.7", None, None, None) for at in range(2000)]


def first_of(wanted: Steer, view: RegionView) -> list[int]:
    return [last_bytes(pick(wanted, view, client))[0] for client in NETWORKS]


@pytest.mark.parametrize("policy", ["geo", "latency", "failover", "sticky"])
def test_a_share_is_of_clients_and_those_of_a_smaller_one_are_in_the_greater(policy: str) -> None:
    wanted = steer(policy)
    if policy == "latency":
        wanted = replace(wanted, latency_milliseconds=(("eu", (("eu", 1.0),)),))
    whole, most, few = (first_of(wanted, world(shared(EU, share), US, ASIA)) for share in (1.0, 0.75, 0.25))
    home = [at for at, found in enumerate(whole) if found in (1, 2)]
    assert abs(sum(most[at] in (1, 2) for at in home) / len(home) - 0.75) < 0.08
    assert abs(sum(few[at] in (1, 2) for at in home) / len(home) - 0.25) < 0.08
    assert all(most[at] in (1, 2) for at in home if few[at] in (1, 2))
    assert all(most[at] == whole[at] for at in range(len(whole)) if whole[at] not in (1, 2))
    assert few == first_of(wanted, world(shared(EU, 0.25), US, ASIA)), "a client stays where it is"
    view = world(shared(EU, 0.25), US, ASIA)
    choices = [pick(wanted, view, client) for client in NETWORKS[:50]]
    assert all(choice.client_matters for choice in choices)
    assert all(order_for(wanted, view, client).scope >= 24 for client in NETWORKS[:50])
    assert len({choice.draws for choice in choices}) == 1, "or the fast path would take one for another"


def test_weights_and_turns_follow_the_shares() -> None:
    wanted = steer("weighted", weights=(("eu", 1), ("us", 1), ("asia", 0)))
    assert shares(wanted, world(shared(EU, 0.25), US, ASIA)) == {(1, 2): 2, (3,): 8}
    assert set(shares(wanted, world(shared(EU, 0.05), out(US), out(ASIA)))) == {(1, 2)}
    pooled = shares(steer("multivalue"), world(shared(EU, 0.25), US, ASIA))
    assert pooled[1, 2, 3, 4] * 3 == pooled[3, 4]
    assert set(shares(steer("multivalue"), world(shared(EU, 0.25), suspected(US), out(ASIA)))) == {(1, 2, 3)}


@pytest.mark.parametrize("policy", POLICIES)
def test_nobody_is_sent_away_to_a_suspect_or_to_nobody(policy: str) -> None:
    for client in NETWORKS[:100]:
        alone = pick(steer(policy), world(shared(EU, 0.05), out(US), out(ASIA)), client)
        assert sorted(last_bytes(alone)) == [1, 2] and not alone.failed_open
        beside = pick(steer(policy, ("eu", "us")), world(shared(EU, 0.05), suspected(US)), client)
        assert 1 in last_bytes(beside)


def test_a_share_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="not between 0 and 1"):
        region("eu", "192.0.2.1", share=1.5)


def test_latency_asks_the_matrix_from_the_clients_own_region() -> None:
    matrix = (("eu", (("eu", 4.0), ("us", 90.0), ("asia", 70.0))), ("asia", (("asia", 3.0), ("us", 8.0), ("eu", 70.0))))
    wanted = steer("latency", latency_milliseconds=matrix)
    view = world(EU, US, ASIA)
    near = {name: Client(f"{first}.0.0.1", None, None, None) for name, first in (("eu", 10), ("us", 20), ("asia", 30))}
    assert last_bytes(pick(wanted, view, near["eu"])) == [1, 2, 4, 3]
    assert last_bytes(pick(wanted, view, near["asia"])) == [4, 3, 1, 2]
    assert last_bytes(pick(wanted, world(EU, US, out(ASIA)), near["asia"])) == [3, 1, 2]
    assert order_for(wanted, view, near["eu"]).scope >= 8
    unmeasured = steer("latency", latency_milliseconds=(("mars", (("us", 1.0),)),))
    assert last_bytes(pick(unmeasured, view, near["eu"])) == [1, 2, 3, 4]


NEAR = {name: Client(f"{first}.0.0.1", None, None, None) for name, first in (("eu", 10), ("us", 20), ("asia", 30))}


def measured(**rows: dict[str, float]) -> Distances:
    found: dict[str, dict[str, Distance]] = {}
    for one, row in rows.items():
        for other, milliseconds in row.items():
            for start, end in ((one, other), (other, one)):
                found.setdefault(start, {})[end] = Distance(milliseconds, 90.0)
    return found


def test_latency_goes_by_what_was_measured_where_nothing_is_given() -> None:
    view = replace(world(EU, US, ASIA), distances=measured(eu={"us": 90.0, "asia": 70.0}, asia={"us": 80.0}))
    wanted = Steer("latency", NAMES)
    assert last_bytes(pick(wanted, view, NEAR["eu"])) == [1, 2, 4, 3]
    assert last_bytes(pick(wanted, view, NEAR["us"])) == [3, 4, 1, 2]
    given = steer("latency", latency_milliseconds=(("us", (("eu", 1.0),)),))
    assert last_bytes(pick(given, view, NEAR["us"])) == [3, 1, 2, 4], "one way is given, the other measured"
    outside = Steer("latency", ("eu", "asia"))
    assert last_bytes(pick(outside, view, NEAR["us"])) == [4, 1, 2], "who is near a region that is not among them"
    assert last_bytes(pick(wanted, world(EU, US, ASIA), NEAR["us"])) == [1, 2, 3, 4], "nothing is known yet"
    half = replace(view, distances=measured(us={"asia": 80.0}))
    assert last_bytes(pick(wanted, half, NEAR["us"])) == [3, 4, 1, 2], "what is not known comes last"


def test_a_group_is_as_far_as_the_nearest_of_it() -> None:
    west = steer("failover", ("us", "asia"))
    wanted = Steer("latency", ("eu", "west"), groups=(("west", west),))
    view = replace(world(EU, US, ASIA), distances=measured(eu={"us": 90.0, "asia": 70.0}))
    assert last_bytes(pick(wanted, view, NEAR["asia"])) == [3, 1, 2], "it is in the group"
    row = latency_row(wanted, with_groups(wanted, view), NEAR["eu"])
    assert with_groups(wanted, view).distances["asia"]["west"].milliseconds == 0.0
    assert (row.start, row.milliseconds_to("west"), row.milliseconds_to("eu")) == ("eu", 70.0, 0.0)


def clients() -> list[Client]:
    return [Client(f"100.{high}.{low}.9", None, None, None) for high in range(8) for low in range(0, 256, 4)]


def test_sticky_keeps_a_network_where_it_is_and_moves_only_whose_region_left() -> None:
    wanted = steer("sticky")
    all_well, without_us = world(EU, US, ASIA), world(EU, out(US), ASIA)
    before = {client.address: pick(wanted, all_well, client).rdatas for client in clients()}
    after = {client.address: pick(wanted, without_us, client).rdatas for client in clients()}
    us = (bytes((192, 0, 2, 3)),)
    assert all(after[address] == before[address] for address in before if before[address] != us)
    spread = Counter(rdatas[0][-1] for rdatas in before.values())
    assert set(spread) == {1, 2, 3, 4}
    assert all(count > len(before) / 10 for count in spread.values())
    assert pick(wanted, all_well).draws == 1
    neighbour = Client("100.0.0.200", ip_network("100.0.0.0/24"), None, None)
    assert pick(wanted, all_well, neighbour).rdatas == before["100.0.0.9"]


@st.composite
def views(draw: st.DrawFn) -> RegionView:
    regions = []
    for at, name in enumerate(NAMES):
        members = tuple(
            Member(f"{name}{index}", addresses, serving)
            for index, (addresses, serving) in enumerate(
                draw(
                    st.lists(
                        st.tuples(
                            st.sampled_from([(f"192.0.2.{at}",), (f"192.0.2.{at + 9}", "2001:db8::1"), ()]),
                            st.booleans(),
                        ),
                        max_size=3,
                    )
                )
            )
        )
        near = tuple(draw(st.lists(st.sampled_from(["10.0.0.0/8", "10.1.0.0/16", "2001:db8::/32"]), max_size=2)))
        share = draw(st.sampled_from([1.0, 1.0, 0.5, 0.05]))
        regions.append(Region(name, members, draw(st.booleans()), draw(st.booleans()), near, share=share))
    ways = {name: draw(st.floats(0.0, 500.0)) for name in NAMES if draw(st.booleans())}
    distances = measured(**{one: {other: way for other in NAMES if other != one} for one, way in ways.items()})
    return replace(world(*regions), distances=distances)


def addresses_of(view: RegionView, type_: int, *, serving: bool) -> set[bytes]:
    return {
        packed
        for region in view.regions.values()
        for member in region.members
        if not serving or (region.serving and member.serving)
        for packed in (ip_address(address).packed for address in member.addresses)
        if len(packed) == (4 if type_ == A else 16)
    }


def grouped(outer: str, inner: str, **more: object) -> Steer:
    """Europe, or a group of the two others."""
    west = steer(inner, ("us", "asia"), weights=(("us", 2),) if inner == "weighted" else (), **more)
    if inner == "latency":
        west = replace(west, latency_milliseconds=(("eu", (("asia", 1.0),)),))
    of = steer(outer, ("eu", "west"), weights=(("west", 2),) if outer == "weighted" else (), groups=(("west", west),))
    return replace(of, latency_milliseconds=(("us", (("west", 1.0),)),)) if outer == "latency" else of


KINDS = {policy: steer(policy) for policy in POLICIES}
KINDS["latency, measured"] = Steer("latency", NAMES)
KINDS["latency of groups, measured"] = replace(grouped("failover", "geo"), policy="latency")
KINDS |= {f"{policy}, two regions": steer(policy, spread=2) for policy in POLICIES}
KINDS |= {f"{o} of {i}": grouped(o, i) for o in POLICIES if o != "multivalue" for i in POLICIES}


def test_a_group_is_one_region_to_the_policy_around_it() -> None:
    nearest = grouped("geo", "failover")
    eu, us = (Client(f"{first}.0.0.1", None, None, None) for first in (10, 20))
    view = world(EU, US, ASIA)
    assert last_bytes(pick(nearest, view, eu)) == [1, 2, 3]
    assert last_bytes(pick(nearest, view, us)) == [3, 1, 2], "near the group is who is near one of it"
    assert last_bytes(pick(nearest, world(EU, out(US), ASIA), us)) == [4, 1, 2], "the group serves while one of it does"
    assert last_bytes(pick(nearest, world(EU, out(US), out(ASIA)), us)) == [1, 2]
    assert last_bytes(pick(nearest, world(out(EU), out(US), out(ASIA)), us)) == [3, 4, 1, 2], "fails open"
    assert order_for(nearest, view, us).regions == ("us", "asia", "eu")


def test_chance_within_and_around_a_group_is_independent() -> None:
    wanted = steer(
        "weighted", ("eu", "west"), weights=(), groups=(("west", steer("weighted", ("us", "asia"), weights=())),)
    )
    assert shares(wanted, world(EU, US, ASIA)) == {(1, 2): 4, (3,): 2, (4,): 2}
    thirds = replace(wanted, weights=(("west", 2),))
    assert shares(thirds, world(EU, US, ASIA)) == {(1, 2): 4, (3,): 4, (4,): 4}


def test_a_group_with_a_share_sends_others_away_only_when_all_of_it_is_short() -> None:
    wanted = grouped("failover", "failover")
    wanted = replace(wanted, regions=("west", "eu"))
    some = first_of(wanted, world(EU, shared(US, 0.5), ASIA))
    assert set(some) == {3, 4}
    less = first_of(wanted, world(EU, shared(US, 0.5), shared(ASIA, 0.5)))
    assert abs(sum(found in (3, 4) for found in less) / len(less) - 0.5) < 0.08


@pytest.mark.parametrize("policy", POLICIES)
def test_spread_gives_a_second_region_where_one_serves(policy: str) -> None:
    wanted = steer(policy, spread=2, answers_max=2) if policy != "weighted" else steer(policy, weights=(), spread=2)
    home = {1: "eu", 2: "eu", 3: "us", 4: "asia"}
    for client in NETWORKS[:50]:
        view = world(EU, US, ASIA)
        for draw in range(pick(wanted, view, client).draws):
            found = {home[last] for last in last_bytes(pick(wanted, view, client, draw))}
            assert len(found) == 2 or policy == "multivalue"
    assert {home[last] for last in last_bytes(pick(wanted, world(EU, out(US), out(ASIA))))} == {"eu"}


def test_a_second_region_is_turned_so_that_one_death_is_not_one_others_load() -> None:
    wanted = steer("weighted", ("eu", "us", "asia"), weights=(), spread=2)
    view = world(EU, US, ASIA)
    seconds = Counter(
        last_bytes(found)[1]
        for draw in range(pick(wanted, view).draws)
        if last_bytes(found := pick(wanted, view, draw=draw))[0] == 3
    )
    assert seconds[4] * 2 > sum(seconds.values()) * 0.9, seconds
    assert seconds[4] < sum(seconds.values()) * 0.6, seconds


@pytest.mark.parametrize("policy", KINDS)
@settings(max_examples=30, deadline=None)
@given(
    view=views(),
    draw=st.integers(0, 1000),
    address=st.ip_addresses().filter(lambda address: not getattr(address, "scope_id", None)).map(str)
    | st.sampled_from(["10.0.0.1", "10.1.0.0", "10.1.255.255", "2001:db8::5"]),
    noise=st.integers(0, 2**128 - 1),
    type_=st.sampled_from([A, AAAA]),
)
def test_health_chance_and_scope_hold_for_every_policy(
    policy: str, view: RegionView, draw: int, address: str, noise: int, type_: int
) -> None:
    wanted = KINDS[policy]
    client = Client(address, None, None, None)
    got = pick(wanted, view, client, draw, type_)
    healthy, everything = addresses_of(view, type_, serving=True), addresses_of(view, type_, serving=False)
    if healthy:
        assert got.rdatas
        assert set(got.rdatas) <= healthy
        firm = {name: region for name, region in view.regions.items() if not region.suspect}
        trusted = addresses_of(RegionView(1, firm), type_, serving=True)
        if trusted and "weighted" not in policy:
            assert got.rdatas[0] in trusted, "a suspect is never first while another serves"
    else:
        assert set(got.rdatas) == everything, "fails open"
    assert got.failed_open is bool(everything and not healthy)
    assert len(set(got.rdatas)) == len(got.rdatas)
    assert pick(wanted, view, client, draw + got.draws, type_) == got
    assert pick(wanted, view, client, draw + 1, type_).draws == got.draws
    # Every client that shares the scope's bits gets the same.
    packed = ip_address(address)
    bits = packed.max_prefixlen
    scope = order_for(wanted, view, client).scope if got.client_matters else 0
    mask = (1 << bits - scope) - 1
    other = ip_address((int(packed) & ~mask) | (noise & mask))
    if other.version == packed.version:
        assert pick(wanted, view, Client(str(other), None, None, None), draw, type_) == got
