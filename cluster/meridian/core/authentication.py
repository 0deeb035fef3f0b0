"""Who asks: consumers that show a secret, as an API key in a field of their own or by HTTP Basic (RFC 7617), or that
are known by the certificate which their connection has shown.

A secret is made by a machine (`meridian secret`), never by a person: it has 256 bits, so that one SHA-256 of it may
stand in the document, in its history and in every diff, and is checked in a microsecond on a worker's loop. A hash made
for passwords (scrypt, argon2) would hold the loop for as long as it is hard to break.
"""

import binascii
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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

_CERTIFICATE_NAME = re.compile(
    r"\*|sha256:[0-9a-f]{64}|dns:(\*\.)?[a-z0-9_.-]+|(ip|email|cn|subject):.+|uri:[^*]+(/\*)?", re.DOTALL
)

Headers = list[tuple[bytes, bytes]]
Names = Sequence[str]
"""Of a certificate, the most exact first: sha256:, then those of its subjectAltName, cn: and subject:."""


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


def _checked_certificate(text: str) -> str:
    kind, colon, name = text.partition(":")
    if kind == "sha256":
        name = name.replace(":", "")  # as openssl x509 -fingerprint writes it
    if kind in ("dns", "sha256"):
        name = name.lower().rstrip(".")
    text = f"{kind}{colon}{name}"
    if not _CERTIFICATE_NAME.fullmatch(text):
        raise ValueError(
            f"{text[:64]!r} names no certificate; write dns:NAME (or dns:*.example.com), uri:spiffe://... (or .../*),"
            " ip:, email:, cn:, subject:, sha256: and its fingerprint, or * for any that the listener takes"
        )
    return text


class Consumer(Word):
    """Somebody who is told apart from others: by limits, in logs, and to the upstream."""

    name: Name
    secrets: tuple[Annotated[str, AfterValidator(_checked_hash)], ...] = Field(
        default=(), max_length=16, description="sha256:..., as `meridian secret` prints it; several while one changes"
    )
    certificates: tuple[Annotated[str, AfterValidator(_checked_certificate)], ...] = Field(
        default=(),
        max_length=100,
        description="by a name in it: dns:, uri:, ip:, email:, cn:, subject:, by its fingerprint sha256:, or any by *",
    )

    @model_validator(mode="after")
    def _can_be_known(self) -> "Consumer":
        if not self.secrets and not self.certificates:
            raise ValueError("says not how it is known: give secrets, certificates, or both")
        return self


class Authenticator(Word):
    """How consumers show who they are. A request that shows no right secret is answered 401; 403 where only
    certificates count."""

    name: Name
    header: Annotated[str, AfterValidator(_checked_header)] | None = Field(
        default=None, description="the field that carries a secret, for example x-api-key"
    )
    basic: bool = Field(default=False, description="HTTP Basic too: the user is the consumer, the password its secret")
    optional: bool = Field(default=False, description="a request that shows nothing goes on without a consumer")
    consumers: tuple[Consumer, ...] = Field(min_length=1, max_length=10_000)

    @property
    def uses_certificates(self) -> bool:
        """Whether a consumer is known by one."""
        return any(consumer.certificates for consumer in self.consumers)

    @model_validator(mode="after")
    def _fits(self) -> "Authenticator":
        if self.header is None and not self.basic and any(consumer.secrets for consumer in self.consumers):
            raise ValueError("says not where the secret stands: give header (such as x-api-key), basic: true, or both")
        names: set[str] = set()
        for consumer in self.consumers:
            if consumer.name in names:
                raise ValueError(f"consumer {consumer.name!r} is there twice; names are unique")
            names.add(consumer.name)
        hashes = [secret for consumer in self.consumers for secret in consumer.secrets]
        if len(set(hashes)) != len(hashes):
            raise ValueError("two consumers share a secret: nobody could tell them apart; give each its own")
        known_by = [name for consumer in self.consumers for name in consumer.certificates]
        if len(set(known_by)) != len(known_by):
            raise ValueError("two consumers are known by the same name of a certificate; give each its own")
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
    challenge: bytes  # WWW-Authenticate, RFC 9110 section 11.6.1; empty where nothing but a certificate helps
    by_certificate: Mapping[str, str]  # consumers, by a name that must be in it
    credentials: bytes = b"authorization"  # the field of Basic

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
        known_by = {name: consumer.name for consumer in authenticator.consumers for name in consumer.certificates}
        challenge = ", ".join(schemes).encode()
        return cls(header, authenticator.basic, authenticator.optional, consumers, challenge, known_by)

    def for_proxy(self) -> "Gate":
        """As a forward proxy asks (RFC 9110 section 11.7): by Basic alone, in fields that are not for those beyond."""
        basic = self.challenge.partition(b", ApiKey ")[0] if self.basic else b""
        return replace(self, header=None, credentials=b"proxy-authorization", challenge=basic)

    def identify(self, headers: Headers, names: Names = ()) -> Identified | None:
        """Who asks; None: nobody that may. A secret that is shown must be right, also where nothing needs to be shown.
        `names` are those of the certificate of the connection: a secret says more of this request than that does."""
        shown = [(name, value) for name, value in headers if name == self.header]
        if not shown and self.basic:
            shown = [(name, value) for name, value in headers if name == self.credentials and _is_basic(value)]
        if not shown:
            known = self._known_by(names)
            return Identified(known) if known or self.optional else None
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

    def _known_by(self, names: Names) -> str:
        """The consumer that a certificate with these names is known as, by the most exact of them; "" if by none."""
        if not names or not self.by_certificate:
            return ""
        for wider in (_same, _any_label, _any_path):
            for name in names:
                for candidate in wider(name):
                    if (found := self.by_certificate.get(candidate)) is not None:
                        return found
        return self.by_certificate.get("*", "")


def _same(name: str) -> tuple[str, ...]:
    return (name,)


def _any_label(name: str) -> tuple[str, ...]:
    """A wildcard stands for one label."""
    return (f"dns:*.{name.partition('.')[2]}",) if name.startswith("dns:") else ()


def _any_path(name: str) -> Iterator[str]:
    """The longest path first."""
    while name.startswith("uri:") and "/" in name:
        name = name.rpartition("/")[0]
        yield f"{name}/*"


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
