"""Which route takes a connection that passes through, and which documents say it badly."""

from typing import Any

import pytest

from meridian.core import model
from meridian.core.l4 import L4Route, build_l4
from meridian.core.snapshot import SnapshotError, compile_snapshot


def route(name: str, *server_names: str, listener: str = "pass") -> L4Route:
    return L4Route(name, listener, server_names, "app", 0, 600.0)


def test_the_most_specific_name_wins() -> None:
    table = build_l4(
        [
            route("all"),
            route("any", "*.example.com"),
            route("shop", "*.shop.example.com"),
            route("one", "a.example.com"),
        ]
    )["pass"]
    for name, wanted in (
        ("a.example.com", "one"),
        ("b.example.com", "any"),
        ("x.y.example.com", "any"),
        ("x.shop.example.com", "shop"),
        ("example.com", "all"),
        ("", "all"),
    ):
        found = table.find(name)
        assert found is not None and found.name == wanted, name
    assert table.needs_name
    assert not build_l4([route("all")])["pass"].needs_name
    assert build_l4([route("one", "a.example.com")])["pass"].find("b.example.com") is None


GOOD: dict[str, Any] = {
    "listeners": [
        {"name": "pass", "bind": "0.0.0.0:443", "protocols": ["tcp"]},
        {"name": "both", "bind": "0.0.0.0:514", "protocols": ["tcp", "udp"]},
    ],
    "upstreams": [{"name": "app", "endpoints": [{"address": "10.0.0.1:1"}]}],
    "l4_routes": [
        {"name": "mail", "listener": "pass", "server_names": ["mail.example.com"], "upstream": "app"},
        {"name": "rest", "listener": "pass", "upstream": "app", "proxy_protocol": "v2"},
        {"name": "logs", "listener": "both", "upstream": "app"},
    ],
}


def test_a_document_is_compiled_by_listener() -> None:
    snapshot = compile_snapshot(model.Document.model_validate(GOOD), {}, 1)
    assert set(snapshot.l4) == {"pass", "both"}
    rest = snapshot.l4["pass"].fallback
    assert rest is not None and (rest.name, rest.proxy_protocol) == ("rest", 2)


@pytest.mark.parametrize(
    ("index", "change", "message"),
    [
        (0, {"upstream": "mars"}, "there is no upstream 'mars'"),
        (0, {"listener": "mars"}, "there is no listener of tcp or udp 'mars'"),
        (0, {"server_names": []}, "'mail' takes what no other route takes of this listener already"),
        (1, {"server_names": ["mail.example.com"]}, "'mail' takes server name 'mail.example.com'"),
        (1, {"server_names": ["Mail.Example.com"]}, "no host name in lower case"),
        (1, {"server_names": ["a*.example.com"]}, "no host name in lower case"),
        (2, {"listener": "pass", "server_names": ["x.example.com"]}, "nothing takes its connections"),
        (2, {"proxy_protocol": "v1"}, "are of TCP"),
        (2, {"proxy_protocol": "v3"}, "'v1' or 'v2'"),
    ],
)
def test_what_cannot_be_meant_is_refused(index: int, change: dict[str, Any], message: str) -> None:
    routes = [{**one, **(change if at == index else {})} for at, one in enumerate(GOOD["l4_routes"])]
    with pytest.raises((ValueError, SnapshotError), match=message):
        compile_snapshot(model.Document.model_validate({**GOOD, "l4_routes": routes}), {}, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"protocols": ["tcp", "h1"]}, "HTTP is read here"),
        ({"tls": True}, "leave out tls"),
        ({"trusted_proxies": ["10.0.0.0/8"]}, "trusted_proxies but for proxy_protocol"),
    ],
)
def test_a_listener_is_of_one_layer(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model.Listener.model_validate({**GOOD["listeners"][0], **change})
