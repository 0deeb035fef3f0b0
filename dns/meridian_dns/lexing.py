"""The words of a zone file and of a record's value: RFC 1035 section 5.1, before any of it has a meaning.

Invariant: each character belongs to a word, to a comment or to the space between words, else it is an error that says
where. A parenthesis joins lines; a quoted word keeps its spaces; a backslash takes the meaning from what follows.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

# A quote directly behind "=" belongs to its word: alpn="h3,h2" (RFC 9460 section 2.1).
_PIECE = re.compile(
    r"""(?P<space>[ \t\r]+) | (?P<comment>;[^\n]*) | (?P<newline>\n) | (?P<parenthesis>[()])
      | "(?P<quoted>(?:[^"\\\n]|\\[^\n])*)"
      | (?P<word>(?:[^\s;()"\\]|\\[^\n])+(?:(?<==)"(?:[^"\\\n]|\\[^\n])*"|"(?:[^\s;()\\]|\\[^\n])*)?)""",
    re.VERBOSE,
)
_ESCAPE = re.compile(rb"\\(?:(\d{3})|(.))", re.DOTALL)
_PLAIN = frozenset(range(0x20, 0x7F)) - frozenset(b'"\\')


@dataclass(frozen=True, slots=True)
class Word:
    """One word as it was written, its escapes unread, its quotes taken off; and where, both counted from 1."""

    text: str
    is_quoted: bool = False
    line: int = field(default=1, compare=False)
    column: int = field(default=1, compare=False)


@dataclass(frozen=True, slots=True)
class Line:
    """The words of one entry; `is_indented`: it starts with space, so its owner is the one before."""

    number: int
    words: tuple[Word, ...]
    is_indented: bool


class LexError(ValueError):
    """Text that is no words; `line` and `column` count from 1."""

    def __init__(self, line: int, column: int, problem: str) -> None:
        super().__init__(problem)
        self.line, self.column = line, column


def lines(text: str) -> Iterator[Line]:
    """Cuts a zone file into entries, empty ones left out. Raises LexError."""
    words: list[Word] = []
    number = began = 1
    opened = (1, 1)
    depth = at = line_start = 0
    is_indented = False
    is_start = True
    while at < len(text):
        piece = _PIECE.match(text, at)
        if piece is None:
            problem = "a quote is not closed" if text[at] == '"' else f"unexpected {text[at]!r}"
            raise LexError(number, at - line_start + 1, problem)
        column = at - line_start + 1
        at = piece.end()
        kind, found = piece.lastgroup, piece.group()
        if is_start:
            is_indented, began = kind == "space", number
        is_start = False
        if kind == "newline":
            number, line_start = number + 1, at
            if depth == 0:
                if words:
                    yield Line(began, tuple(words), is_indented)
                words, is_start = [], True
        elif kind == "parenthesis":
            if depth == 0:
                opened = number, column
            depth += 1 if found == "(" else -1
            if depth < 0:
                raise LexError(number, column, "a parenthesis is closed that was not opened")
        elif kind == "quoted":
            words.append(Word(piece["quoted"], True, number, column))
        elif kind == "word":
            words.append(Word(found, False, number, column))
    if depth:
        raise LexError(*opened, "a parenthesis is not closed")
    if words:
        yield Line(began, tuple(words), is_indented)


def words_of(text: str) -> tuple[Word, ...]:
    """The words of one value. Raises ValueError."""
    found = [line.words for line in lines(text)]
    if len(found) > 1:
        raise ValueError("more than one line: join them with parentheses")
    return found[0] if found else ()


def unescaped(text: str) -> bytes:
    """The bytes that a word means: UTF-8, `\\\\DDD` and `\\\\X` read. Raises ValueError."""

    def meaning(match: re.Match[bytes]) -> bytes:
        if match[1] is None:
            return match[2]
        if int(match[1]) > 255:
            raise ValueError(f"\\{match[1].decode()} is no byte")
        return bytes((int(match[1]),))

    return _ESCAPE.sub(meaning, text.encode())


def escaped(data: bytes) -> str:
    """`data` as a quoted word."""
    return '"' + "".join(chr(byte) if byte in _PLAIN else _escape(byte) for byte in data) + '"'


def _escape(byte: int) -> str:
    return f"\\{chr(byte)}" if byte in b'"\\' else f"\\{byte:03d}"
