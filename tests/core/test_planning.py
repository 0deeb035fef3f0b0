"""What `meridian plan` says of two documents."""

from meridian.core.document import load
from meridian.core.planning import diff

BASE = """\
listeners: [{name: web, bind: "0.0.0.0:80", protocols: [h1]}]
upstreams:
  - {name: a, endpoints: [{address: "10.0.0.1:80"}]}
  - {name: b, endpoints: [{address: "10.0.0.2:80"}]}
  - {name: c, endpoints: [{address: "10.0.0.3:80"}]}
routes:
  - {name: one, upstream: a}
"""


def test_the_same_document_changes_nothing() -> None:
    assert diff(load(BASE), load(BASE)).changes == ()


def test_a_changed_word_is_named_by_its_path_with_both_values() -> None:
    (change,) = diff(load(BASE), load(BASE.replace("10.0.0.2:80", "10.0.0.9:80"))).changes
    assert (change.kind, change.section, change.name) == ("changed", "upstreams", "b")
    assert change.details == ("endpoints[0].address: 10.0.0.2:80 -> 10.0.0.9:80",)


def test_added_and_removed_parts_are_named() -> None:
    new = load(BASE.replace("name: one", "name: two"))
    assert [(c.kind, c.name) for c in diff(load(BASE), new).changes] == [("removed", "one"), ("added", "two")]
    assert all(c.kind == "added" for c in diff(None, new).changes)


def test_removing_one_is_a_wish_and_removing_most_is_an_objection() -> None:
    without = "\n".join(line for line in BASE.splitlines() if "name: b" not in line)
    assert diff(load(BASE), load(without)).objections == ()
    without = "\n".join(line for line in without.splitlines() if "name: c" not in line)
    assert diff(load(BASE), load(without)).objections == ("removes 2 of 3 upstreams: b, c",)


def test_words_that_stand_once_are_compared_too() -> None:
    text = 'listeners: [{name: web, bind: "0.0.0.0:80", protocols: [h1]}]\n'
    old, new = load(text), load(text + "dns: {limit: {rate: 9/s, burst: 9}}\ntracing: {sample_ratio: 1}\n")
    changes = diff(old, new).changes
    assert [(change.kind, change.section) for change in changes] == [("changed", "tracing"), ("changed", "dns")]
    assert "sample_ratio" in changes[0].details[0] and "limit" in changes[1].details[0]
