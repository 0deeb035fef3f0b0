"""The calls of OpenSSL that Python's `ssl` has no word for, made on its very own contexts by ctypes.

`fault` tries all of them once and says why they cannot be made here, if they cannot: another interpreter, or a libssl
that hides its functions. What needs them then goes without, and says so.
"""

import ctypes
import functools
import os
import ssl
import sys
from typing import Any

TICKET_KEY_BYTES = 80
"""Name (16), HMAC key (32), AES key (32): SSL_CTX_set_tlsext_ticket_keys(3)."""

_SET_TICKET_KEYS, _GET_TICKET_KEYS, _SET_GROUPS_LIST, _GET_MIN_VERSION = 59, 58, 92, 130  # openssl/{tls1,ssl}.h


class OpensslError(Exception):
    """The call was refused, or cannot be made here."""


def set_groups(context: ssl.SSLContext, names: str) -> None:
    """Which groups may be agreed on, the best first, such as "X25519:P-256". Raises OpensslError."""
    if _control(context, _SET_GROUPS_LIST, 0, names.encode()) != 1:
        raise OpensslError(f"libssl does not know all of {names}")


def set_ticket_keys(context: ssl.SSLContext, keys: bytes) -> None:
    """Makes and takes session tickets with these keys, of TICKET_KEY_BYTES. Raises OpensslError."""
    assert len(keys) == TICKET_KEY_BYTES
    if _control(context, _SET_TICKET_KEYS, TICKET_KEY_BYTES, keys) != 1:
        raise OpensslError("libssl does not take ticket keys")


@functools.cache
def fault() -> str:
    """Why none of this works here; "" if it does. Once for a process, on a context of its own."""
    if sys.implementation.name != "cpython" or hasattr(sys, "gettotalrefcount"):
        return f"{sys.implementation.name} (or a debug build) does not keep its SSL_CTX where CPython does"
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        if _control(context, _GET_MIN_VERSION, 0, None) != ssl.TLSVersion.TLSv1_3:
            return "what lies in an SSLContext is no SSL_CTX"
        keys, found = os.urandom(TICKET_KEY_BYTES), ctypes.create_string_buffer(TICKET_KEY_BYTES)
        set_ticket_keys(context, keys)
        if _control(context, _GET_TICKET_KEYS, TICKET_KEY_BYTES, found) != 1 or found.raw != keys:
            return "libssl does not keep ticket keys"
        set_groups(context, "X25519:P-256")
    except (OpensslError, OSError, AttributeError) as error:
        return f"{error}"
    return ""


def _control(context: ssl.SSLContext, command: int, number: int, value: Any) -> int:
    # PySSLContext begins with PyObject_HEAD, then the SSL_CTX*.
    pointer = ctypes.c_void_p.from_address(id(context) + object.__basicsize__)
    return int(_library().SSL_CTX_ctrl(pointer, command, number, value))


@functools.cache
def _library() -> ctypes.CDLL:
    """The libssl that this interpreter's `_ssl` is linked with, found through it. Raises OSError, AttributeError."""
    import _ssl

    library = ctypes.CDLL(getattr(_ssl, "__file__", None))
    library.SSL_CTX_ctrl.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_long, ctypes.c_void_p)
    library.SSL_CTX_ctrl.restype = ctypes.c_long
    return library
