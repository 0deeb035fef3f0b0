"""Routes as the document words them, and what is said of those that take nothing."""

from typing import Any

import pytest

from meridian.core.document import DocumentError, load, warnings
from meridian.core.model import Document
from meridian.core.routing import PATTERNS_MAX


def document(*routes: dict[str, Any]) -> dict[str, Any]:
    """With one upstream and these matches."""
    return {
        "listeners": [{"name": "web", "bind": "0.0.0.0:80", "protocols": ["h1"]}],
        "upstreams": [{"name": "app", "endpoints": [{"address": "10.0.0.1:80"}]}],
        "routes": [{"name": f"r{n}", "match": match, "upstream": "app"} for n, match in enumerate(routes)],
    }


def said(*routes: dict[str, Any]) -> dict[str, str]:
    """Warnings by the place of their route."""
    found = Document.model_validate(document(*routes)).warnings()
    return {f"r{place[1]}": message for place, message in found if place[0] == "routes"}


ACME = {"name": "X-Tenant", "exact": "acme"}


@pytest.mark.parametrize(
    ("routes", "hidden", "why"),
    [
        (({}, {"path_prefix": "/"}), "r1", "the same match as 'r0'"),
        (({"host": "A.example.com"}, {"host": "a.example.com."}), "r1", "the same match as 'r0'"),
        (({"methods": ["GET"]}, {"methods": ["GET", "PUT"]}, {"methods": ["PUT", "GET"]}), "r2", "the same match"),
        (({"headers": [ACME]}, {"headers": [ACME | {"name": "x-tenant"}]}), "r1", "the same match as 'r0'"),
        (({"query": [{"name": "a", "exact": "12"}]},
          {"query": [{"name": "a", "present": True}, {"name": "a", "prefix": "1"}]}), "r0", "could take goes to 'r1'"),
        (({"path_regex": "/.*"}, {"path_prefix": "/api"}, {"path": "/x"}), "r1", "'r0' takes all"),
        (({"clients": ["10.0.0.0/8"]}, {"clients": ["10.0.0.0/8"]}), "r1", "the same match"),
        (({"headers": [ACME, ACME | {"exact": "other"}]},), "r0", "cannot be two values"),
        (({"host": "a.example.com:8080"},), "r0", "without its port; write 'a.example.com'"),
        (({"host": "a.*.com"},), "r0", "is no host"),
        (({"path": "/a?b=c"},), "r0", "without its query"),
        (({"path_prefix": "/a/../b"},), "r0", "dot segments"),
    ],
)  # fmt: skip
def test_a_route_that_takes_nothing_is_told(routes: tuple[dict[str, Any], ...], hidden: str, why: str) -> None:
    found = said(*routes)
    assert why in found.pop(hidden) and not found


def test_routes_that_differ_are_left_alone() -> None:
    assert not said(
        {}, {"path": "/"}, {"methods": ["GET"]}, {"host": "a.com"}, {"host": "*.a.com"}, {"headers": [ACME]},
        {"headers": [{"name": "x-tenant", "prefix": "ac"}]}, {"headers": [{"name": "x-tenant", "present": False}]},
        {"clients": ["10.0.0.0/8"]}, {"clients": ["10.1.0.0/16"]}, {"clients": ["2001:db8::/32"]},
        {"path_regex": "/a/.*"}, {"path_regex": "/a/.*", "methods": ["GET"]}, {"path_prefix": "/a"},
        {"cookies": [{"name": "a", "exact": "1"}]}, {"query": [{"name": "a", "exact": "1"}]},
    )  # fmt: skip


def test_a_warning_names_line_and_place() -> None:
    text = """\
listeners: [{name: web, bind: "0.0.0.0:80", protocols: [h1]}]
upstreams: [{name: app, endpoints: [{address: "10.0.0.1:80"}]}]
routes:
  - {name: one, upstream: app}
  - {name: two, upstream: app}
"""
    (problem,) = warnings(text, load(text))
    assert (problem.line, problem.place) == (5, "routes[1].match") and "'one'" in problem.message


@pytest.mark.parametrize(
    ("match", "why"),
    [
        ("path: /a, path_regex: /b", "exclude each other"),
        ("path_regex: '(a'", "is no regular expression of RE2: missing )"),
        ("headers: [{name: x}]", "exactly one of: exact, prefix, regex, present"),
        ("headers: [{name: x, exact: a, regex: b}]", "exactly one of"),
        ("headers: [{name: Host, exact: a}]", "say host: in match"),
        ("headers: [{name: 'a b', exact: a}]", "should match pattern"),
        ("cookies: [{name: x, regex: '['}]", "missing ]"),
        ("query: [{name: x, exactly: a}]", "did you mean 'exact'"),
        ("query: [{name: x, exact: caf\xe9}]", "only printable ASCII"),
        ("clients: [10.0.0.1/8]", "has host bits set"),
    ],
)
def test_what_is_no_match_is_refused(match: str, why: str) -> None:
    text = f"""\
listeners: [{{name: web, bind: "0.0.0.0:80", protocols: [h1]}}]
upstreams: [{{name: app, endpoints: [{{address: "10.0.0.1:80"}}]}}]
routes:
  - {{name: one, match: {{{match}}}, upstream: app}}
"""
    with pytest.raises(DocumentError) as caught:
        load(text)
    assert why in str(caught.value) and "routes[0].match" in str(caught.value)


def test_patterns_that_begin_alike_are_bounded() -> None:
    fits = [{"path_regex": f"/users/[0-9]+/{n}"} for n in range(PATTERNS_MAX)]
    others = [{"path_regex": f"/other/{n}/.*"} for n in range(PATTERNS_MAX)]
    assert not list(Document.model_validate(document(*fits, *others)).problems())
    beyond = {"path_regex": "/users/[a-z]+"}
    ((place, message),) = Document.model_validate(document(*fits, beyond)).problems()
    assert place == ("routes", PATTERNS_MAX, "match", "path_regex") and "begin with '/users/'" in message
