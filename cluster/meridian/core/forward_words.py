"""What an operator may say of a forward proxy: a listener whose clients ask for other people's services."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from meridian.core.addresses import checked_network
from meridian.core.route_words import Cache
from meridian.core.words import Name, Seconds, Word

_HOST = re.compile(r"(\*\.)?[a-z0-9_]([a-z0-9_.-]{0,250}[a-z0-9_])?|\[?[0-9a-f:.]+\]?")

Network = Annotated[str, AfterValidator(checked_network)]


def _checked_host(text: str) -> str:
    if not _HOST.fullmatch(text):
        raise ValueError(
            f"{text[:64]!r} is no host in lower case, such as example.com or *.example.com, without a port"
        )
    return text


class Destination(Word):
    """Where clients may go: all that is said must hold."""

    hosts: tuple[Annotated[str, AfterValidator(_checked_host)], ...] = Field(
        default=(), max_length=10_000, description="example.com, *.example.com (any depth) or addresses; all if none"
    )
    ports: tuple[Annotated[int, Field(ge=1, le=65535)], ...] = Field(default=(80, 443), min_length=1, max_length=100)
    networks: tuple[Network, ...] = Field(
        default=(),
        max_length=1000,
        description="that the address must be in, once the name is resolved; without them only public ones are "
        "reached, never loopback, private or link-local ones",
    )


class ForwardProxy(Word):
    """The listener takes CONNECT and `GET http://host/path` and reaches others for its clients; routes are not asked
    (docs/forward-proxy.md). A proxy that is open to everybody is refused."""

    allow: tuple[Destination, ...] = Field(min_length=1, max_length=1000, description="the first that fits is enough")
    clients: tuple[Network, ...] = Field(default=(), max_length=1000, description="networks that may use it")
    authenticate: Name | None = Field(
        default=None, description="an authenticator with basic: true, asked for by 407 and Proxy-Authorization"
    )
    limits: tuple[Name, ...] = Field(default=(), max_length=32)
    cache: Cache | None = Field(default=None, description="of answers that came by plain http; CONNECT is not read")
    connect_timeout_seconds: Seconds = Field(default=5.0, description="to resolve the name, and to connect")
    response_timeout_seconds: Seconds = Field(default=60.0, description="until an answer by plain http begins")
    tunnel_idle_timeout_seconds: Seconds = Field(default=300.0, description="of CONNECT, without a byte either way")

    @model_validator(mode="after")
    def _is_not_open(self) -> "ForwardProxy":
        if not self.clients and self.authenticate is None:
            raise ValueError("anybody could use it: say clients (networks), authenticate, or both")
        return self
