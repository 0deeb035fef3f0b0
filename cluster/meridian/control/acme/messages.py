"""What authorities answer (RFC 8555 section 7.1, RFC 9773 section 4.2), as far as it matters here. What is of another
shape is refused when it is read, so that no later step has to doubt it."""

import datetime

import msgspec

KINDS = "urn:ietf:params:acme:error:"


class Problem(msgspec.Struct, frozen=True):
    """What is wrong (RFC 9457; RFC 8555 section 6.7)."""

    type: str = ""
    detail: str = ""
    subproblems: tuple["Problem", ...] = ()

    @property
    def kind(self) -> str:
        """The authority's word for it, such as `rateLimited`."""
        return self.type.removeprefix(KINDS)

    def __str__(self) -> str:
        """In one line, for an operator."""
        parts = [self.detail, *map(str, self.subproblems)]
        return f"{'; '.join(part for part in parts if part)} ({self.kind})"[:500]


class Directory(msgspec.Struct, frozen=True, rename="camel"):
    """Where an authority takes what. One without `renewal_info` suggests no time of renewal."""

    new_nonce: str
    new_account: str
    new_order: str
    renewal_info: str = ""


class Order(msgspec.Struct, frozen=True):
    """An order: pending, ready, processing, valid or invalid."""

    status: str
    authorizations: tuple[str, ...]
    finalize: str
    certificate: str = ""
    error: Problem | None = None


class Identifier(msgspec.Struct, frozen=True):
    """A host; of a wildcard the name that it is of."""

    value: str


class Challenge(msgspec.Struct, frozen=True):
    """A way to prove a host. Those of unknown types may have no token."""

    type: str
    url: str
    token: str = ""
    error: Problem | None = None


class Authorization(msgspec.Struct, frozen=True):
    """What is known of one host: pending until it is valid or invalid."""

    status: str
    identifier: Identifier
    challenges: tuple[Challenge, ...]


class SuggestedWindow(msgspec.Struct, frozen=True):
    """When to renew."""

    start: datetime.datetime
    end: datetime.datetime


class RenewalInfo(msgspec.Struct, frozen=True, rename="camel"):
    """Of one certificate."""

    suggested_window: SuggestedWindow
