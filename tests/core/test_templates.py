"""Variables of a request in texts of the document: what a client says never leaves its place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meridian.core.templates import Facts, parse

FACTS = Facts(
    "192.0.2.1", b"https", b"shop.example.com:8443", b"GET", b"/a/b?x=1&y=%0d%0aSet-Cookie:%20z", b"id-1", "shop",
    "ann", [(b"x-a", b"one"), (b"cookie", b"c=two")],
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", b"plain"), ("${client} ${consumer}/${route}", b"192.0.2.1 ann/shop"),
        ("${host}", b"shop.example.com"),
        ("${scheme}://${authority}${path}", b"https://shop.example.com:8443/a/b"), ("${header:X-A}", b"one"),
        ("[${header:none}]", b"[]"), ("${cookie:c}${query:x}", b"two1"), ("${request_id} ${method}", b"id-1 GET"),
        ("${query:y}", b"%0D%0ASet-Cookie: z"), ("$5 {x}", b"$5 {x}"),
    ],
)  # fmt: skip
def test_values(text: str, value: bytes) -> None:
    assert parse(text).as_value(FACTS) == value


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://${host}${target}", b"https://shop.example.com/a/b?x=1&y=%0d%0aSet-Cookie:%20z"),
        ("/find?q=${query:y}", b"/find?q=%0D%0ASet-Cookie%3A%20z"), ("${path}", b"/a/b"), ("/u/${consumer}", b"/u/ann"),
    ],
)  # fmt: skip
def test_urls(text: str, url: bytes) -> None:
    assert parse(text).as_url(FACTS) == url


@pytest.mark.parametrize("path", [b"//evil.example/x", b"///evil.example", b"/\\evil.example"])
def test_a_path_never_becomes_another_host(path: bytes) -> None:
    made = parse("${path}").as_url(Facts("", b"", b"", b"", path, b"", "", "", []))
    assert made.startswith(b"/") and not made.startswith((b"//", b"/\\"))


@pytest.mark.parametrize(
    ("text", "why"),
    [("${nobody}", "there is no variable"), ("${client", "without its }"), ("a\nb", "printable"), ("é", "printable"),
     ("${header:a b}", "there is no variable")],
)  # fmt: skip
def test_what_is_no_template_is_refused(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse(text)


@given(
    st.binary(), st.binary(), st.sampled_from(["a${header:x}", "${query:q}", "${target}", "${path}b", "${cookie:c}"])
)
def test_no_value_ends_a_line(header: bytes, query: bytes, text: str) -> None:
    escaped = b"".join(b"%%%02x" % byte for byte in query)
    headers = [(b"x", header), (b"cookie", b"c=" + header)]
    facts = Facts("", b"", b"", b"", b"/" + query + b"?q=" + escaped, b"", "", "", headers)
    for made in (parse(text).as_value(facts), parse(text).as_url(facts)):
        assert not any(byte < 0x20 or byte == 0x7F for byte in made)
    assert b" " not in parse(text).as_url(facts)
