"""Who may join whom, and what all may say."""

from meridian.core.speech import OWN, Speaker, speaks, why_not_join


def test_all_say_only_what_every_one_can() -> None:
    old = Speaker("1", 1, 1, frozenset({"a"}))
    middle = Speaker("2", 1, 2, frozenset({"a", "b"}))
    new = Speaker("3", 2, 3, frozenset({"a", "b", "c"}))
    assert speaks([old, middle]).capabilities == {"a"}
    assert (speaks([middle, new]).oldest, speaks([middle, new]).newest) == (2, 2)
    assert speaks([middle, new]).capabilities == {"a", "b"}
    assert speaks([]) == OWN


def test_a_node_joins_only_whom_it_shares_a_protocol_with_and_is_told_why_not() -> None:
    old, middle, new = Speaker("1", 1, 1), Speaker("2", 1, 2), Speaker("3", 2, 3)
    assert why_not_join(middle, [old, old]) is None
    assert why_not_join(new, [middle]) is None
    assert why_not_join(new, []) is None
    too_new = why_not_join(new, [old, middle])
    assert too_new is not None
    assert "3 is too new: it speaks protocols 2 to 3, the cluster protocol 1" in too_new
    too_old = why_not_join(old, [new])
    assert too_old is not None
    assert "too old" in too_old
    assert "upgrade this node" in too_old
