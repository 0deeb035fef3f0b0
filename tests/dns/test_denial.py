"""The names around a missing one, in the order of RFC 4034 section 6.1."""

import dns.name
from hypothesis import assume, example, given
from hypothesis import strategies as st
from tests.dns.signed_world import make_signed_zone, make_signer

from meridian_dns.denial import name_before, name_behind, name_below
from meridian_dns.names import name_from_text, order_key
from meridian_dns.security_text import type_bitmap, types_to_text
from meridian_dns.signing import Denial

ORIGIN = name_from_text("example")
LABELS = st.binary(min_size=1, max_size=63).map(bytes.lower)


def join(labels: list[bytes]) -> bytes:
    return b"".join(bytes((len(label),)) + label for label in labels) + ORIGIN


def theirs(name: bytes) -> dns.name.Name:
    return dns.name.from_wire(name, 0)[0]


NAMES = st.lists(LABELS, min_size=1, max_size=6).map(join)


@given(NAMES, LABELS)
@example(join([b"@"]), b"a")
@example(join([b"["]), b"a")
@example(join([b"\0"]), b"a")
@example(join([b"\xff" * 63] * 3 + [b"\xff" * 53]), b"a")
@example(join([b"a", b"\xff" * 63] + [b"\xff" * 63] * 2 + [b"x" * 51]), b"a")
def test_a_name_stands_between_its_neighbours(name: bytes, label: bytes) -> None:
    assume(len(name) <= 255)
    child = bytes((len(label),)) + label + name
    behind, below, before = name_behind(name, ORIGIN), name_below(name, ORIGIN), name_before(name)
    for made in (behind, below, before or ORIGIN):
        assert len(made) <= 255 and made == made.lower()
        assert theirs(made).is_subdomain(theirs(ORIGIN))
    if len(child) <= 255:
        assert order_key(name) < order_key(below) <= order_key(child)
        assert behind == ORIGIN or order_key(child) < order_key(behind)
    assert behind == ORIGIN or order_key(name) < order_key(behind)
    assert before is None or order_key(ORIGIN) < order_key(before) < order_key(name)


@given(st.lists(NAMES, max_size=8))
def test_the_order_is_dnspythons(names: list[bytes]) -> None:
    names = [name for name in names if len(name) <= 255]
    assert [theirs(name) for name in sorted(names, key=order_key)] == sorted(map(theirs, names))


@given(st.frozensets(st.integers(1, 65535), max_size=20))
def test_any_types_come_back(types: frozenset[int]) -> None:
    names = types_to_text(type_bitmap(types)).split()
    assert len(names) == len(types)


def test_a_zone_knows_its_order() -> None:
    zone = make_signed_zone(make_signer(denial=Denial.WHITE_LIES))
    assert list(zone.order) == sorted(zone.order, key=order_key) and zone.order[0] == zone.origin
    assert set(zone.names) - set(zone.order) == {b"\2ns\3sub" + zone.origin, b"\2ns\6secure" + zone.origin}
