"""What our encoder says, hpack's decoder understands, whatever table size the client has asked for."""

from hpack import Decoder
from hypothesis import given
from hypothesis import strategies as st

from meridian.wire import hpack_encoder
from meridian.wire.events import Headers
from meridian.wire.hpack_encoder import PlainEncoder

names = st.one_of(st.sampled_from([b":status", b"etag", b"set-cookie", b"x-own"]), st.binary(min_size=1, max_size=200))
values = st.one_of(st.sampled_from([b"200", b"404", b""]), st.binary(max_size=40_000))


@given(st.lists(st.lists(st.tuples(names, values), max_size=4), max_size=4), st.sampled_from([0, 4096]))
def test_blocks_decode_to_what_was_encoded(blocks: list[Headers], table_size: int) -> None:
    encoder, decoder = PlainEncoder(), Decoder(max_header_list_size=1 << 24)
    decoder.max_allowed_table_size = table_size
    for block in blocks:
        encoded = encoder.encode(block)
        assert [tuple(field) for field in decoder.decode(encoded, raw=True)] == block


def test_indexed_fields_are_one_byte() -> None:
    encoder = PlainEncoder()
    encoder.encode([])
    assert encoder.encode([(b":status", b"200")]) == b"\x88"


def test_what_is_remembered_is_bounded() -> None:
    encoder = PlainEncoder()
    for number in range(3 * hpack_encoder.REMEMBERED_MAX):
        encoder.encode([(b"x-request-id", b"%d" % number), (b"x-long", b"%d" % number * 100)])
        assert len(hpack_encoder._remembered) <= hpack_encoder.REMEMBERED_MAX
    assert all(len(encoded) <= hpack_encoder.REMEMBERED_BYTES_MAX for encoded in hpack_encoder._remembered.values())
