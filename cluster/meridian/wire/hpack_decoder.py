"""hpack's decoder, with the kinds of field that nearly all heads consist of read in one pass (RFC 7541 section 6).

Whatever is unusual (an index or a length of several bytes, a change of the table's size) is left to hpack's own code,
and so are the dynamic table and Huffman's code: what is here is only the way to them.
"""

from hpack import Decoder, HPACKDecodingError, OversizedHeaderListError
from hpack.hpack import decode_integer
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable

Field = tuple[bytes, bytes]

ENTRY_BYTES = 32  # what an entry counts beside its octets (section 4.1)
_INDEXED, _INDEXING, _RESIZE = 0x80, 0x40, 0x20  # first bits (sections 6.1, 6.2.1, 6.3)
_STATIC: tuple[Field, ...] = ((b"", b""), *((name, value) for name, value in HeaderTable.STATIC_TABLE))
_STATIC_END = len(_STATIC)


class QuickDecoder(Decoder):
    """See the module's head."""

    def decode(self, data: bytes, raw: bool = True) -> list[Field]:  # type: ignore[override] # plain pairs
        """Returns the fields of a header block, as bytes, whatever `raw` says. Raises HPACKError as hpack's does, and
        OversizedHeaderListError for more than `max_header_list_size` bytes of them."""
        table = self.header_table
        fields: list[Field] = []
        left = self.max_header_list_size
        at, end = 0, len(data)
        while at < end:
            first = data[at]
            if first >= _INDEXED:
                index, at = _integer(data, at, 7)
                field = _STATIC[index] if 0 < index < _STATIC_END else table.get_by_index(index)
            elif first >= _INDEXING or first < _RESIZE:
                index, at = _integer(data, at, 6 if first >= _INDEXING else 4)
                if not index:
                    name, at = _string(data, at)
                elif index < _STATIC_END:
                    name = _STATIC[index][0]
                else:
                    name = table.get_by_index(index)[0]
                value, at = _string(data, at)
                field = (name, value)
                if first >= _INDEXING:
                    table.add(name, value)
            else:
                if fields:
                    raise HPACKDecodingError("Table size update not at the start of the block")
                at += self._update_encoding_context(data[at:])
                continue
            fields.append(field)
            left -= len(field[0]) + len(field[1]) + ENTRY_BYTES
            if left < 0:
                raise OversizedHeaderListError(f"more than {self.max_header_list_size} bytes of fields")
        self._assert_valid_table_size()
        return fields


def _integer(data: bytes, at: int, bits: int) -> tuple[int, int]:
    """Section 5.1: an integer, and where what follows begins."""
    limit = (1 << bits) - 1
    value = data[at] & limit
    if value < limit:
        return value, at + 1
    value, used = decode_integer(data[at:], bits)
    return value, at + used


def _string(data: bytes, at: int) -> tuple[bytes, int]:
    """Section 5.2: a string literal, and where what follows begins."""
    if at >= len(data):
        raise HPACKDecodingError("Truncated header block")
    packed = data[at] & 0x80
    size, at = _integer(data, at, 7)
    end = at + size
    text = data[at:end]
    if len(text) != size:
        raise HPACKDecodingError("Truncated header block")
    return (decode_huffman(text) if packed else text), end
