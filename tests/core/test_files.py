"""Which file a request means and how much of it: by cases of RFC 9110, and for any text at all."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from meridian.core import file_words
from meridian.core.files import (
    RANGES_MAX,
    Reply,
    Stored,
    fields,
    make_files,
    multipart,
    path_of,
    reply,
    spans_of,
    wanted_codings,
    with_slash,
)

STORED = Stored(1000, 1_700_000_000_250_000_000)
ETAG, MODIFIED = STORED.etag, STORED.last_modified
BEFORE, AFTER = b"Tue, 14 Nov 2023 22:13:19 GMT", b"Tue, 14 Nov 2023 22:13:21 GMT"


def files(**more: Any) -> Any:
    return make_files(file_words.Files(root="/srv", **more))


@pytest.mark.parametrize(("target", "path"), [
    (b"/", b""), (b"/a.txt?b=/../c", b"a.txt"), (b"/a/b/", b"a/b/"), (b"/a%20b", b"a b"), (b"//a", b"a"),
    (b"/.well-known/x", b".well-known/x"), (b"/a//b", None), (b"/.git/config", None), (b"/a/.env", None),
    (b"/%2e%2e/x", None), (b"/..%2fx", None), (b"/a%2fb", None), (b"/a%2f..%2f..%2fb", None), (b"/a%00", None),
    (b"/%2egit", None), (b"/a/%2e", None), (b"/\xc3\xa4", "ä".encode()), (b"/%c3%a4", "ä".encode()),
])  # fmt: skip
def test_paths(target: bytes, path: bytes | None) -> None:
    assert path_of(target) == path


@given(st.binary(max_size=40).map(lambda tail: b"/" + tail), st.sampled_from([b"", b"/..", b"%2f..%2f", b"/./"]))
def test_no_text_leads_out(start: bytes, end: bytes) -> None:
    path = path_of(start + end)
    if path is not None:
        segments = path.split(b"/")
        assert b"\0" not in path and not path.startswith(b"/")
        assert not any(segment[:1] == b"." and segment != b".well-known" for segment in segments)
        assert all(segments[:-1]), "no segment but the last is empty"


def test_a_folder_is_redirected_to_on_this_host() -> None:
    assert with_slash(b"/a/b?c") == b"/a/b/?c"
    assert with_slash(b"//evil.example") == b"/evil.example/"


@pytest.mark.parametrize(("accepted", "codings"), [
    (None, []), (b"", []), (b"gzip", [b"gzip"]), (b"gzip, br, zstd", [b"br", b"zstd", b"gzip"]),
    (b"gzip;q=1, br;q=0.5", [b"gzip", b"br"]), (b"br;q=0, gzip", [b"gzip"]), (b"*", [b"br", b"zstd", b"gzip"]),
    (b"br, *;q=0", [b"br"]), (b"GZip ; Q=0.9", [b"gzip"]), (b"x-gzip", [b"gzip"]), (b"identity, gzip;q=0.5", []),
    (b"identity;q=0.1, gzip;q=0.5", [b"gzip"]), (b"gzip;q=2", []), (b"deflate", []),
])  # fmt: skip
def test_codings(accepted: bytes | None, codings: list[bytes]) -> None:
    assert wanted_codings(accepted, (b"br", b"zstd", b"gzip")) == codings


@pytest.mark.parametrize(("request_fields", "expected"), [
    # RFC 9110 section 13.2.2, in its order: each step decides before the next is looked at.
    ({}, 200),
    ({b"if-match": ETAG}, 200), ({b"if-match": b"*"}, 200), ({b"if-match": b'"x", ' + ETAG}, 200),
    ({b"if-match": b'"x"'}, 412), ({b"if-match": b"W/" + ETAG}, 412),
    ({b"if-match": b'"x"', b"if-none-match": ETAG}, 412),
    ({b"if-match": ETAG, b"if-unmodified-since": BEFORE}, 200),
    ({b"if-unmodified-since": BEFORE}, 412), ({b"if-unmodified-since": MODIFIED}, 200),
    ({b"if-unmodified-since": AFTER}, 200), ({b"if-unmodified-since": b"yesterday"}, 200),
    ({b"if-none-match": ETAG}, 304), ({b"if-none-match": b"W/" + ETAG}, 304), ({b"if-none-match": b"*"}, 304),
    ({b"if-none-match": b'"x"', b"if-modified-since": AFTER}, 200),
    ({b"if-modified-since": BEFORE}, 200), ({b"if-modified-since": MODIFIED}, 304),
    ({b"if-modified-since": AFTER}, 304),
    ({b"if-none-match": ETAG, b"range": b"bytes=0-9"}, 304),
    ({b"if-unmodified-since": BEFORE, b"range": b"bytes=0-9"}, 412),
    ({b"range": b"bytes=0-9"}, 206), ({b"range": b"bytes=0-9", b"if-range": ETAG}, 206),
    ({b"range": b"bytes=0-9", b"if-range": MODIFIED}, 206), ({b"range": b"bytes=0-9", b"if-range": b'"x"'}, 200),
    ({b"range": b"bytes=0-9", b"if-range": b"W/" + ETAG}, 200), ({b"range": b"bytes=0-9", b"if-range": AFTER}, 200),
    ({b"range": b"bytes=1000-"}, 416), ({b"range": b"bytes=1000-", b"if-range": b'"x"'}, 200),
    ({b"range": b"lines=0-9"}, 200), ({b"range": b"bytes=0-999,0-999"}, 200),
])  # fmt: skip
def test_conditions(request_fields: dict[bytes, bytes], expected: int) -> None:
    assert reply(b"GET", list(request_fields.items()), STORED).status == expected
    head = reply(b"HEAD", list(request_fields.items()), STORED).status
    assert head == (200 if expected in (206, 416) else expected), "a range is of GET alone (section 14.2)"


@pytest.mark.parametrize(("asked", "spans"), [
    (b"bytes=0-0", [(0, 1)]), (b"bytes=0-", [(0, 1000)]), (b"bytes=990-2000", [(990, 1000)]),
    (b"bytes=-10", [(990, 1000)]), (b"bytes=-2000", [(0, 1000)]), (b"Bytes=1-2, 5-6", [(1, 3), (5, 7)]),
    (b"bytes=5-6,1-2", [(5, 7), (1, 3)]), (b"bytes=0-1,2000-", [(0, 2)]), (b"bytes=1000-", []), (b"bytes=-0", []),
    (b"bytes=2-1", None), (b"bytes=", None), (b"bytes=-", None), (b"bytes=a-b", None), (b"bytes=1", None),
    (b"bytes=+1-2", None), (b"bytes=1-2;3", None), (b"bytes 0-1", None), (b"bytes=" + b"9" * 30 + b"-", None),
    (b"bytes=" + b",".join([b"1-1"] * (RANGES_MAX + 1)), None),
])  # fmt: skip
def test_spans(asked: bytes, spans: list[tuple[int, int]] | None) -> None:
    assert spans_of(asked, 1000) == spans


BOUND = st.one_of(st.just(""), st.integers(0, 300).map(str))
RANGES = st.lists(st.tuples(BOUND, BOUND).map("-".join), min_size=1, max_size=RANGES_MAX).map(",".join)


@given(st.one_of(RANGES.map(lambda text: b"bytes=" + text.encode()), st.binary(max_size=30)), st.integers(0, 200))
def test_no_range_asks_for_more_than_there_is(asked: bytes, size: int) -> None:
    said = reply(b"GET", [(b"range", asked)], Stored(size, 0))
    assert said.status in ((200, 206, 416) if size else (200,))
    assert bool(said.spans) == (said.status == 206)
    assert all(0 <= start < stop <= size for start, stop in said.spans)
    assert sum(stop - start for start, stop in said.spans) <= size


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(1, 20)), min_size=2, max_size=5))
def test_multipart_is_as_long_as_it_says(made: list[tuple[int, int]]) -> None:
    content, said = bytes(range(120)), [(b"content-type", b"text/x")]
    spans = [(start, start + length) for start, length in made]
    pieces, length = multipart(spans, b"xyz", 120, said)
    body = b"".join(one if isinstance(one, bytes) else content[one[0] : one[1]] for one in reversed(pieces))
    assert len(body) == length and said == [(b"content-type", b"multipart/byteranges; boundary=xyz")]
    assert body.count(b"--xyz\r\n") == len(spans) and body.endswith(b"\r\n--xyz--\r\n")


def test_what_is_said_of_a_file() -> None:
    made = files(precompressed=["br"], cache_control="max-age=60", content_types={"js": "application/x-ours"})
    said = dict(fields(made, b"a/b.JS", Stored(3, 10**9, b"br"), 200))
    assert said == {
        b"etag": b'"3b9aca00-3-br"', b"last-modified": b"Thu, 01 Jan 1970 00:00:01 GMT",
        b"cache-control": b"max-age=60", b"vary": b"accept-encoding", b"content-type": b"application/x-ours",
        b"accept-ranges": b"bytes",
        b"content-encoding": b"br",
    }  # fmt: skip
    assert {b"content-type", b"content-encoding"}.isdisjoint(dict(fields(made, b"b.js", STORED, 304)))
    assert made.type_of(b"a.tar.gz") == b"application/gzip" and made.type_of(b"x/README") == b"application/octet-stream"
    assert reply(b"GET", [(b"range", b"bytes=0-")], Stored(0, 0)) == Reply(200), (
        "an empty file has no bytes to be named"
    )


@pytest.mark.parametrize(("words", "remedy"), [
    ({"root": "www"}, "absolute path"), ({"root": "/srv/../etc"}, "absolute path"),
    ({"root": "/srv", "fallback": "index.html"}, "a path below root"),
    ({"root": "/srv", "fallback": "/../x"}, "a path below root"),
    ({"root": "/srv", "index": ["a/b"]}, "name of a file"),
    ({"root": "/srv", "cache_control": "a\r\nb"}, "as it is to be sent"),
    ({"root": "/srv", "content_types": {"js": "script"}}, "media type"),
])  # fmt: skip
def test_what_cannot_be_meant_is_refused(words: dict[str, Any], remedy: str) -> None:
    with pytest.raises(ValidationError, match=remedy):
        file_words.Files.model_validate(words)
