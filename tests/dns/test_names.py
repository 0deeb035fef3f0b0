"""Names: text and wire, both ways."""

import dns.name
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meridian_dns.names import ancestors, is_within, name_from_text, name_to_text


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=5))
def test_agrees_with_dnspython(labels: list[bytes]) -> None:
    name = dns.name.Name([*labels, b""])
    wire = name_from_text(name.to_text())
    assert wire == (name.to_wire() or b"").lower()
    assert name_from_text(name_to_text(wire)) == wire
    assert dns.name.from_text(name_to_text(wire)) == name


@pytest.mark.parametrize("text", ["a..b", ".a", "a" * 64, "a." * 130, "\\300", "a\\", "ü.example"])
def test_refuses(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        name_from_text(text)


def test_suffixes_end_at_labels() -> None:
    name = name_from_text("a.b.Example.")
    assert list(ancestors(name)) == [name, b"\1b\7example\0", b"\7example\0", b"\0"]
    assert is_within(name, name_from_text("b.example"))
    assert is_within(name, b"\0")
    assert not is_within(b"\2xb\7example\0", b"\1b\7example\0")
    assert not is_within(b"\3x\1b\0", b"\1b\0"), "bytes that look like the origin inside a label"
