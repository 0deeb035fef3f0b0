"""What an operator may say of DNS: zones, their records, steering, secondaries, signing, limits of answers."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from meridian.core.addresses import checked_network, split_dns_address
from meridian.core.limit_words import checked_rate
from meridian.core.words import Name, Word

GROUP_DEPTH_MAX = 3  # of groups in groups: a planet, its continents, their countries
STEERED_REGIONS_MAX = 64  # of one record


class Group(Word):
    """Regions that are steered over as if they were one: it serves while one of them does, and lies where any of them
    lies. Its own policy says which of them answer.
    """

    policy: Literal["geo", "latency", "failover", "weighted", "multivalue", "sticky"] = "geo"
    regions: tuple[Name, ...] = Field(min_length=1, description="names of regions, or of `groups`")
    groups: dict[Name, "Group"] = Field(default={}, description="names among `regions` that stand for several regions")
    spread: int = Field(
        default=1,
        ge=1,
        le=8,
        description="addresses of so many regions (or groups), if so many serve: who tries a "
        "second address then reaches another region",
    )
    weights: dict[Name, Annotated[int, Field(ge=0, le=1000)]] = Field(
        default={}, description="for weighted: 1 if absent; 0: never, unless no region with a weight serves"
    )
    latency_milliseconds: dict[Name, dict[Name, Annotated[float, Field(ge=0, le=60_000)]]] = Field(
        default={},
        description="for latency: from the region nearest to the client to each region; what is not given is measured",
    )

    @model_validator(mode="after")
    def _words_fit(self) -> "Group":
        if self.weights and self.policy != "weighted":
            raise ValueError(f"weights mean nothing to policy {self.policy}: use policy weighted")
        if self.latency_milliseconds and self.policy != "latency":
            raise ValueError(f"latency_milliseconds mean nothing to policy {self.policy}: use policy latency")
        named = [("weights", name) for name in self.weights]
        named += [(f"latency_milliseconds.{row}", name) for row, to in self.latency_milliseconds.items() for name in to]
        for word, name in named:
            if name not in self.regions:
                raise ValueError(f"{word}: {name!r} is not among the regions of this steer")
        return self

    @model_validator(mode="after")
    def _groups_fit(self) -> "Group":
        for name in self.groups:
            if name not in self.regions:
                raise ValueError(
                    f"groups: {name!r} is not among the regions of this steer: add it, or remove the group"
                )
        if self.groups and self.policy == "multivalue":
            raise ValueError("policy multivalue answers all regions, so groups mean nothing to it: name their regions")
        if _depth(self) > GROUP_DEPTH_MAX:
            raise ValueError(f"groups stand in groups more than {GROUP_DEPTH_MAX} deep: join some of them")
        leaves = list(self.leaves())
        twice = next((name for name in leaves if leaves.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"region {twice!r} stands in two places of this steer: keep one")
        if len(leaves) > STEERED_REGIONS_MAX:
            raise ValueError(f"more than {STEERED_REGIONS_MAX} regions in one steer")
        return self

    def leaves(self) -> Iterator[str]:
        """The regions that it steers over, those of groups included."""
        for name in self.regions:
            if name in self.groups:
                yield from self.groups[name].leaves()
            else:
                yield name


def _depth(group: Group) -> int:
    return 1 + max(map(_depth, group.groups.values()), default=-1)


class Steer(Group):
    """An answer made from the cluster's verdict: only what serves, and all if nothing does.

    geo: nearest first. latency: quickest first, as given or measured. failover: the first region that serves.
    weighted: one region by draw. multivalue: all, turned by chance. sticky: one region, the same for a client's network
    each time.
    """

    answers_max: int | None = Field(default=None, ge=1, le=32, description="at most so many addresses; all if absent")


RecordType = Literal[
    "A", "AAAA", "ALIAS", "CAA", "CNAME", "DS", "HTTPS", "MX", "NS", "PTR", "SRV", "SVCB", "TLSA", "TXT"
]


class Record(Word):
    """One record set, or a name steered by the verdict."""

    name: str = Field(description="below the zone; @ is the zone itself")
    type: RecordType
    value: str | None = None
    values: tuple[str, ...] = Field(default=(), max_length=1000, description="several records of one name and type")
    steer: Steer | None = None
    alpn: tuple[Annotated[str, Field(min_length=1, max_length=255)], ...] = Field(
        default=(), description="for a steered HTTPS record: protocols, best first, such as [h3, h2]"
    )
    ttl_seconds: int = Field(default=300, ge=0, le=604_800)

    @model_validator(mode="after")
    def _one_source(self) -> "Record":
        if (self.value is not None) + bool(self.values) + (self.steer is not None) != 1:
            raise ValueError("a record has exactly one of: value, steer (or values: several)")
        if self.steer is not None and self.type not in ("A", "AAAA", "HTTPS"):
            raise ValueError("steer answers with addresses: type must be A, AAAA or HTTPS")
        if bool(self.alpn) != (self.steer is not None and self.type == "HTTPS"):
            raise ValueError("alpn belongs to a steered HTTPS record, and to no other")
        return self


class TsigKey(Word):
    """A secret shared with secondaries; they must spell its name and algorithm alike."""

    name: str = Field(description="a domain name, such as meridian-ns2.example.net")
    algorithm: Literal["hmac-sha256", "hmac-sha384", "hmac-sha512"] = "hmac-sha256"
    secret_file: str = Field(description="base64, as openssl rand -base64 32 writes it; read on the side of apply")


class Secondary(Word):
    """Another DNS server that may have the zone by transfer, and is told when it changes.

    It is known by where it asks from, and by its key if it has one. To know it by its key alone, give
    networks: ["0.0.0.0/0", "::/0"].
    """

    address: str | None = Field(
        default=None, description="where it is told of changes, port 53 unless given; without it, it only asks"
    )
    networks: tuple[Annotated[str, AfterValidator(checked_network)], ...] = Field(
        default=(), max_length=64, description="where it asks from; its address alone if absent"
    )
    tsig_key: str | None = Field(default=None, description="the name of the key that must sign its requests")

    @model_validator(mode="after")
    def _is_somewhere(self) -> "Secondary":
        if self.address is None and not self.networks:
            raise ValueError("a secondary needs an address, networks, or both")
        if self.address is not None:
            split_dns_address(self.address)
        return self


class Dnssec(Word):
    """A zone is signed. Keys are made once and kept; to be unsigned again the parent lets go first."""

    algorithm: Literal[13, 15] = Field(default=13, description="13: ECDSA P-256, 15: Ed25519; fixed once keys exist")
    denial: Literal["compact", "white_lies"] = Field(
        default="compact", description="how what is missing is proved: RFC 9824, or RFC 4470"
    )
    split_keys: bool = Field(default=False, description="a KSK and a ZSK in place of one key; fixed once keys exist")
    parent_ttl_seconds: int = Field(default=172_800, ge=60, le=604_800, description="TTL of DS in the parent zone")


class Zone(Word):
    """A zone that the cluster's DNS servers are authoritative for. Its serial is the document's version.

    Records stand here, in a standard zone file, or some in each. The file's SOA, but for its serial, and its
    nameservers hold where the document says nothing else.

    Secondaries steer nothing: a steered record goes to them with all addresses that the document gives its regions.
    """

    name: str
    view: Name | None = Field(
        default=None, description="for clients of this view of `dns.views` alone, in place of the zone for all"
    )
    nameservers: tuple[str, ...] = Field(default=(), description="at least one, here or in the file")
    file: str | None = Field(
        default=None, description="a zone file (RFC 1035), at most 8 MiB; relative to the document's folder"
    )
    contact: str | None = Field(default=None, description="mail address for the SOA, with @")
    serial_offset: int = Field(
        default=0, ge=0, lt=2**32, description="added to the serial: for secondaries that hold one of another primary"
    )
    secondaries: tuple[Secondary, ...] = Field(default=(), max_length=64)
    dnssec: Dnssec | None = None
    records: tuple[Record, ...] = Field(default=(), max_length=100_000)

    @model_validator(mode="after")
    def _has_nameservers(self) -> "Zone":
        if not self.nameservers and self.file is None:
            raise ValueError("a zone needs nameservers: name at least one, better two")
        return self

    @model_validator(mode="after")
    def _is_signed_or_copied(self) -> "Zone":
        # A copy would hold no signatures while the parent says that the zone is signed: all of it would be bogus.
        if self.dnssec is not None and self.secondaries:
            raise ValueError("a zone that is signed as it is asked cannot be copied: remove `dnssec` or `secondaries`")
        if self.view is not None and self.secondaries:
            raise ValueError("secondaries know no views, so they get the zone for all: remove `view` or `secondaries`")
        return self

    @property
    def title(self) -> str:
        """Its name, and its view where it has one."""
        return self.name if self.view is None else f"{self.name} (view {self.view})"


class AnswerLimit(Word):
    """What one client network (/24 of IPv4, /56 of IPv6) is answered by each DNS server over UDP, where addresses can
    be forged. Beyond it, some answers only say "ask by TCP" and the rest are left out. Who shows a valid cookie, or
    comes by TCP or TLS, is not limited."""

    rate: Annotated[str, BeforeValidator(checked_rate)] = Field(description="answers, such as 200/s")
    burst: int = Field(ge=1, le=1_000_000, description="answers at once")
    slip: int = Field(default=2, ge=0, le=10, description="over the limit, one of so many says ask by TCP; 0: none")


class QuerySample(Word):
    """Some of the queries that were answered, by chance."""

    sample_ratio: float = Field(gt=0, le=1, description="of the queries")
    per_second_max: int = Field(
        default=100, ge=1, le=10_000, description="on each DNS server, so that a flood of queries floods nothing else"
    )


class View(Word):
    """Clients who see zones of their own, known by the address that they ask from (split horizon)."""

    name: Name
    networks: tuple[Annotated[str, AfterValidator(checked_network)], ...] = Field(
        min_length=1, max_length=1000, description="the longest network among all views wins"
    )


class Dns(Word):
    """How the DNS servers treat their clients, and what they tell of them."""

    views: tuple[View, ...] = Field(default=(), max_length=16, description="see `zones[].view`")
    limit: AnswerLimit | None = Field(default=None, description="no limit if absent")
    log: QuerySample | None = Field(default=None, description="of these a line of JSON is logged; none if absent")
    trace: QuerySample | None = Field(
        default=None, description="of these a span goes to `tracing.otlp_endpoint`; none if absent"
    )


class Steering(Word):
    """How steered answers of all zones react to doubt: they are kept for less long while a region is suspect, or has
    come to stand otherwise lately, so that the next change reaches clients sooner."""

    doubt_ttl_seconds: int = Field(default=5, ge=0, le=86400, description="time to live of steered answers in doubt")
    doubt_lasts_seconds: float = Field(default=60.0, ge=0, le=86400, description="after a region's last change")
