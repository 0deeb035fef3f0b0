"""The little that a gateway knows of WebSocket, against the `websockets` library and the examples of RFC 6455."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side, State
from websockets.utils import accept_key

from meridian.wire.websocket import GOING_AWAY, Frames, accept_of, close_frame, is_key, key_of


def test_the_keys_of_a_handshake() -> None:
    assert accept_of(b"dGhlIHNhbXBsZSBub25jZQ==") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # section 1.3
    key = key_of(bytes(range(16)))
    assert is_key(key) and base64.b64decode(key) == bytes(range(16))
    assert accept_of(key).decode() == accept_key(key.decode())


@pytest.mark.parametrize(
    "key", [b"", b"short", b"x" * 24, b"dGhlIHNhbXBsZSBub25jZQ=", b"dGhlIHNhbXBsZSBub25jZR==", b"a b"]
)
def test_what_is_no_key(key: bytes) -> None:
    assert not is_key(key)


def test_a_close_frame_is_one() -> None:
    client = Protocol(Side.CLIENT, state=State.OPEN)
    client.receive_data(close_frame(GOING_AWAY))
    assert client.close_rcvd is not None and client.close_rcvd.code == 1001


frames = st.lists(
    st.tuples(st.sampled_from([Opcode.TEXT, Opcode.BINARY, Opcode.PING]), st.integers(0, 70_000), st.booleans()),
    max_size=5,
)


@given(frames, st.lists(st.integers(1, 80_000), max_size=8))
def test_between_is_where_a_frame_ends_however_bytes_come(
    sizes: list[tuple[Opcode, int, bool]], cuts: list[int]
) -> None:
    raw, ends = b"", {0}
    for opcode, size, mask in sizes:
        size = min(size, 125) if opcode is Opcode.PING else size
        raw += Frame(opcode, bytes(size)).serialize(mask=mask)
        ends.add(len(raw))
    found, at = Frames(), 0
    for size in [*cuts, len(raw)]:
        found.feed(raw[at : at + size])
        at = min(at + size, len(raw))
        assert found.between is (at in ends)


def test_every_byte_on_its_own() -> None:
    raw = b"".join(Frame(Opcode.BINARY, bytes(size)).serialize(mask=False) for size in (0, 1, 125, 126, 300))
    found = Frames()
    ends = []
    for at in range(len(raw)):
        found.feed(raw[at : at + 1])
        if found.between:
            ends.append(at)
    assert ends == [1, 4, 131, 261, 565]


def test_nothing_follows_a_close_frame() -> None:
    found = Frames()
    found.feed(b"\x81\x00" + close_frame(1000))
    assert found.closed and not found.between


def test_a_length_without_end_costs_nothing() -> None:
    found = Frames()
    found.feed(b"\x82\x7f" + b"\xff" * 8)
    for _ in range(100):
        found.feed(bytes(65536))
    assert not found.between and not found._head
