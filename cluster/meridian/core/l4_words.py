"""What an operator may say of TCP and UDP that pass through: who takes the connections of a listener."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from meridian.core.words import Name, Seconds, Word

_SERVER_NAME = re.compile(r"(\*\.)?([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")


def checked_server_name(text: str) -> str:
    """A host name in lower case, perhaps with `*.` before it. Raises ValueError."""
    if not _SERVER_NAME.fullmatch(text) or len(text) > 253:
        raise ValueError(f"{text!r} is no host name in lower case, such as mail.example.com or *.example.com")
    return text


class L4Route(Word):
    """Connections of a listener with protocol `tcp` or `udp` go to an upstream as they are: nothing is read of them
    but, where `server_names` asks for it, the name that a TLS client wants to reach."""

    name: Name
    listener: Name
    server_names: tuple[Annotated[str, AfterValidator(checked_server_name)], ...] = Field(
        default=(),
        max_length=1000,
        description="of TLS clients (SNI), which is passed through encrypted; `*.` stands for one or more labels. "
        "Without them the route takes what no other takes",
    )
    upstream: Name
    proxy_protocol: Literal["v1", "v2"] | None = Field(
        default=None,
        description="tell the endpoint who the client is, by the PROXY protocol, before all else; TCP only",
    )
    idle_timeout_seconds: Seconds = Field(
        default=600.0, description="without a byte in either direction; a UDP client is forgotten after it"
    )
