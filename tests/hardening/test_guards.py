"""The guards of the document: their page, and the codecs' defaults."""

import re

from tests.support import ROOT

from meridian.core import guard_words
from meridian.core.guards import USUAL
from meridian.gateway.guarding import bounds_of
from meridian.wire import bounds


def test_the_page_has_every_word_with_its_default() -> None:
    page = (ROOT / "docs" / "hardening.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| ([\d, KiB]+|none) \|", page, re.MULTILINE))
    said = {word: rows[word].strip() for word in guard_words.Guards.model_fields}
    defaults = {
        word: "none" if value is None else f"{value // 1024} KiB" if word in ("header_bytes_max", "uri_bytes_max")
        else f"{value:g}"
        for word, value in guard_words.Guards()
    }  # fmt: skip
    assert said == defaults


def test_codecs_that_are_told_nothing_do_as_a_document_that_says_nothing() -> None:
    assert bounds_of(USUAL) == bounds.USUAL
