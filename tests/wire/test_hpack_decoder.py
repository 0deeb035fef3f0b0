"""Our quick decoder beside hpack's own: of any blocks, one after the other, the same fields and the same refusals."""

import random

import pytest
from hpack import Decoder, Encoder, HPACKError
from hypothesis import given
from hypothesis import strategies as st

from meridian.wire.hpack_decoder import QuickDecoder

NAMES = st.sampled_from([b":method", b":path", b"accept", b"cookie", b"x-one", b"x" * 200, b"te"])
FIELDS = st.lists(st.tuples(NAMES, st.binary(max_size=300) | st.sampled_from([b"GET", b"/", b""])), max_size=12)


def decoded(decoder: Decoder, block: bytes) -> list[tuple[bytes, bytes]] | type[Exception]:
    try:
        return [(bytes(field[0]), bytes(field[1])) for field in decoder.decode(block, raw=True)]
    except (HPACKError, IndexError) as error:
        return type(error)


@given(st.lists(st.tuples(FIELDS, st.booleans(), st.sampled_from([None, 0, 100, 4096])), max_size=6))
def test_what_an_encoder_says_is_heard(blocks: list[tuple[list[tuple[bytes, bytes]], bool, int | None]]) -> None:
    encoder, ours, theirs = Encoder(), QuickDecoder(), Decoder()
    for fields, huffman, table in blocks:
        if table is not None:
            encoder.header_table_size = table
        block = encoder.encode(fields, huffman=huffman)
        assert decoded(ours, block) == fields == decoded(theirs, block)
        assert ours.header_table.dynamic_entries == theirs.header_table.dynamic_entries


@given(st.lists(st.binary(max_size=60), max_size=4))
def test_of_any_bytes_both_say_the_same(blocks: list[bytes]) -> None:
    ours, theirs = QuickDecoder(200), Decoder(200)
    for block in blocks:
        found, expected = decoded(ours, block), decoded(theirs, block)
        assert isinstance(found, type) == isinstance(expected, type)
        if isinstance(found, type) or isinstance(expected, type):
            return  # the connection ends here
        assert found == expected


@pytest.mark.parametrize("seed", range(20))
def test_of_bent_blocks_both_say_the_same(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(200):
        encoder, ours, theirs = Encoder(), QuickDecoder(), Decoder()
        for _ in range(3):
            names = chance.choices([b"accept", b"x-one", b":path"], k=3)
            fields = [(name, chance.randbytes(chance.randrange(40))) for name in names]
            block = bytearray(encoder.encode(fields, huffman=chance.random() < 0.5))
            block[chance.randrange(len(block))] ^= 1 << chance.randrange(8)
            found, expected = decoded(ours, bytes(block)), decoded(theirs, bytes(block))
            if isinstance(expected, type):
                assert isinstance(found, type)
                break
            assert found == expected
            assert ours.header_table.dynamic_entries == theirs.header_table.dynamic_entries
