"""Real ClientHellos, cut at every byte, and bytes that are none."""

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meridian.wire.client_hello import HELLO_BYTES_MAX, IncompleteError, NotTlsError, server_name_of


def hello(name: str | None, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> bytes:
    """What OpenSSL's client sends first."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = newest
    context.set_alpn_protocols(["h2", "http/1.1"])
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def in_records(data: bytes, size: int) -> bytes:
    """The same handshake message in records of `size` bytes."""
    body = data[5:]
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(data[:3] + len(piece).to_bytes(2, "big") + piece for piece in pieces)


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_name_is_read_as_soon_as_the_message_is_whole(newest: ssl.TLSVersion) -> None:
    data = hello("Shop.Example.com", newest)
    for end in range(1, len(data)):
        with pytest.raises(IncompleteError):
            server_name_of(data[:end])
    assert server_name_of(data) == "shop.example.com"
    assert server_name_of(data + b"what comes after") == "shop.example.com"


def test_a_client_may_name_nobody() -> None:
    assert server_name_of(hello(None)) == ""


@pytest.mark.parametrize("size", [1, 3, 100])
def test_a_message_may_come_in_many_records(size: int) -> None:
    assert server_name_of(in_records(hello("mail.example.com"), size)) == "mail.example.com"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"GET / HTTP/1.1\r\n", "does not begin with a TLS handshake"),
        (b"\x16\x02", "does not begin"),
        (b"\x15\x03\x01\0\x02\x01\0", "does not begin"),
        (b"\x16\x03\x01\0\0", "impossible length"),
        (b"\x16\x03\x01\xff\xff", "impossible length"),
        (b"\x16\x03\x01\0\x04\x02\0\0\x01", "no ClientHello"),
        (b"\x16\x03\x01\0\x04\x01" + (HELLO_BYTES_MAX + 1).to_bytes(3, "big"), "too long"),
        (b"\x16\x03\x01\0\x08\x01\0\0\x04abcd", "is cut"),
    ],
)
def test_what_is_no_tls_is_told_at_once(data: bytes, why: str) -> None:
    with pytest.raises(NotTlsError, match=why):
        server_name_of(data)


@given(st.binary(max_size=300), st.integers(0, 600), st.integers(0, 255))
def test_no_bytes_do_worse_than_to_be_refused(noise: bytes, at: int, byte: int) -> None:
    good = hello("a.example.com")
    spoilt = bytearray(good)
    spoilt[at % len(good)] = byte
    for data in (noise, b"\x16\x03\x01\0\x40\x01\0\0\x3c" + noise, bytes(spoilt)):
        try:
            assert isinstance(server_name_of(data), str)
        except (IncompleteError, NotTlsError):
            pass
