"""Which changes of a listener need its sockets to be served anew."""

from typing import Any

import pytest
from tests.gateway.harness import document

from meridian.core.snapshot import Listener
from meridian.nodes.gateway_worker import _Attached

PROXY = {"clients": ["10.0.0.0/8"], "allow": [{}]}


def listener(**words: Any) -> Listener:
    return document(8080, [], [{"name": "all", "redirect_to": "/x"}], listener=words).listeners[0]


@pytest.mark.parametrize(("words", "stays"), [
    ({}, True), ({"trusted_proxies": ["10.0.0.0/8"]}, True), ({"forward_proxy": PROXY}, False),
    ({"proxy_protocol": True, "trusted_proxies": ["10.0.0.0/8"]}, False),
])  # fmt: skip
def test_sockets_are_served_anew_where_their_clients_are_spoken_to_otherwise(
    words: dict[str, Any], stays: bool
) -> None:
    assert _Attached(listener(), frozenset()).serves(listener(**words)) is stays
    allows_more = {"forward_proxy": {**PROXY, "allow": [{}, {"ports": [22]}]}}
    assert _Attached(listener(forward_proxy=PROXY), frozenset()).serves(listener(**allows_more))
