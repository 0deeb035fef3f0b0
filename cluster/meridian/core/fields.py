"""What a request says under a name: in its header fields, its cookies, its query. Pure, on bytes as they came."""

from urllib.parse import unquote_to_bytes

Headers = list[tuple[bytes, bytes]]


def header(headers: Headers, name: bytes) -> bytes | None:
    """The value of a field, its lines joined (RFC 9110 section 5.3). `name` is in lower case."""
    values = [value for field, value in headers if field == name]
    return b", ".join(values) if values else None


def cookie(headers: Headers, name: bytes) -> bytes | None:
    """The value of the first cookie of this name (RFC 6265 section 5.4; HTTP/2 may split the field, RFC 9113 8.2.3)."""
    for field, value in headers:
        if field == b"cookie" and name in value:
            for pair in value.split(b";"):
                key, _, said = pair.strip().partition(b"=")
                if key == name:
                    return said
    return None


def query(target: bytes, name: bytes) -> bytes | None:
    """The value of the first parameter of this name, decoded as a form's (`%20` and `+` are a space)."""
    for pair in target.partition(b"?")[2].split(b"&"):
        key, _, said = pair.partition(b"=")
        if _decoded(key) == name:
            return _decoded(said)
    return None


def _decoded(text: bytes) -> bytes:
    if b"+" in text:
        text = text.replace(b"+", b" ")
    return unquote_to_bytes(text) if b"%" in text else text
