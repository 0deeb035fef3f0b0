"""A machine's side: it joins with a token, and renews its certificate while that is valid.

The private key is made on the machine and never leaves it. It is kept when the certificate is renewed, so that one file
changes, at once, and nobody ever reads a certificate beside another one's key.
"""

import datetime
import http.client
import json
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from meridian.pki import tokens
from meridian.pki.authority import (
    LIFETIME,
    Authority,
    Identity,
    PkiError,
    due,
    identity_of,
    key_pem,
    new_key,
    read,
    request,
    write_private,
)

TIMEOUT_SECONDS = 10.0
ANSWER_BYTES_MAX = 64 * 1024


class Unanswered(PkiError):
    """The authority could not be reached: worth another try."""


def keep(
    folder: Path, authority: Authority, identity: Identity, cluster_key: bytes, now: datetime.datetime,
    lifetime: datetime.timedelta = LIFETIME,
) -> None:  # fmt: skip
    """Issues from an authority at hand and writes a machine's folder; an empty cluster key is none. Raises PkiError."""
    key = new_key()
    certificate = authority.issue(identity, key.public_key(), now, lifetime)
    _write(folder, authority.pem, certificate, key_pem(key), cluster_key)


def join(url: str, token: str, identity: Identity, folder: Path) -> None:
    """Gets a first certificate and the cluster's key for a token. Raises PkiError; Unanswered: ask later."""
    secret_of_machine = new_key()
    _, wanted = tokens.split(token)
    authority = _introduced(url, wanted)
    answer = _ask(url, "/v1/join", {"token": token.strip(), "request": request(identity, secret_of_machine).decode()},
                  _context(authority))  # fmt: skip
    try:
        certificate, cluster_key = answer["certificate"].encode(), bytes.fromhex(answer.get("cluster_key", ""))
    except (KeyError, AttributeError, ValueError):
        raise PkiError(f"{url} answered something else than a certificate") from None
    _write(folder, authority, certificate, key_pem(secret_of_machine), cluster_key)


def renew(url: str, folder: Path, now: datetime.datetime, *, force: bool = False) -> bool:
    """Renews the certificate of this folder if a third of its time is over. Whether it did. Raises PkiError."""
    chain = read(folder / "certificate.pem")
    present = x509.load_pem_x509_certificate(chain)
    if not force and not due(present, now):
        return False
    if now >= present.not_valid_after_utc:
        raise PkiError(f"{folder}/certificate.pem is over since {present.not_valid_after_utc:%Y-%m-%d %H:%M} UTC",
                       "join anew, with a token: meridian pki join")  # fmt: skip
    key = serialization.load_pem_private_key(read(folder / "private.key"), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    context = _context(read(folder / "ca.pem"))
    context.load_cert_chain(folder / "certificate.pem", folder / "private.key")
    answer = _ask(url, "/v1/renew", {"request": request(identity_of(present), key).decode()}, context)
    write_private(folder / "certificate.pem", str(answer["certificate"]).encode())
    return True


def _write(folder: Path, authority: bytes, certificate: bytes, key: bytes, cluster_key: bytes) -> None:
    write_private(folder / "ca.pem", authority)
    if cluster_key:  # machines of etcd get none
        write_private(folder / "cluster.key", cluster_key)
    write_private(folder / "private.key", key)
    write_private(folder / "certificate.pem", certificate)  # last: where it is, the rest is


def _introduced(url: str, wanted: str) -> bytes:
    """The authority's certificate, asked from a stranger and believed for its fingerprint alone. Raises PkiError.

    The secret of the token is told only after that, over a connection that this certificate vouches for.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    pem = str(_ask(url, "/v1/authority", None, context).get("authority")).encode()
    try:
        shown = tokens.fingerprint(x509.load_pem_x509_certificate(pem))
    except ValueError:
        shown = ""
    if shown != wanted:
        raise PkiError(f"{url} is not the authority that made this token", "check the address, or make a new token")
    return pem


def _context(authority: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=authority.decode())
    return context


def _connection(url: str, context: ssl.SSLContext) -> http.client.HTTPSConnection:
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname or not parts.port:
        raise PkiError(f"{url!r} is not the address of an authority", "write https://HOST:PORT")
    return http.client.HTTPSConnection(parts.hostname, parts.port, timeout=TIMEOUT_SECONDS, context=context)


def _ask(url: str, path: str, content: dict[str, str] | None, context: ssl.SSLContext) -> dict[str, Any]:
    """POSTs the content, or GETs without one."""
    connection = _connection(url, context)
    try:
        if content is None:
            connection.request("GET", path)
        else:
            connection.request("POST", path, json.dumps(content), {"Content-Type": "application/json"})
        with connection.getresponse() as response:
            answer = json.loads(response.read(ANSWER_BYTES_MAX))
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Unanswered(f"{url} does not answer: {error}", "see that meridian pki serve runs there") from None
    finally:
        connection.close()
    if response.status != 200 or not isinstance(answer, dict):
        message = answer.get("message", "") if isinstance(answer, dict) else ""
        remedy = answer.get("remedy", "") if isinstance(answer, dict) else ""
        raise PkiError(f"{url} refuses: {message or response.status}", remedy)
    return answer
