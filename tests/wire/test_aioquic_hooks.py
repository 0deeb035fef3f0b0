"""The pin: these fail when aioquic changes under the private parts that wire/aioquic_hooks.py leans on."""

import hashlib
import importlib.metadata
import inspect
from collections.abc import Callable
from typing import Any

import aioquic.h3.connection as h3
import pytest
from aioquic import tls
from aioquic.asyncio import server
from aioquic.quic import connection as quic
from aioquic.quic import stream
from aioquic.quic.retry import QuicRetryTokenHandler

from meridian.wire import aioquic_hooks as hooks
from meridian.wire.aioquic_hooks import AIOQUIC_VERSION, CONNECTION_ID_BYTES

READ_SOURCES: list[tuple[Callable[..., Any], str]] = [
    (tls.Context._server_handle_hello, "SERVER_HANDLE_HELLO"),
    (tls.Context._server_handle_certificate, "SERVER_HANDLE_CERTIFICATE"),
    (tls.Context._server_handle_certificate_verify, "SERVER_HANDLE_CERTIFICATE_VERIFY"),
    (tls.Context._check_certificate_verify_signature, "CHECK_SIGNATURE"),
    (tls.Context._signature_algorithms_for_private_key, "SIGNATURE_ALGORITHMS"),
    (quic.QuicConnection._initialize, "INITIALIZE"),
    (quic.QuicConnection._replenish_connection_ids, "REPLENISH"),
    (quic.QuicConnection._write_connection_limits, "CONNECTION_LIMITS"),
    (quic.QuicConnection._write_stream_limits, "STREAM_LIMITS"),
    (quic.QuicConnection._handle_stream_frame, "STREAM_FRAME"),
    (quic.QuicConnection._handle_reset_stream_frame, "RESET_FRAME"),
    (stream.QuicStreamReceiver.handle_frame, "HANDLE_FRAME"),
    (stream.QuicStreamSender.on_data_delivery, "DELIVERY"),
    (stream.QuicStreamSender.write, "WRITE"),
    (h3.H3Connection._init_connection, "H3_INIT"),
    (h3.H3Connection._get_local_settings, "H3_SETTINGS"),
    (h3.H3Connection._receive_stream_data, "H3_DATA"),
    (h3.H3Connection._receive_stream_data_uni, "H3_UNI"),
    (h3.H3Connection._receive_request_or_push_data, "H3_REQUEST"),
    (h3.H3Connection._handle_request_or_push_frame, "H3_FRAME"),
    (h3.H3Connection._check_request_or_push_frame_type, "H3_CHECK"),
    (QuicRetryTokenHandler.__init__, "RETRY"),
    (server._encode_invalid_token_close, "INVALID_TOKEN"),
]
"""Each function that is overridden, or whose working an override relies on, with the digest of what was read."""

DIGESTS: dict[str, str] = {
    "SERVER_HANDLE_HELLO": "ce53cc7baafe259b",
    "SERVER_HANDLE_CERTIFICATE": "8300245453e1b8ee",
    "SERVER_HANDLE_CERTIFICATE_VERIFY": "54a8dfacdbb96066",
    "CHECK_SIGNATURE": "68c355898f7e639f",
    "SIGNATURE_ALGORITHMS": "b324636662812ee4",
    "INITIALIZE": "6a41681e541c05d7",
    "REPLENISH": "73b127efb89c53a3",
    "CONNECTION_LIMITS": "02c42c5455ae1a31",
    "STREAM_LIMITS": "398d4a898f7c580f",
    "STREAM_FRAME": "8c79348a854e307d",
    "RESET_FRAME": "0a1801842064e9dd",
    "HANDLE_FRAME": "c54bce9f11e6f2de",
    "DELIVERY": "675e1c2812ea3744",
    "WRITE": "77d188425093015b",
    "H3_INIT": "5dbdb7d87fbc17f3",
    "H3_SETTINGS": "6d1ff1ffc25833d2",
    "H3_DATA": "4116e90ae2321093",
    "H3_UNI": "48efcd7234388b9a",
    "H3_REQUEST": "9d6a7ba4950b306a",
    "H3_FRAME": "8cce022eb354a38c",
    "H3_CHECK": "c5c333619fecc487",
    "RETRY": "75d5748fc48e1ec0",
    "INVALID_TOKEN": "abcbbe3b603ffa0c",
}


def digest(function: Callable[..., Any]) -> str:
    return hashlib.sha256(inspect.getsource(function).encode()).hexdigest()[:16]


def test_the_version_is_the_one_that_was_read() -> None:
    assert importlib.metadata.version("aioquic") == AIOQUIC_VERSION


@pytest.mark.parametrize(("function", "name"), READ_SOURCES, ids=[name for _, name in READ_SOURCES])
def test_the_source_is_the_one_that_was_read(function: Callable[..., Any], name: str) -> None:
    """If this fails, read the function anew, check aioquic_hooks against it, and only then change the digest."""
    assert digest(function) == DIGESTS[name]


def test_reset_tokens_are_computed_and_resets_shrink() -> None:
    connection_id = hooks.new_connection_id((3, 7))
    assert hooks.place_of(connection_id) == (3, 7)
    assert len(connection_id) == CONNECTION_ID_BYTES
    token = hooks.stateless_reset_token(b"k" * 32, connection_id)
    assert token == hooks.stateless_reset_token(b"k" * 32, connection_id)
    assert token != hooks.stateless_reset_token(b"l" * 32, connection_id)
    for received in (22, 30, 1200):
        reset = hooks.stateless_reset(b"k" * 32, connection_id, received)
        assert reset is not None
        assert len(reset) < received
        assert reset.endswith(token)
        assert reset[0] & 0xC0 == 0x40
    assert hooks.stateless_reset(b"k" * 32, connection_id, 21) is None


def test_retry_tokens_work_for_whoever_has_the_key() -> None:
    address = ("192.0.2.1", 5)
    token = hooks.RetryTokens(b"k" * 32).create_token(
        address=address, original_destination_connection_id=b"o" * 8, retry_source_connection_id=b"r" * 8, now=1.0
    )
    tokens = hooks.RetryTokens(b"k" * 32)

    def check(
        address: tuple[str, int] = address, destination_cid: bytes = b"r" * 8, token: bytes = token, now: float = 2.0
    ) -> bytes:
        return tokens.validate_token(address=address, destination_cid=destination_cid, token=token, now=now)

    assert check() == b"o" * 8
    with pytest.raises(ValueError, match="address"):
        check(address=("192.0.2.2", 5))
    with pytest.raises(ValueError, match="connection ID"):
        check(destination_cid=b"x" * 8)
    with pytest.raises(ValueError, match="invalid"):
        check(token=token[:-1] + bytes((token[-1] ^ 1,)))
    with pytest.raises(ValueError, match="expired"):
        check(now=100.0)
    tokens = hooks.RetryTokens(b"l" * 32)
    with pytest.raises(ValueError, match="invalid"):
        check()
