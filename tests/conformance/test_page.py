"""docs/conformance.md says how many cases there are."""

import re

from tests.conformance import (
    test_clients,
    test_grpc,
    test_http1,
    test_http2,
    test_http3,
    test_responses,
    test_smuggling,
    test_websocket,
)
from tests.support import ROOT


def test_the_page_has_the_floor_of_each_suite() -> None:
    page = (ROOT / "docs" / "conformance.md").read_text()
    said = re.findall(r"^\| `(\w+)` \|[^|]+\| (\d+) \|", page, re.MULTILINE)
    assert said == [
        ("test_http1", str(test_http1.FLOOR)),
        ("test_responses", str(test_responses.FLOOR)),
        ("test_smuggling", str(test_smuggling.FLOOR)),
        ("test_http2", str(test_http2.FLOOR)),
        ("test_http2", str(test_http2.DIALOGUES_FLOOR)),
        ("test_http3", str(test_http3.FLOOR)),
        ("test_websocket", str(test_websocket.FLOOR)),
        ("test_grpc", str(test_grpc.FLOOR)),
        ("test_clients", str(test_clients.CURL_FLOOR)),
        ("test_clients", str(test_clients.BROWSER_FLOOR)),
    ]
