"""Which answers an order takes, and what a worker does that has missed some."""

import pytest

from meridian.core.purging import ORDERS_MAX, Purge, Purges


@pytest.mark.parametrize(
    ("order", "takes"),
    [
        (Purge(1), True), (Purge(1, route="shop"), True), (Purge(1, route="other"), False),
        (Purge(1, host="Shop.example.com"), True), (Purge(1, host="example.com"), False),
        (Purge(1, path="/a/b"), True), (Purge(1, path="/a"), False), (Purge(1, path_prefix="/a"), True),
        (Purge(1, path_prefix="/a/b/"), True), (Purge(1, path_prefix="/a/b/c"), False),
        (Purge(1, path_prefix="/"), True),
        (Purge(1, path_prefix="/a/"), True), (Purge(1, tag="red"), True), (Purge(1, tag="re"), False),
        (Purge(1, path="/a/b", tag="blue"), False),
    ],
)  # fmt: skip
def test_what_an_order_takes(order: Purge, takes: bool) -> None:
    assert order.takes("shop", b"shop.example.com:8443", b"/a/b?c=d", frozenset({b"red"})) is takes


def test_what_is_left_to_do() -> None:
    purges = Purges()
    assert [order.number for order in purges.since(None)] == [0], "nobody knows what it did before"
    for path in ("/a", "/b", "/c"):
        purges = purges.with_order(Purge(0, path=path))
    assert [order.path for order in purges.since(1)] == ["/b", "/c"] and not purges.since(3)
    everything = Purge(3)
    assert purges.since(None) == (everything,) and purges.since(9) == (everything,), "another store began anew"
    for _ in range(ORDERS_MAX):
        purges = purges.with_order(Purge(0, tag="x"))
    assert len(purges.orders) == ORDERS_MAX == len(purges.since(3))
    assert purges.since(2) == (Purge(ORDERS_MAX + 3),), "what it missed is forgotten: so it forgets all"
