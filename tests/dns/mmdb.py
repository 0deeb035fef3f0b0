"""The smallest writer of the MaxMind DB format 2.0: enough for tests to make their own geo files."""

from ipaddress import ip_network
from pathlib import Path

MARKER = b"\xab\xcd\xefMaxMind.com"


def write_mmdb(path: Path, records: dict[str, object], *, ip_version: int = 6) -> None:
    """Writes one record for each network (textual CIDR); networks must not overlap."""
    nodes: list[list[int | None]] = [[None, None]]
    data, offsets = bytearray(), {}
    for cidr, record in records.items():
        encoded = _encode(record)
        if encoded not in offsets:
            offsets[encoded] = len(data)
            data += encoded
        network = ip_network(cidr)
        bits = f"{int(network[0]):0{network.max_prefixlen}b}"[: network.prefixlen]
        if ip_version == 6 and network.version == 4:
            bits = "0" * 96 + bits
        at = 0
        for bit in bits[:-1]:
            child = nodes[at][int(bit)]
            if child is None:
                nodes.append([None, None])
                child = nodes[at][int(bit)] = len(nodes) - 1
            at = child
        nodes[at][int(bits[-1])] = -1 - offsets[encoded]
    count = len(nodes)
    tree = bytearray()
    for node in nodes:
        for child in node:
            value = count if child is None else child if child >= 0 else count + 16 + (-1 - child)
            tree += value.to_bytes(4, "big")
    metadata = {
        "binary_format_major_version": _uint16(2),
        "binary_format_minor_version": _uint16(0),
        "build_epoch": bytes((8, 9 - 7)) + (1).to_bytes(8, "big"),
        "database_type": "test",
        "description": {"en": "made by a test"},
        "ip_version": _uint16(ip_version),
        "languages": ["en"],
        "node_count": _head(6, 4) + count.to_bytes(4, "big"),
        "record_size": _uint16(32),
    }
    path.write_bytes(bytes(tree) + bytes(16) + bytes(data) + MARKER + _encode(metadata))


def _encode(value: object) -> bytes:
    """Maps, lists and texts; bytes are encoded already."""
    if isinstance(value, dict):
        return _head(7, len(value)) + b"".join(_encode(key) + _encode(item) for key, item in value.items())
    if isinstance(value, list):
        return bytes((len(value), 11 - 7)) + b"".join(map(_encode, value))
    if isinstance(value, bytes):
        return value
    text = str(value).encode()
    return _head(2, len(text)) + text


def _uint16(value: int) -> bytes:
    return _head(5, 2) + value.to_bytes(2, "big")


def _head(kind: int, size: int) -> bytes:
    if size < 29:
        return bytes((kind << 5 | size,))
    assert size < 29 + 256
    return bytes((kind << 5 | 29, size - 29))
