"""A request's body on its way; pure, so tested without a socket."""

from meridian.gateway.body import REPLAY_BYTES_MAX, RequestBody


def test_a_small_body_is_kept_for_another_try_and_a_large_one_is_not() -> None:
    body = RequestBody()
    for _ in range(2):
        body.came(b"x" * (REPLAY_BYTES_MAX // 2))
        body.went()
    assert body.kept is not None and sum(map(len, body.kept)) == body.byte_count == REPLAY_BYTES_MAX
    body.came(b"y")
    assert body.kept is not None, "it has not gone yet"
    body.went()
    assert body.kept is None
    body.came(b"z")
    assert body.kept is None and body.byte_count == REPLAY_BYTES_MAX + 2


def test_credit_is_given_once() -> None:
    body = RequestBody()
    body.came(b"abc")
    body.came(b"de")
    assert (body.take_credit(), body.take_credit()) == (5, 0)
