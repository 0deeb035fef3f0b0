"""Patterns of the document: RE2's language, its linear time, and what they begin with."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meridian.core.patterns import CHARACTERS_MAX, checked_pattern, compile_pattern, literal_start


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("(a", "missing )"), ("a**", "bad repetition"), (r"(a)\1", "invalid escape"),
        ("(?=a)", "invalid perl operator"), ("((a{100}){100}){100}", "invalid repetition size"),
        ("/caf\xe9", "percent-encoded"),
        ("a" * (CHARACTERS_MAX + 1), "longer than 1024"),
    ],
)  # fmt: skip
def test_what_is_none_is_refused_with_the_reason(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        checked_pattern(text)


def test_a_pattern_that_would_hang_others_takes_no_time() -> None:
    pattern = compile_pattern("(a+)+$")
    began = time.process_time()
    assert pattern.fullmatch(b"a" * 5_000 + b"!") is None
    assert time.process_time() - began < 1.0, "linear in the text"


def test_bytes_are_characters() -> None:
    assert compile_pattern("/.").fullmatch(b"/\xe9") is not None
    assert compile_pattern(r"/\xc3.").fullmatch(b"/\xc3\xa9") is not None


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("/users/[0-9]+", "/users/"), ("^/users/.*", "/users/"), ("/users/?", "/users"), ("/a|/b", ""), ("(?i)/a", ""),
        (r"/v1\.0/x", "/v1.0/x"), (r"/v1\.*", "/v1"), ("", ""), ("*", ""), ("/a{2}", "/"), ("/plain", "/plain"),
    ],
)  # fmt: skip
def test_what_a_pattern_begins_with(text: str, start: str) -> None:
    assert literal_start(text) == start


_pieces = st.sampled_from(["/", "a", "b", ".", ".*", "[ab]", "(a|b)", "a?", "b+", r"\.", "/?", "a{1,2}", "|", "^"])


@given(st.lists(_pieces, max_size=8).map("".join), st.text("ab/.", max_size=8))
def test_every_match_begins_so(text: str, path: str) -> None:
    try:
        pattern = compile_pattern(text)
    except ValueError:
        return
    if pattern.fullmatch(path.encode()) is not None:
        assert path.startswith(literal_start(text))
