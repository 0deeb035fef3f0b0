"""The report of `scripts/prove`."""

from tests.prove import Part, Seen, listed, page, typed

TIMES = {"MERIDIAN_TIMES": "7"}


def test_each_part_has_its_page_and_its_row_and_what_never_ran_says_so() -> None:
    ran = Part("kills", "Nodes die", lambda: typed(("sh", "-c", "echo $MERIDIAN_TIMES; exit 3"), TIMES))
    other = Part("seeds", "Seeds", lambda: Seen("", True, ""))
    seen = ran.run()
    assert (seen.passed, seen.said) == (False, "7")
    text = page(ran, seen, 1.4, "today")
    assert "$ MERIDIAN_TIMES=7 sh -c" in text
    assert list(listed({"kills": text}, (ran, other)))[-2:] == [
        "| [Nodes die](proof/kills.md) | FAILED | 1 | today |",
        "| Seeds | NOT RUN | | |",
    ]
