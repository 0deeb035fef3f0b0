"""SipHash against the vectors of its reference implementation (key and data count up from 0)."""

import pytest

from meridian_dns.siphash import siphash24


@pytest.mark.parametrize(("size", "tag"), [(0, "310e0edd47db6f72"), (1, "fd67dc93c539f874"), (15, "e545be4961ca29a1")])
def test_reference_vectors(size: int, tag: str) -> None:
    assert siphash24(bytes(range(16)), bytes(range(size))).hex() == tag
