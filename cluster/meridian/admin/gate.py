"""Who may speak to the admin API at all, decided before any route sees the request.

Three doors in this order. The Host must be an address, localhost or a name we were given: a web page that rebinds its
own name to 127.0.0.1 comes with that name. An Origin, which only browsers send, must be ourselves. The bearer token
must be right, compared in constant time. Then the body is bounded, whether its length was announced or not.
"""

import hmac
import ipaddress
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from fastapi import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from meridian.control.backup import BACKUP_BYTES_MAX

# The store's bound on a document. Nothing else that is sent here comes near it.
BODY_BYTES_MAX = 16 * 1024 * 1024
DISCARD_BYTES_MAX = 4 * BODY_BYTES_MAX
# A load balancer's probe and a Prometheus scrape carry no token and learn no secret; both still pass the Host check.
OPEN_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})
# The one upload that is larger; a node that takes it has that much memory to spare for a moment.
BODY_BYTES_MAX_OF = {"/v1/backup": BACKUP_BYTES_MAX}


@dataclass(frozen=True, slots=True)
class Denial:
    """Why a request is not let in; `status` is of HTTP."""

    status: int
    message: str
    remedy: str


def error_body(
    message: str, remedy: str = "", problems: Collection[dict[str, object]] = ()
) -> dict[str, dict[str, object]]:
    """The one shape of an error answer."""
    return {"error": {"message": message, "remedy": remedy, "problems": list(problems)}}


def judge(path: str, headers: dict[bytes, bytes], token: str, hosts: Collection[str]) -> Denial | None:
    """Decides on a request head; header names are in lower case. None lets it in.

    An empty `token` lets nobody in: a file that could not be read must not open the door.
    """
    host = headers.get(b"host", b"").decode("latin-1")
    if not _host_known(host, hosts):
        return Denial(421, f"this is not {host or 'a host without a name'}", "ask by address, or as localhost")
    origin = headers.get(b"origin")
    if origin is not None and urlsplit(origin.decode("latin-1")).netloc != host:
        return Denial(403, "a page of another origin may not call this API", "call it from a program")
    if path in OPEN_PATHS:
        return None
    scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
    right = hmac.compare_digest(given.strip(), token.encode())
    if scheme.lower() != b"bearer" or not right or not token:
        return Denial(401, "the token is missing or wrong", "send Authorization: Bearer with the token file's content")
    return None


def _host_known(host: str, known: Collection[str]) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        return False
    if not name:
        return False
    if name in known:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class Gate:
    """ASGI middleware around `judge`; `hosts` are the names, besides addresses, that this API answers to."""

    def __init__(self, app: ASGIApp, token: str, hosts: Collection[str] = ("localhost",)) -> None:
        self._app = app
        self._token = token
        self._hosts = frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers: dict[bytes, bytes] = dict(scope["headers"])
        denial = judge(scope["path"], headers, self._token, self._hosts)
        length = headers.get(b"content-length", b"0")
        bytes_max = BODY_BYTES_MAX_OF.get(scope["path"], BODY_BYTES_MAX)
        if denial is None and (not length.isdigit() or int(length) > bytes_max):
            denial = Denial(413, f"the body is larger than {bytes_max >> 20} MiB", "split the document")
        if denial is not None:
            await _discard(receive)
            fields = {"connection": "close"} | ({"www-authenticate": "Bearer"} if denial.status == 401 else {})
            response = JSONResponse(error_body(denial.message, denial.remedy), denial.status, fields)
            await response(scope, receive, send)
            return
        await self._app(scope, _bounded(receive, bytes_max), send)


def _bounded(receive: Receive, bytes_max: int) -> Receive:
    seen = 0

    async def bounded() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > bytes_max:
            await _discard(receive)
            raise HTTPException(413, f"the body is larger than {bytes_max >> 20} MiB", {"connection": "close"})
        return message

    return bounded


async def _discard(receive: Receive) -> None:
    """Reads what is left of a body. A connection closed under a client that still sends is reset, and the answer with
    it; somebody who sends without end loses it all the same."""
    seen = 0
    while seen <= DISCARD_BYTES_MAX:
        message = await receive()
        seen += len(message.get("body", b""))
        if not message.get("more_body"):
            return
