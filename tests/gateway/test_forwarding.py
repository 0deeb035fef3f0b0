"""What changes in a message on its way; pure, so tested without a socket."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meridian.core.snapshot import Listener
from meridian.gateway import forwarding
from meridian.gateway.forwarding import BadTargetError, ListenerFacts
from meridian.gateway.stream import Peer
from meridian.wire.events import Headers, RequestHead

PEER = Peer("10.0.0.1", 4711, 8443, "web", True, "h2")


def facts(*trusted: str, protocols: tuple[str, ...] = ("h1", "h2")) -> ListenerFacts:
    """Of a TLS listener on port 8443."""
    return ListenerFacts.of(Listener("web", "0.0.0.0", 8443, protocols, True, trusted))


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/", "/"), ("/a/b", "/a/b"), ("/a/./b", "/a/b"), ("/a/../b", "/b"), ("/../../a", "/a"), ("/a/..", "/"),
        ("/a/b/..", "/a/"), ("/a/.", "/a/"), ("/.", "/"), ("/..", "/"), ("/%2e%2E/a", "/a"), ("/a/.%2e/b", "/b"),
        ("/a/...", "/a/..."), ("/.a/b.", "/.a/b."), ("//a//../b", "//a/b"), ("/a%2Fb", "/a%2Fb"), ("/%41", "/%41"),
        ("/a/../b?x=../y", "/b?x=../y"), ("/a?x=/./%00", "/a?x=/./%00"), ("*", "*"), ("/a/%2e", "/a/"),
    ],
)  # fmt: skip
def test_dot_segments_are_removed(target: str, expected: str) -> None:
    assert forwarding.normalise(target.encode()) == expected.encode()


@pytest.mark.parametrize("target", ["/%00", "/a%0a", "/a%0D%0Ab", "/%1f", "/%7F", "/a/../%00"])
def test_encoded_control_bytes_are_refused(target: str) -> None:
    with pytest.raises(BadTargetError):
        forwarding.normalise(target.encode())


@given(st.lists(st.sampled_from(["a", ".", "..", "%2e", "%2E.", "", "b%20c"]), min_size=1, max_size=8))
def test_what_is_normalised_stays_and_holds_no_dot_segment(segments: list[str]) -> None:
    target = ("/" + "/".join(segments)).encode()
    once = forwarding.normalise(target)
    assert forwarding.normalise(once) == once and once.startswith(b"/")
    assert not {b".", b".."} & {part.lower().replace(b"%2e", b".") for part in once.split(b"/")}


@pytest.mark.parametrize(
    ("trusted", "said", "expected"),
    [
        ((), "1.1.1.1", "10.0.0.1"),
        (("192.168.0.0/16",), "1.1.1.1", "10.0.0.1"),
        (("10.0.0.0/8",), None, "10.0.0.1"),
        (("10.0.0.0/8",), "1.1.1.1", "1.1.1.1"),
        (("10.0.0.0/8",), "6.6.6.6, 1.1.1.1, 10.9.9.9", "1.1.1.1"),
        (("10.0.0.0/8",), "10.1.1.1,10.2.2.2", "10.1.1.1"),
        (("10.0.0.0/8",), "6.6.6.6, nonsense, 10.2.2.2", "10.2.2.2"),
        (("10.0.0.0/8",), "2001:db8::1", "2001:db8::1"),
    ],
)
def test_the_client_is_who_a_trusted_proxy_says(trusted: tuple[str, ...], said: str | None, expected: str) -> None:
    headers: Headers = [(b"x-forwarded-for", said.encode())] if said else []
    assert forwarding.client_address(PEER, forwarding.split(headers)[1], facts(*trusted)) == expected


def head(*headers: tuple[bytes, bytes], version: bytes = b"2", expects_continue: bool = False) -> RequestHead:
    """A request's head."""
    return RequestHead(1, b"GET", b"https", b"a.com", b"/", list(headers), False, 0, version, expects_continue)


def sent(request: RequestHead, listener: ListenerFacts) -> dict[bytes, bytes]:
    """The fields for the upstream."""
    kept, said = forwarding.split(request.headers)
    headers, lines = forwarding.request_fields(request, kept, said, PEER, listener, b"id", b"trace")
    fields = [*headers, *((name, value) for name, _, value in (line.partition(b": ") for line in lines.splitlines()))]
    assert len({name for name, _ in fields}) == len(fields) and lines.count(b"\r\n") == len(fields) - len(headers)
    return dict(fields)


def test_fields_for_the_upstream() -> None:
    lies = [(name, b"lie") for name in (
        b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-port", b"x-request-id",
        b"traceparent", b"forwarded", b"x-real-ip", b"content-length",
    )]  # fmt: skip
    assert sent(head(*lies, (b"via", b"1.0 x"), (b"accept", b"y")), facts()) == {
        b"accept": b"y", b"x-forwarded-for": b"10.0.0.1", b"x-forwarded-proto": b"https",
        b"x-forwarded-host": b"a.com", b"x-forwarded-port": b"8443", b"x-request-id": b"id",
        b"via": b"1.0 x, 2 meridian", b"traceparent": b"trace", b"te": b"trailers", b"connection": b"te",
    }  # fmt: skip
    trusted = sent(head(*lies, (b"via", b"1.0 x")), facts("10.0.0.0/8"))
    assert trusted == {
        b"x-forwarded-for": b"lie, 10.0.0.1", b"x-forwarded-proto": b"lie", b"x-forwarded-host": b"lie",
        b"x-forwarded-port": b"lie", b"x-request-id": b"id", b"via": b"1.0 x, 2 meridian", b"traceparent": b"trace",
        b"te": b"trailers", b"connection": b"te",
    }  # fmt: skip
    plain = sent(head(version=b"1.1", expects_continue=True), facts())
    assert plain[b"expect"] == b"100-continue" and b"te" not in plain and plain[b"via"] == b"1.1 meridian"


def test_a_request_id_is_taken_from_trusted_proxies_if_it_looks_like_one() -> None:
    for value, listener, expected in (
        (b"abc-1", facts("10.0.0.0/8"), b"abc-1"),
        (b"abc-1", facts(), None),
        (b"a b", facts("10.0.0.0/8"), None),
        (b"a" * 129, facts("10.0.0.0/8"), None),
    ):
        said = {b"x-request-id": value}
        assert forwarding.request_id(PEER, said, listener) == expected


def test_h3_is_advertised_over_tls_where_it_is_spoken() -> None:
    h3 = facts(protocols=("h1", "h2", "h3"))
    fields: Headers = [(b"alt-svc", b"theirs"), (b"x", b"1")]
    assert completed(fields, PEER, h3) == [(b"x", b"1"), (b"date", b"now"), (b"alt-svc", b'h3=":8443"; ma=86400')]
    plain = Peer("10.0.0.1", 1, 80, "web", False, "h1")
    assert completed(fields, plain, h3) == completed(fields, PEER, facts()) == [*fields, (b"date", b"now")]


def test_an_upstream_with_a_clock_says_the_date_itself() -> None:
    fields: Headers = [(b"x", b"1"), (b"date", b"then"), (b"y", b"2")]
    assert completed(fields, PEER, facts()) == fields


def completed(fields: Headers, peer: Peer, listener: ListenerFacts) -> Headers:
    """The fields for the client."""
    headers = list(fields)
    forwarding.complete_response(headers, b"now", peer, listener)
    return headers


def test_what_some_services_take_for_our_fields_does_not_go_on() -> None:
    mine = [(b"x_custom", b"1"), (b"x-custom", b"2")]
    theirs = [(b"x_forwarded_for", b"1"), (b"x-forwarded_for", b"2"), (b"x_consumer", b"3"), (b"content_length", b"4"),
              (b"transfer_encoding", b"chunked"), (b"client_cert", b"5")]  # fmt: skip
    assert forwarding.split(mine + theirs) == (mine, {})
