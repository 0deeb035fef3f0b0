"""Who asks: consumers that show a secret, as an API key in a field of their own or by HTTP Basic (RFC 7617).

A secret is made by a machine (`meridian secret`), never by a person: it has 256 bits, so that one SHA-256 of it may
stand in the document, in its history and in every diff, and is checked in a microsecond on a worker's loop. A hash made
for passwords (scrypt, argon2) would hold the loop for as long as it is hard to break.
"""

import binascii
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from meridian.core.words import Name, Word

SECRET_BYTES_MAX = 512
"""Of what a request shows; the longest that could be a secret of anyone's making."""

_HASH = re.compile(r"sha256:[0-9a-f]{64}")
_FIELD_NAME = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,64}")
_FORBIDDEN_FIELDS = frozenset((
    "authorization", "connection", "content-length", "cookie", "host", "te", "trailer", "transfer-encoding", "upgrade",
))  # fmt: skip

Headers = list[tuple[bytes, bytes]]


def hash_of(secret: bytes) -> str:
    """What stands in the document for a secret."""
    return f"sha256:{hashlib.sha256(secret).hexdigest()}"


def _checked_hash(text: str) -> str:
    if not _HASH.fullmatch(text):  # never repeated: it may be the secret itself
        raise ValueError("this is no hash of a secret: `meridian secret` makes a secret and prints sha256:... for here")
    return text


def _checked_header(text: str) -> str:
    name = text.lower()
    if not _FIELD_NAME.fullmatch(name):
        raise ValueError(f"{text[:64]!r} is not the name of a field; write for example x-api-key")
    if name in _FORBIDDEN_FIELDS:
        raise ValueError(f"{name!r} has a meaning of its own; use a field such as x-api-key, or basic: true")
    return name


class Consumer(Word):
    """Somebody who is told apart from others: by limits, in logs, and to the upstream."""

    name: Name
    secrets: tuple[Annotated[str, AfterValidator(_checked_hash)], ...] = Field(
        min_length=1, max_length=16, description="sha256:..., as `meridian secret` prints it; several while one changes"
    )


class Authenticator(Word):
    """How consumers show who they are. Without the right secret a request is answered 401."""

    name: Name
    header: Annotated[str, AfterValidator(_checked_header)] | None = Field(
        default=None, description="the field that carries a secret, for example x-api-key"
    )
    basic: bool = Field(default=False, description="HTTP Basic too: the user is the consumer, the password its secret")
    optional: bool = Field(default=False, description="a request that shows nothing goes on without a consumer")
    consumers: tuple[Consumer, ...] = Field(min_length=1, max_length=10_000)

    @model_validator(mode="after")
    def _fits(self) -> "Authenticator":
        if self.header is None and not self.basic:
            raise ValueError("says not where the secret stands: give header (such as x-api-key), basic: true, or both")
        names: set[str] = set()
        for consumer in self.consumers:
            if consumer.name in names:
                raise ValueError(f"consumer {consumer.name!r} is there twice; names are unique")
            names.add(consumer.name)
        hashes = [secret for consumer in self.consumers for secret in consumer.secrets]
        if len(set(hashes)) != len(hashes):
            raise ValueError("two consumers share a secret: nobody could tell them apart; give each its own")
        return self


@dataclass(frozen=True, slots=True)
class Identified:
    """A request's consumer ("": none was shown, and none is needed), and the field that the upstream must not see."""

    consumer: str
    spent_field: bytes = b""


@dataclass(frozen=True, slots=True)
class Gate:
    """An authenticator as workers need it. Secrets are found by their digest, so that looking one up tells nothing by
    its time: whoever asks cannot choose the digest."""

    header: bytes | None
    basic: bool
    optional: bool
    consumers: Mapping[bytes, str]  # by the digest of a secret
    challenge: bytes  # WWW-Authenticate, RFC 9110 section 11.6.1

    @classmethod
    def of(cls, authenticator: Authenticator) -> "Gate":
        """From the document's."""
        consumers = {
            bytes.fromhex(secret.removeprefix("sha256:")): consumer.name
            for consumer in authenticator.consumers
            for secret in consumer.secrets
        }
        schemes = [f'Basic realm="{authenticator.name}", charset="UTF-8"'] if authenticator.basic else []
        if authenticator.header is not None:
            schemes.append(f'ApiKey realm="{authenticator.name}", header="{authenticator.header}"')
        header = authenticator.header.encode() if authenticator.header is not None else None
        return cls(header, authenticator.basic, authenticator.optional, consumers, ", ".join(schemes).encode())

    def identify(self, headers: Headers) -> Identified | None:
        """Who asks; None: nobody that may. What is shown must be right, also where nothing needs to be shown."""
        shown = [(name, value) for name, value in headers if name == self.header]
        if not shown and self.basic:
            shown = [(name, value) for name, value in headers if name == b"authorization" and _is_basic(value)]
        if not shown:
            return Identified("") if self.optional else None
        if len(shown) > 1:  # which of them would count is not for us to guess
            return None
        name, value = shown[0]
        user, secret = ("", value) if name == self.header else _basic(value)
        if not 0 < len(secret) <= SECRET_BYTES_MAX:
            return None
        consumer = self.consumers.get(hashlib.sha256(secret).digest())
        if consumer is None or (name != self.header and user != consumer):
            return None
        return Identified(consumer, name)


def _is_basic(value: bytes) -> bool:
    return value[:6].lower() == b"basic "


def _basic(value: bytes) -> tuple[str, bytes]:
    """User and password of Basic credentials (RFC 7617 section 2); empty ones if they are malformed."""
    encoded = value[6:].strip(b" ")
    if len(encoded) > 2 * SECRET_BYTES_MAX:
        return "", b""
    try:
        user, colon, secret = binascii.a2b_base64(encoded, strict_mode=True).partition(b":")
        return (user.decode(), secret) if colon else ("", b"")
    except (binascii.Error, UnicodeDecodeError):
        return "", b""
