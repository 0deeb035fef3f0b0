"""Which file a request means, and how much of it is the answer. Pure: what is on the disk is told.

Invariants:
- A path never leads out by its text: a segment that is `..`, hidden, empty in the middle, or holds a slash or NUL once
  decoded is none.
- Conditions are judged in the order of RFC 9110 section 13.2.2, on the very representation that would be sent.
- No Range makes an answer longer than the file (section 14.2: it may be ignored, and is then).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from urllib.parse import unquote_to_bytes

from meridian.core import caching, file_words
from meridian.core.content_types import TYPES, UNKNOWN
from meridian.core.fields import Headers, header

RANGES_MAX = 16
"""Of one request. Readers of documents ask for a few; more is how servers were exhausted (CVE-2011-3192)."""

EXTENSIONS = {"br": b".br", "zstd": b".zst", "gzip": b".gz"}

_ELEMENTS = re.compile(rb'(?:[^",]|"[^"]*")+').findall
_SPAN = re.compile(rb"([0-9]{0,18})-([0-9]{0,18})").fullmatch
_QUALITY = re.compile(rb"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)").fullmatch

Span = tuple[int, int]
"""First byte, and the one after the last."""


@dataclass(frozen=True, slots=True)
class Files:
    """See file_words.Files."""

    root: bytes
    index: tuple[bytes, ...]
    codings: tuple[bytes, ...]
    cache_control: bytes | None
    fallback: bytes | None  # relative to root
    types: Mapping[bytes, bytes]

    def type_of(self, name: bytes) -> bytes:
        """The content type of a file, by its name."""
        end = name.rpartition(b"/")[2].rpartition(b".")[2].lower()
        return self.types.get(end) or TYPES.get(end, UNKNOWN)


def make_files(words: file_words.Files) -> Files:
    """Compiles what a route says of its files."""
    return Files(
        words.root.encode(),
        tuple(name.encode() for name in words.index),
        tuple(coding.encode() for coding in words.precompressed),
        words.cache_control.encode() if words.cache_control is not None else None,
        words.fallback[1:].encode() if words.fallback is not None else None,
        {end.encode(): value.encode() for end, value in words.content_types.items()},
    )


def path_of(target: bytes) -> bytes | None:
    """The path below root that a target means, decoded; it is empty or ends with a slash where a folder is meant. None:
    no file can be there. Dot segments are resolved already, but for those with encoded slashes."""
    segments = [unquote_to_bytes(segment) for segment in target.partition(b"?")[0].lstrip(b"/").split(b"/")]
    for at, segment in enumerate(segments):
        if segment[:1] == b"." and segment != b".well-known":
            return None
        if b"/" in segment or b"\0" in segment or (not segment and at < len(segments) - 1):
            return None
    return b"/".join(segments)


def with_slash(target: bytes) -> bytes:
    """Where a folder is found that was asked for as a file. One slash begins it: two would be another host's."""
    path, question, query = target.partition(b"?")
    return b"/" + path.lstrip(b"/") + b"/" + question + query


def wanted_codings(accepted: bytes | None, offered: Sequence[bytes]) -> list[bytes]:
    """Those offered that a client takes, the most welcome first (RFC 9110 section 12.5.3); none that it likes less than
    what is not encoded, where it says so."""
    if accepted is None:
        return []
    said: dict[bytes, float] = {}
    for element in accepted.lower().split(b","):
        coding, _, weight = element.partition(b";")
        quality = weight.strip().removeprefix(b"q=").strip() if weight else b"1"
        if _QUALITY(quality):
            said.setdefault(coding.strip().removeprefix(b"x-"), float(quality))
    least, others = said.get(b"identity", 0.0), said.get(b"*", 0.0)
    liked = [(said.get(coding, others), coding) for coding in offered]
    liked.sort(key=lambda one: -one[0])  # stable: in the order offered where they are as welcome
    return [coding for quality, coding in liked if quality > 0.0 and quality >= least]


@dataclass(frozen=True, slots=True)
class Stored:
    """A representation as it is on the disk. `coding` is empty where it is not encoded."""

    size: int
    modified_nanoseconds: int  # Unix time
    coding: bytes = b""

    @property
    def etag(self) -> bytes:
        """Strong, as long as files are replaced rather than changed twice within a tick of the kernel's clock. Alike on
        nodes whose copies have the same times."""
        coding = b"-" + self.coding if self.coding else b""
        return b'"%x-%x%b"' % (self.modified_nanoseconds, self.size, coding)

    @property
    def last_modified(self) -> bytes:
        """Its time, as a field says it."""
        return formatdate(self.modified_nanoseconds // 1_000_000_000, usegmt=True).encode()


@dataclass(frozen=True, slots=True)
class Reply:
    """200 (all of it), 206 (`spans`, in the order asked for), 304, 412 or 416."""

    status: int
    spans: tuple[Span, ...] = ()


def reply(method: bytes, request: Headers, stored: Stored) -> Reply:
    """What a GET or HEAD with these fields gets of a representation."""
    etag, modified = stored.etag, stored.last_modified
    tags, since = header(request, b"if-match"), header(request, b"if-unmodified-since")
    if tags is not None:
        if tags.strip() != b"*" and etag not in _listed(tags):
            return Reply(412)
    elif since is not None and (then := caching.date(since)) is not None and then < _seconds(stored):
        return Reply(412)
    if caching.not_modified(request, [(b"etag", etag), (b"last-modified", modified)]):
        return Reply(304)
    asked = header(request, b"range")
    if asked is None or method != b"GET" or not stored.size:
        return Reply(200)
    condition = header(request, b"if-range")
    if condition is not None and condition not in (etag, modified):
        return Reply(200)
    return _part(asked, stored.size)


def _part(asked: bytes, size: int) -> Reply:
    """RFC 9110 section 14.2. What is malformed, too much or pointless is ignored, and all of it is the answer."""
    spans = spans_of(asked, size)
    if spans is None or sum(stop - start for start, stop in spans) > size:
        return Reply(200)
    return Reply(206, tuple(spans)) if spans else Reply(416)


def spans_of(asked: bytes, size: int) -> list[Span] | None:
    """The bytes that a Range means, of a file that is not empty: none if it has none of them. None: it is no such
    field, or one of more than RANGES_MAX."""
    unit, _, listed = asked.partition(b"=")
    if unit.strip().lower() != b"bytes" or listed.count(b",") >= RANGES_MAX:
        return None
    spans: list[Span] = []
    for text in listed.split(b","):
        found = _SPAN(text.strip(b" \t"))
        if found is None or not (found[1] or found[2]):
            return None
        if not found[1]:
            start, stop = max(0, size - int(found[2])), size
        else:
            start = int(found[1])
            if found[2] and int(found[2]) < start:
                return None
            stop = min(size, int(found[2]) + 1) if found[2] else size
        if start < stop:
            spans.append((start, stop))
    return spans


def fields(files: Files, name: bytes, stored: Stored, status: int) -> Headers:
    """What is said of a representation with 200, 206 or 304."""
    said = [(b"etag", stored.etag), (b"last-modified", stored.last_modified)]
    if files.cache_control is not None:
        said.append((b"cache-control", files.cache_control))
    if files.codings:
        said.append((b"vary", b"accept-encoding"))
    if status != 304:
        said += ((b"content-type", files.type_of(name)), (b"accept-ranges", b"bytes"))
        if stored.coding:
            said.append((b"content-encoding", stored.coding))
    return said


def multipart(spans: Sequence[Span], boundary: bytes, size: int, said: Headers) -> tuple[list[bytes | Span], int]:
    """What several spans are sent as (section 14.6): bytes and spans of the file, the last first, and how many bytes
    that is. `said` are the fields, whose content type goes into the parts."""
    at = next(i for i, (name, _) in enumerate(said) if name == b"content-type")
    kind, said[at] = said[at][1], (b"content-type", b"multipart/byteranges; boundary=" + boundary)
    pieces: list[bytes | Span] = [b"\r\n--%b--\r\n" % boundary]
    length = len(pieces[0])
    for start, stop in reversed(spans):
        told = (boundary, kind, start, stop - 1, size)
        head = b"\r\n--%b\r\ncontent-type: %b\r\ncontent-range: bytes %d-%d/%d\r\n\r\n" % told
        pieces += ((start, stop), head)
        length += stop - start + len(head)
    return pieces, length


def _listed(tags: bytes) -> list[bytes]:
    return [tag.strip() for tag in _ELEMENTS(tags)]


def _seconds(stored: Stored) -> int:
    return stored.modified_nanoseconds // 1_000_000_000
