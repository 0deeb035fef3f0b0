"""The range map against the definition, network by network; the scope against its promise."""

from ipaddress import IPv4Address, IPv4Network, ip_network

from hypothesis import given
from hypothesis import strategies as st

from meridian_dns.nearness import RangeMap

# A small corner of the address space, so that networks nest, touch and repeat often.
CORNER = int(IPv4Address("10.0.0.0"))
NETWORKS = st.builds(
    lambda offset, prefix: ip_network((CORNER + offset, prefix), strict=False), st.integers(0, 255), st.integers(22, 32)
)


@given(st.lists(st.tuples(NETWORKS, st.sampled_from(["a", "b", "c"])), max_size=8), st.integers(-300, 600))
def test_longest_first_and_honest_scope(networks: list[tuple[IPv4Network, str]], offset: int) -> None:
    ranks = {"a": 0, "b": 1, "c": 2}
    table = RangeMap.build(32, [(network, ranks[name], name) for network, name in networks])
    address = CORNER + offset

    def expected(at: int) -> tuple[str, ...]:
        matching = [(network, name) for network, name in networks if IPv4Address(at) in network]
        matching.sort(key=lambda entry: (-entry[0].prefixlen, ranks[entry[1]]))
        return tuple(dict.fromkeys(name for _, name in matching))

    found, scope = table.find(address)
    assert found == expected(address)
    if scope >= 20:
        neighbours = ip_network((address, scope), strict=False)
        for other in range(int(neighbours[0]), int(neighbours[-1]) + 1, max(1, neighbours.num_addresses // 512)):
            assert expected(other) == found
    if not networks:
        assert scope == 0


def test_edges_of_the_address_space() -> None:
    table = RangeMap.build(32, [(ip_network("0.0.0.0/1"), 0, "low"), (ip_network("255.0.0.0/8"), 1, "high")])
    assert table.find(0) == (("low",), 1)
    assert table.find(2**32 - 1) == (("high",), 8)
    assert table.find(2**31) == ((), 2)
    whole = RangeMap.build(128, [(ip_network("::/0"), 0, "all")])
    assert whole.find(2**127) == (("all",), 0)
