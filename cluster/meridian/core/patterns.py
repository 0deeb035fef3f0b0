"""Regular expressions of the document, by RE2: its time is linear in the text, whatever the pattern says.

They are matched against bytes as they came, each a character (Latin-1), so patterns are ASCII: other characters stand
percent-encoded in a path, and by their bytes (`\\xc3`) elsewhere.
"""

import re
from typing import Protocol

import re2

CHARACTERS_MAX = 1024  # longer than any that a person would read
MEMORY_BYTES = 1024 * 1024  # of one pattern and its automaton; beyond it RE2 matches without one, more slowly

_LITERAL = re.compile(r"\^?((?:[A-Za-z0-9_/~!@%&=:;,-]|\\[./-])*)(.?)")


class Found(Protocol):
    """What a pattern matched."""

    def group(self, number: int) -> bytes | None:
        """The text of a group."""

    def expand(self, template: bytes) -> bytes:
        """A text with `\\1` put in."""


class Pattern(Protocol):
    """A compiled pattern."""

    groups: int

    def fullmatch(self, text: bytes) -> Found | None:
        """Whether it is the whole of a text."""

    def search(self, text: bytes) -> Found | None:
        """Whether it is anywhere in a text."""


def compile_pattern(text: str) -> Pattern:
    """Compiles a pattern. Raises ValueError that says what is wrong."""
    if len(text) > CHARACTERS_MAX:
        raise ValueError(f"longer than {CHARACTERS_MAX} characters; split it into several routes")
    if not text.isascii():
        raise ValueError("only ASCII: in a path, write other characters percent-encoded (%C3%A9)")
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.log_errors = False
    options.max_mem = MEMORY_BYTES
    try:
        found: Pattern = re2.compile(text.encode(), options)
    except re2.error as error:
        reason = error.args[0].decode("latin-1") if error.args and isinstance(error.args[0], bytes) else str(error)
        raise ValueError(f"{text!r} is no regular expression of RE2: {reason}") from None
    return found


def checked_pattern(text: str) -> str:
    """The pattern itself. Raises ValueError that says what is wrong."""
    compile_pattern(text)
    return text


def literal_start(text: str) -> str:
    """What every text that matches begins with, as far as that can be seen at a glance: "/users/" of /users/[0-9]+."""
    if "|" in text:
        return ""
    found = _LITERAL.match(text)
    assert found is not None, "it matches the empty text"
    literal = found[1]
    if found[2] and found[2] in "*+?{":  # the last character belongs to it
        literal = re.sub(r"\\?.$", "", literal)
    return literal.replace("\\", "")
