"""Objects in a store that speaks S3's protocol, by their addresses: https://HOST/BUCKET/KEY or https://BUCKET.HOST/KEY,
of AWS, of other clouds, of MinIO. One PUT, one GET, signed by Signature Version 4 ("Authenticating Requests: Using the
Authorization Header" of S3's API reference).
"""

import hashlib
import hmac
import http.client
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import quote, unquote, urlsplit

from meridian.cli.errors import Failed, Mistake

TIMEOUT_SECONDS = 60.0  # without a byte
OBJECT_BYTES_MAX = 256 * 1024 * 1024  # as the largest backup
LOOPBACK = ("127.0.0.1", "localhost")


@dataclass(frozen=True, slots=True)
class Keys:
    """Who asks, and in which region."""

    access: str
    secret: str = field(repr=False)
    region: str
    session: str = field(default="", repr=False)


def is_address(text: str) -> bool:
    """Whether this is the address of an object, and no file's name."""
    return text.startswith(("https://", "http://"))


def put(url: str, raw: bytes) -> None:
    """Stores an object. Raises Mistake and Failed."""
    _ask("PUT", url, raw)


def get(url: str) -> bytes:
    """Fetches an object. Raises Mistake and Failed."""
    return _ask("GET", url, b"")


def keys_of(environment: Mapping[str, str]) -> Keys:
    """The keys that AWS_ACCESS_KEY_ID and the other usual variables say. Raises Mistake."""
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION")
    if missing := [name for name in names if not environment.get(name)]:
        raise Mistake(f"{missing[0]} is not set", f"an object store wants {', '.join(names)} in the environment")
    access, secret, region = (environment[name] for name in names)
    return Keys(access, secret, region, environment.get("AWS_SESSION_TOKEN", ""))


def signed(
    method: str, url: str, raw: bytes, keys: Keys, at: datetime, more: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The header fields of a request (`more` and those of the signature) at a time in UTC."""
    parts = urlsplit(url)
    time, day = at.strftime("%Y%m%dT%H%M%SZ"), at.strftime("%Y%m%d")
    fields = {"host": parts.netloc, "x-amz-content-sha256": hashlib.sha256(raw).hexdigest(), "x-amz-date": time}
    fields |= {"x-amz-security-token": keys.session} if keys.session else {}
    fields |= {name.lower(): value for name, value in (more or {}).items()}
    names = ";".join(sorted(fields))
    lines = [method, path_of(url), "", *(f"{name}:{fields[name]}" for name in sorted(fields)), "", names]
    lines.append(fields["x-amz-content-sha256"])
    scope = f"{day}/{keys.region}/s3/aws4_request"
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    key = f"AWS4{keys.secret}".encode()
    for word in scope.split("/"):
        key = hmac.digest(key, word.encode(), "sha256")
    signature = hmac.digest(key, f"AWS4-HMAC-SHA256\n{time}\n{scope}\n{digest}".encode(), "sha256").hex()
    who = f"Credential={keys.access}/{scope},SignedHeaders={names},Signature={signature}"
    return fields | {"authorization": f"AWS4-HMAC-SHA256 {who}"}


def path_of(url: str) -> str:
    """The path as it is signed and sent: everything but letters, digits and -._~/ in percents."""
    return quote(unquote(urlsplit(url).path)) or "/"


def _ask(method: str, url: str, raw: bytes) -> bytes:
    parts = urlsplit(url)
    if parts.query or parts.fragment or not parts.hostname or path_of(url) == "/":
        raise Mistake(f"{url} is not the address of an object", "write https://HOST/KEY, without a query")
    if parts.scheme != "https" and parts.hostname not in LOOPBACK:
        raise Mistake(f"{url}: a backup holds documents in the clear", "name an address with https://")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    fields = signed(method, url, raw, keys_of(os.environ), datetime.now(UTC))
    connection = kind(parts.netloc, timeout=TIMEOUT_SECONDS)
    try:
        connection.request(method, path_of(url), raw if method == "PUT" else None, fields)
        answer = connection.getresponse()
        said = answer.read(OBJECT_BYTES_MAX)
    except (OSError, http.client.HTTPException) as error:
        raise Failed(
            f"{parts.hostname} does not answer: {error}", "see whether the object store is reachable"
        ) from None
    finally:
        connection.close()
    if answer.status not in (200, 201, 204):
        # The answer's text is left out: stores repeat there what was asked, signature and all.
        raise Failed(f"{parts.hostname} answers {answer.status} to {method} {path_of(url)}",
                     "403: the keys, their rights or this machine's clock; 404: the bucket or the key")  # fmt: skip
    return said
