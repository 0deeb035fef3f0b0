from dataclasses import replace

import pytest

from meridian.control.members import Endpoints, MemberRecord, encode, for_judgement, read_members
from meridian.core.verdicts import Member
from meridian.store.port import Item

RECORD = MemberRecord("a", "a.1", "eu", ("192.0.2.1",), Endpoints("192.0.2.1:80"), 3, "", True, 0)


def test_records_survive_and_the_later_boot_counts() -> None:
    later = replace(RECORD, node_id="a.2", draining=False)
    view = {"k1": Item("k1", encode(later), 9, 9), "k2": Item("k2", encode(RECORD), 5, 12)}
    assert read_members(view) == {"a": later}
    assert for_judgement({"a": later}) == {"a": Member("a", "eu", ("192.0.2.1",))}


def test_a_record_that_cannot_be_read_blinds_nobody(caplog: pytest.LogCaptureFixture) -> None:
    view = {"k1": Item("k1", b"{broken", 5, 5), "k2": Item("k2", encode(RECORD), 6, 6)}
    assert set(read_members(view)) == {"a"}
    assert "k1" in caplog.text


def test_words_of_a_newer_node_are_ignored() -> None:
    value = encode(RECORD)[:-1] + b',"colour":"red"}'
    assert read_members({"k": Item("k", value, 5, 5)}) == {"a": RECORD}
