"""What an operator may say of authorities that give certificates by themselves (ACME, RFC 8555)."""

import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

from pydantic import Field

from meridian.core.words import Name, Word

_HOST = re.compile(r"(\*\.)?([a-z0-9_]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]", re.IGNORECASE)
HOSTS_MAX = 100  # of one certificate: what the largest public authority takes


class ExternalAccount(Word):
    """An account that the authority's operator knows already, to bind ours to (RFC 8555 section 7.3.4)."""

    key_id: str = Field(min_length=1, max_length=255)
    key_file: str = Field(description="the key, in base64url as the authority gives it")


class Acme(Word):
    """An authority that `certificates` are obtained from by ACME (RFC 8555). Who names one agrees to its terms."""

    name: Name
    directory: Annotated[str, Field(pattern=r"^https://[^\s/?#]+[^\s?#]*$", max_length=500)] = Field(
        description="address of its directory"
    )
    challenge: Literal["http-01", "dns-01"] = Field(
        default="http-01",
        description="how hosts are proven: over HTTP on port 80, or (wildcards too) in `zones` of this document",
    )
    email: str | None = Field(default=None, max_length=255, description="whom the authority may warn")
    ca_file: str | None = Field(default=None, description="PEM that it is trusted by; without it the system's")
    external_account: ExternalAccount | None = None
    orders_per_hour: int = Field(default=20, ge=1, le=1000, description="of the whole cluster; more wait")


def host_problems(acme: Acme, hosts: Sequence[str]) -> Iterator[str]:
    """Yields what keeps hosts from being proven to this authority, but for zones (see `is_in_zone`)."""
    if len(hosts) > HOSTS_MAX:
        yield f"an authority puts at most {HOSTS_MAX} hosts into a certificate, not {len(hosts)}; make several"
    for host in hosts:
        if not _HOST.fullmatch(host):
            yield f"{host!r} is no host that ACME can prove; write a full DNS name, such as shop.example.com"
        elif acme.challenge == "http-01" and host.startswith("*."):
            yield f"{host!r} cannot be proven over HTTP; use an authority with challenge: dns-01"


def is_in_zone(host: str, zone: str) -> bool:
    """Whether a host (or wildcard) is at or below a zone's name."""
    name, origin = _plain(host.removeprefix("*.")), _plain(zone)
    return name == origin or name.endswith("." + origin)


def _plain(name: str) -> str:
    return name.lower().rstrip(".")
