"""The calls of OpenSSL that Python's `ssl` has no word for, made on its very own contexts by ctypes.

`fault` tries all of them once and says why they cannot be made here, if they cannot: another interpreter, or a libssl
that hides its functions. What needs them then goes without, and says so.
"""

import ctypes
import functools
import hmac
import os
import ssl
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from meridian.core.shared_secrets import TOKEN_SECONDS

_SET_TICKET_CALLBACK, _SET_GROUPS_LIST, _GET_MIN_VERSION = 72, 92, 130  # openssl/{tls1,ssl}.h
_NAME_BYTES, _IV_BYTES, _KEY_BYTES = 16, 16, 32
_UNKNOWN, _TAKEN, _TO_BE_RENEWED = 0, 1, 2  # SSL_CTX_set_tlsext_ticket_key_cb(3)


class OpensslError(Exception):
    """The call was refused, or cannot be made here."""


@dataclass(frozen=True, slots=True)
class TicketKey:
    """What session tickets are sealed with: AES-256-CBC, then HMAC-SHA256 (RFC 5077 section 4)."""

    name: bytes
    cipher: bytes = field(repr=False)
    mac: bytes = field(repr=False)

    @classmethod
    def of(cls, secret: bytes, scope: bytes) -> "TicketKey":
        """From a shared secret; tickets of one scope are none in another."""
        name, cipher, mac = (hmac.digest(secret, what + scope, "sha256") for what in (b"name", b"cipher", b"mac"))
        return cls(name[:_NAME_BYTES], cipher, mac)


def set_groups(context: ssl.SSLContext, names: str) -> None:
    """Which groups may be agreed on, the best first, such as "X25519:P-256". Raises OpensslError."""
    if _library().SSL_CTX_ctrl(_pointer(context), _SET_GROUPS_LIST, 0, names.encode()) != 1:
        raise OpensslError(f"libssl does not know all of {names}")


def set_ticket_keys(context: ssl.SSLContext, keys: Sequence[TicketKey]) -> None:
    """From now on the first key makes session tickets, and all are taken; a ticket of another is renewed. Tickets live
    for TOKEN_SECONDS. Raises OpensslError."""
    assert keys
    lives: Any = context
    if not hasattr(lives, "ticket_keys"):
        library = _library()
        lives.ticket_callback = _TICKET_CALLBACK(functools.partial(_on_ticket, library, lives))
        if library.SSL_CTX_callback_ctrl(_pointer(context), _SET_TICKET_CALLBACK, lives.ticket_callback) != 1:
            raise OpensslError("libssl takes no callback for ticket keys")
        library.SSL_CTX_set_timeout(_pointer(context), int(TOKEN_SECONDS))
    lives.ticket_keys = tuple(keys)


@functools.cache
def fault() -> str:
    """Why none of this works here; "" if it does. Tried once for a process, on a context of its own."""
    if sys.implementation.name != "cpython" or hasattr(sys, "gettotalrefcount"):
        return f"{sys.implementation.name} (or a debug build) does not keep its SSL_CTX where CPython does"
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        if _library().SSL_CTX_ctrl(_pointer(context), _GET_MIN_VERSION, 0, None) != ssl.TLSVersion.TLSv1_3:
            return "what lies in an SSLContext is no SSL_CTX"
        set_groups(context, "X25519:P-256")
        set_ticket_keys(context, [TicketKey.of(bytes(32), b"")])
    except (OpensslError, OSError, AttributeError) as error:
        return f"{error}"
    return ""


def _on_ticket(library: ctypes.CDLL, lives: Any, _: int, name: int, iv: int, cipher: int, mac: int, makes: int) -> int:
    """OpenSSL asks for the key of a ticket that it makes, or that a client shows."""
    keys: tuple[TicketKey, ...] = lives.ticket_keys
    if makes:
        key = keys[0]
        ctypes.memmove(name, key.name, _NAME_BYTES)
        ctypes.memmove(iv, os.urandom(_IV_BYTES), _IV_BYTES)
        start = library.EVP_EncryptInit_ex
    else:
        shown = ctypes.string_at(name, _NAME_BYTES)
        found = next((one for one in keys if one.name == shown), None)
        if found is None:
            return _UNKNOWN
        key, start = found, library.EVP_DecryptInit_ex
    if start(cipher, library.EVP_aes_256_cbc(), None, key.cipher, iv) != 1:
        return _UNKNOWN
    if library.HMAC_Init_ex(mac, key.mac, _KEY_BYTES, library.EVP_sha256(), None) != 1:
        return _UNKNOWN
    return _TAKEN if makes or key is keys[0] else _TO_BE_RENEWED


_POINTER = ctypes.c_void_p
_TICKET_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, _POINTER, _POINTER, _POINTER, _POINTER, _POINTER, ctypes.c_int
)  # SSL*, name, iv, EVP_CIPHER_CTX*, HMAC_CTX*, whether it makes one


def _pointer(context: ssl.SSLContext) -> ctypes.c_void_p:
    # PySSLContext begins with PyObject_HEAD, then the SSL_CTX*.
    return ctypes.c_void_p.from_address(id(context) + object.__basicsize__)


@functools.cache
def _library() -> ctypes.CDLL:
    """The libssl and libcrypto that this interpreter's `_ssl` is linked with, found through it. Raises OSError, and
    AttributeError for a function that is not there."""
    import _ssl

    library = ctypes.CDLL(getattr(_ssl, "__file__", None))
    words: tuple[tuple[str, Any, tuple[Any, ...]], ...] = (
        ("SSL_CTX_ctrl", ctypes.c_long, (_POINTER, ctypes.c_int, ctypes.c_long, _POINTER)),
        ("SSL_CTX_callback_ctrl", ctypes.c_long, (_POINTER, ctypes.c_int, _TICKET_CALLBACK)),
        ("SSL_CTX_set_timeout", ctypes.c_long, (_POINTER, ctypes.c_long)),
        ("EVP_aes_256_cbc", _POINTER, ()),
        ("EVP_sha256", _POINTER, ()),
        ("EVP_EncryptInit_ex", ctypes.c_int, (_POINTER, _POINTER, _POINTER, ctypes.c_char_p, _POINTER)),
        ("EVP_DecryptInit_ex", ctypes.c_int, (_POINTER, _POINTER, _POINTER, ctypes.c_char_p, _POINTER)),
        ("HMAC_Init_ex", ctypes.c_int, (_POINTER, ctypes.c_char_p, ctypes.c_int, _POINTER, _POINTER)),
    )
    for name, result, arguments in words:
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
