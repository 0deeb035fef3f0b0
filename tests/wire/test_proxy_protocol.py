"""Headers of both versions, there and back, and what is none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meridian.wire.proxy_protocol import (
    BODY_BYTES_MAX,
    SIGNATURE,
    Address,
    Header,
    IncompleteError,
    MalformedError,
    read,
    write,
)

PORTS = st.integers(0, 65_535)
ENDS = st.one_of(
    *(
        st.tuples(st.tuples(address, PORTS), st.tuples(address, PORTS))
        for address in (st.ip_addresses(v=4).map(str), st.ip_addresses(v=6).map(str))
    )
)


@given(ENDS, st.sampled_from([1, 2]), st.binary(max_size=20))
def test_what_is_written_is_read(ends: tuple[Address, Address], version: int, rest: bytes) -> None:
    source, destination = ends
    written = write(version, source, destination)
    assert read(written + rest) == Header(source, destination, len(written))
    for end in range(len(written)):
        with pytest.raises(IncompleteError):
            read(written[:end])


@pytest.mark.parametrize("version", [1, 2])
def test_addresses_of_two_families_are_unknown(version: int) -> None:
    written = write(version, ("192.0.2.1", 1), ("2001:db8::1", 2))
    assert read(written) == Header(None, None, len(written))


def test_the_examples_of_the_specification() -> None:
    line = b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n"
    assert read(line + b"GET /") == Header(("192.168.0.1", 56_324), ("192.168.0.11", 443), len(line))
    assert write(1, ("192.168.0.1", 56_324), ("192.168.0.11", 443)) == line
    assert read(b"PROXY UNKNOWN ffff:f...f:ffff 65535\r\n").source is None
    local = SIGNATURE + b"\x20\0\0\0"
    assert read(local) == Header(None, None, 16)
    with_tlv = SIGNATURE + b"\x21\x11\0\x0f" + bytes((192, 0, 2, 1, 192, 0, 2, 2, 0, 1, 0, 2)) + b"\x04\0\0"
    assert read(with_tlv) == Header(("192.0.2.1", 1), ("192.0.2.2", 2), len(with_tlv))
    unix = SIGNATURE + b"\x21\x31\0\x02ab"
    assert read(unix) == Header(None, None, len(unix))


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
        b"PROXY TCP4 2001:db8::1 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n",
        b"PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 -1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
        b"PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY " + b"x" * 200,
        SIGNATURE + b"\x11\x11\0\x0c",
        SIGNATURE + b"\x22\x11\0\x0c",
        SIGNATURE + b"\x21\x11\0\x04abcd",
        SIGNATURE + b"\x21\x11" + (BODY_BYTES_MAX + 1).to_bytes(2, "big"),
        SIGNATURE[:-1] + b"X",
    ],
)
def test_what_is_no_header_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedError):
        read(data)


@given(st.binary(max_size=60))
def test_no_bytes_do_worse_than_to_be_refused(noise: bytes) -> None:
    for data in (noise, b"PROXY " + noise, SIGNATURE + noise):
        try:
            assert read(data).size <= len(data)
        except (IncompleteError, MalformedError):
            pass
