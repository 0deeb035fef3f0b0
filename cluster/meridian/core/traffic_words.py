"""What an operator may say of a route's traffic: what is changed in it, how it is split, copied and disturbed."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from meridian.core.patterns import compile_pattern
from meridian.core.templates import checked_template
from meridian.core.words import FIELD_NAME, Name, Regex, Word

EDITS_MAX = 32  # fields of one kind of edit; a head has 100 at most

FRAMING = frozenset({
    "host", "connection", "content-length", "expect", "keep-alive", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade",
})  # fmt: skip
"""Fields that make the message; whoever changes one lets a request be read as two (RFC 9112 section 11.2)."""
OWN = frozenset({
    "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "x-request-id", "traceparent",
    "via", "forwarded", "x-consumer", "x-real-ip",
})  # fmt: skip
"""Fields of a request that an upstream believes because only the gateway says them (gateway/forwarding)."""

Text = Annotated[str, Field(max_length=2048), AfterValidator(checked_template)]
Percent = Annotated[float, Field(ge=0, le=100)]
_Field = Annotated[str, Field(pattern=FIELD_NAME, max_length=256)]


class Edits(Word):
    """Header fields that are changed: first some are removed, then set (in place of any such), then added."""

    remove: tuple[_Field, ...] = Field(default=(), max_length=EDITS_MAX)
    set: dict[_Field, Text] = Field(default={}, max_length=EDITS_MAX, description="may hold variables: ${client}")
    add: dict[_Field, Text] = Field(default={}, max_length=EDITS_MAX, description="beside those of the same name")

    @model_validator(mode="after")
    def _may(self) -> "Edits":
        for name in (*self.remove, *self.set, *self.add):
            if name.lower() in FRAMING:
                hint = "say rewrite: {host: ...}" if name.lower() == "host" else "it follows from the message itself"
                raise ValueError(f"{name} is not a route's to change: {hint}")
        return self


class RequestEdits(Edits):
    """Header fields of the request on its way to the upstream."""

    @model_validator(mode="after")
    def _not_ours(self) -> "RequestEdits":
        for name in (*self.remove, *self.set, *self.add):
            if name.lower() in OWN:
                raise ValueError(
                    f"{name} is said by the gateway alone, so that upstreams can believe it; use another name"
                )
        return self


class Rewrite(Word):
    """What the upstream gets instead of the path and host that the client asked for. The query goes on as it came."""

    path: Annotated[Text, Field(pattern=r"^[/$][^?#]*$")] | None = Field(
        default=None, description="instead of the whole path"
    )
    path_prefix: Annotated[str, Field(pattern=r"^/[!-\"$->@-~]*$", max_length=2048)] | None = Field(
        default=None, description="instead of the match's path_prefix"
    )
    pattern: Regex | None = Field(default=None, description="RE2, for the whole path; one that does not match stays")
    replace: Annotated[str, Field(pattern=r"^/[!-\"$->@-~]*$", max_length=2048)] | None = Field(
        default=None, description=r"with \1 for what the first group of pattern matched"
    )
    host: Text | None = Field(default=None, description="host of the request, and its port if it is not the usual one")

    @model_validator(mode="after")
    def _fits(self) -> "Rewrite":
        if (self.pattern is None) != (self.replace is None):
            raise ValueError("pattern and replace belong together: give both")
        if [self.path, self.path_prefix, self.pattern].count(None) < 2:
            raise ValueError("path, path_prefix and pattern exclude each other: keep one")
        if [self.path, self.path_prefix, self.pattern, self.host].count(None) == 4:
            raise ValueError("rewrites nothing: give path, path_prefix, pattern and replace, or host")
        if self.pattern is not None and self.replace is not None:
            groups = compile_pattern(self.pattern).groups
            if (wrong := beyond(self.replace, groups)) is not None:
                raise ValueError(f"{wrong} names a group that pattern has not: it has {groups}")
        return self


def beyond(replace: str, groups: int) -> str | None:
    r"""The first reference in a replacement (`\1`) to a group that is not there, or a stray backslash."""
    at = replace.find("\\")
    while at != -1:
        digit = replace[at + 1 : at + 2]
        if not digit.isdigit() or int(digit) > groups:
            return replace[at : at + 2]
        at = replace.find("\\", at + 2)
    return None


class Mirror(Word):
    """A copy of requests, once they are answered, to another upstream, whose answers are dropped. Only of requests
    whose body is at most 64 KiB; it never slows or fails the request itself."""

    upstream: Name
    percent: Percent = Field(default=100.0, description="of the requests")


class Delay(Word):
    """Requests wait before they go on."""

    seconds: float = Field(gt=0, le=300)
    percent: Percent = 100.0


class Abort(Word):
    """Requests are answered without the upstream."""

    status: int | None = Field(default=None, ge=400, le=599)
    reset: bool = Field(default=False, description="instead of an answer the stream or connection is reset")
    percent: Percent = 100.0

    @model_validator(mode="after")
    def _one(self) -> "Abort":
        if (self.status is None) is not self.reset:
            raise ValueError("give a status, or reset: true")
        return self


class Fault(Word):
    """Faults on purpose, to see how clients bear them."""

    delay: Delay | None = None
    abort: Abort | None = None

    @model_validator(mode="after")
    def _some(self) -> "Fault":
        if self.delay is None and self.abort is None:
            raise ValueError("gives no fault: add delay, abort, or both")
        return self


class Part(Word):
    """One upstream among those that share a route's requests."""

    upstream: Name
    weight: int = Field(ge=0, le=1_000_000, description="its share; of all parts together")


class Canary(Word):
    """A version that some requests try: those that say so, and a share of the others."""

    upstream: Name
    percent: Percent = Field(default=0.0, description="of the requests that say neither always nor never")
    header: _Field | None = Field(default=None, description="says always or never")
    cookie: Annotated[str, Field(pattern=FIELD_NAME, max_length=64)] | None = Field(
        default=None, description="says always or never; the header comes first"
    )


SplitOn = Annotated[str, Field(pattern=f"^(client_ip|(header|cookie):{FIELD_NAME[1:-1]})$")]
RedirectStatus = Literal[301, 302, 303, 307, 308]
