"""What a node is told by its command line. Parsed once, in the launcher, and handed to the children as JSON.

No secret is in here: keys, tokens and passwords are named by the files that hold them.
"""

import argparse
import dataclasses
import ipaddress
import json
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from meridian.core.rates import parse_rate
from meridian.core.speech import OWN, Speaker

_NAME = re.compile(r"[a-z0-9]([a-z0-9_.-]{0,61}[a-z0-9])?")
WORKERS_MAX = 256  # one byte of a QUIC connection id carries the worker's number
UNIX_PATH_BYTES_MAX = 107  # unix(7): 108 with the zero byte at its end
ROLES = ("agent", "gateway", "dns")


class SettingsError(Exception):
    """A flag that cannot be: the message names the flag and the remedy."""


@dataclass(frozen=True, slots=True)
class Settings:
    """All flags of a node. `address` replaces wildcards in listeners; `advertise` is what DNS answers for the node."""

    name: str
    region: str
    cluster: str = "meridian"
    etcd: tuple[str, ...] = ()
    etcd_ca: str | None = None
    etcd_cert: str | None = None
    etcd_key: str | None = None
    etcd_user: str | None = None
    etcd_password_file: str | None = None
    etcd_regional: tuple[str, ...] = ()
    etcd_quota_bytes: int = 2 * 1024**3
    address: str | None = None
    peer_address: str | None = None
    advertise: tuple[str, ...] = ()
    workers: int = 1
    dns_port: int = 53
    dns_tls_port: int = 0
    admin_host: str = "127.0.0.1"
    admin_port: int = 9900
    peer_port: int = 9901
    peer_ca: str | None = None
    peer_cert: str | None = None
    peer_key: str | None = None
    state: str = "/var/lib/meridian"
    cluster_key_file: str | None = None
    token_file: str | None = None
    geo_file: str | None = None
    limit_nodes: int = 3
    access_log: float = 0.0
    capacity: float = 0.0
    witness: bool = False
    user: str | None = None
    speak: str | None = None
    python: str = sys.executable
    agent_module: str = "meridian.nodes.agent"
    gateway_module: str = "meridian.nodes.gateway_worker"
    dns_module: str = "meridian.nodes.dns_worker"

    def to_json(self) -> str:
        """The settings as JSON; see `from_json`."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Settings":
        """Reads what `to_json` wrote."""
        values = json.loads(text)
        for name in ("etcd", "etcd_regional", "advertise"):
            values[name] = tuple(values[name])
        return cls(**values)

    def bound_host(self, host: str) -> str:
        """The address to bind for a listener's `host`: a wildcard becomes `address`, if that is of the same family."""
        if self.address is None:
            return host
        asked, own = ipaddress.ip_address(host), ipaddress.ip_address(self.address)
        return self.address if asked.is_unspecified and asked.version == own.version else host

    @property
    def dns_socket(self) -> str:
        """The path of the Unix socket where gateway workers hand on DNS over HTTPS."""
        return f"{self.state}/dns.sock"

    def module(self, role: str) -> str:
        """The module that a child of this role runs."""
        return {"agent": self.agent_module, "gateway": self.gateway_module, "dns": self.dns_module}[role]


def parse_settings(argv: Sequence[str]) -> Settings:
    """Reads a node's flags. Raises SettingsError for values that cannot be; argparse exits with 2 for unknown flags."""
    values = vars(_parser().parse_args(argv))
    settings = Settings(**{name: value for name, value in values.items() if value is not None})
    if settings.witness:
        # It serves nobody: no workers, and nothing for DNS to answer.
        settings = dataclasses.replace(settings, workers=0, dns_port=0)
    elif not settings.advertise and settings.address is not None:
        settings = dataclasses.replace(settings, advertise=(settings.address,))
    _check(settings)
    return settings


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="meridian node", allow_abbrev=False)
    flag = parser.add_argument
    flag("--name", required=True, help="unique in the cluster and kept over restarts")
    flag("--region", required=True)
    flag("--cluster")
    flag("--etcd", type=_words, metavar="URL,...", help="without it the cluster's state lives in the agent's memory")
    flag("--etcd-ca"), flag("--etcd-cert"), flag("--etcd-key"), flag("--etcd-user"), flag("--etcd-password-file")
    flag("--etcd-regional", type=_words, metavar="URL,...", help="where this region's members live"
         " (default: --etcd); same authority and user")  # fmt: skip
    flag("--etcd-quota-bytes", type=int, help="etcd's --quota-backend-bytes, for warnings (default: 2 GiB)")
    # SOFTWARE:OLDEST-NEWEST:CAPABILITY,...: for tests that play the part of another version.
    flag("--speak", default=os.environ.get("MERIDIAN_SPEAK"), help=argparse.SUPPRESS)
    flag("--address", metavar="IP", help="replaces 0.0.0.0 and [::] in listeners")
    flag("--peer-address", metavar="IP", help="where other nodes reach this one, where that is a network of"
         " their own (default: --address)")  # fmt: skip
    flag("--advertise", type=_words, metavar="IP,...", help="what DNS answers for this node (default: --address)")
    flag("--workers", type=int, default=max(1, os.cpu_count() or 1), help="gateway workers (default: one per core)")
    flag("--dns-port", type=int, help="0: no DNS server")
    flag("--dns-tls-port", type=int, help="DNS over TLS (TCP) and over QUIC (UDP), usually 853 (default 0: none)")
    flag("--admin-host"), flag("--admin-port", type=int), flag("--peer-port", type=int)
    flag("--peer-ca"), flag("--peer-cert"), flag("--peer-key")
    flag("--state", metavar="DIR"), flag("--cluster-key-file"), flag("--token-file"), flag("--geo-file")
    flag("--witness", action="store_true", help="look, vote and lead only: serve nobody; stands in a region of its own")
    flag("--limit-nodes", type=int, help="how many nodes share each limit")
    flag("--access-log", type=float, metavar="RATIO", help="how many of the requests that went well are logged, 0 to 1")
    flag("--capacity", type=_rate, metavar="RATE", help="requests that this node carries, such as 2000/s")
    flag("--user", help="who to become after binding ports")
    flag("--python", metavar="FILE", help="what runs agent and workers (default: what runs this); a link in its path is"
         " followed at the start and at each upgrade")  # fmt: skip
    for role in ROLES:
        flag(f"--{role}-module", help=argparse.SUPPRESS)
    return parser


def speaker_of(speak: str | None, software: str) -> Speaker:
    """Returns what this node can: its own, or what `speak` says. Raises ValueError."""
    if speak is None:
        return dataclasses.replace(OWN, software=software)
    name, protocols, capabilities = speak.split(":")
    oldest, newest = (int(number) for number in protocols.split("-"))
    return Speaker(name, oldest, newest, frozenset(_words(capabilities)))


def _rate(text: str) -> float:
    try:
        return parse_rate(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _check(settings: Settings) -> None:
    for flag, name in (("--name", settings.name), ("--region", settings.region), ("--cluster", settings.cluster)):
        if not _NAME.fullmatch(name):
            raise SettingsError(f"{flag} {name!r}: use at most 63 lower-case letters, digits, '.', '_' and '-'")
    if settings.address is not None:
        _check_ip("--address", settings.address)
    if settings.peer_address is not None:
        _check_ip("--peer-address", settings.peer_address)
    for address in settings.advertise:
        _check_ip("--advertise", address)
    if settings.witness and settings.advertise:
        raise SettingsError("--advertise: nobody is sent to a witness; leave it out")
    if settings.witness and (settings.address is None or not settings.etcd):
        raise SettingsError("--witness needs --etcd, and --address IP: where other nodes reach it")
    if not settings.advertise and not settings.witness:
        raise SettingsError("--advertise IP is missing: the addresses that DNS answers for this node")
    if settings.etcd_regional and not settings.etcd:
        raise SettingsError("--etcd-regional needs --etcd: the document, the leader and verdicts live there")
    if settings.etcd_quota_bytes < 1:
        raise SettingsError(f"--etcd-quota-bytes {settings.etcd_quota_bytes}: must be at least 1")
    try:
        speaker_of(settings.speak, "")
    except ValueError:
        raise SettingsError(f"--speak {settings.speak}: write SOFTWARE:OLDEST-NEWEST:CAPABILITY,...") from None
    if not settings.witness and not 1 <= settings.workers <= WORKERS_MAX:
        raise SettingsError(f"--workers {settings.workers}: must be between 1 and {WORKERS_MAX}")
    if not 0.0 <= settings.access_log <= 1.0:
        raise SettingsError(f"--access-log {settings.access_log}: must be between 0 and 1")
    if settings.limit_nodes < 1:
        raise SettingsError(f"--limit-nodes {settings.limit_nodes}: must be at least 1")
    for port_flag in ("dns_port", "dns_tls_port", "admin_port", "peer_port"):
        port = getattr(settings, port_flag)
        if not 0 <= port < 65536:
            raise SettingsError(f"--{port_flag.replace('_', '-')} {port}: must be between 0 and 65535")
    if settings.dns_tls_port and settings.dns_tls_port == settings.dns_port:
        raise SettingsError(f"--dns-tls-port {settings.dns_tls_port}: must not be --dns-port")
    if settings.dns_tls_port and not settings.dns_port:
        raise SettingsError(
            "--dns-tls-port without --dns-port: DNS over TLS and QUIC stands beside the other, not alone"
        )
    if settings.dns_port and len(os.fsencode(settings.dns_socket)) > UNIX_PATH_BYTES_MAX:
        raise SettingsError(f"--state {settings.state}: too long a path for the Unix socket in it, name a shorter one")
    for file_flag in (
        "etcd_ca", "etcd_cert", "etcd_key", "etcd_password_file", "peer_ca", "peer_cert", "peer_key",
        "cluster_key_file", "token_file", "geo_file", "python",
    ):  # fmt: skip
        path = getattr(settings, file_flag)
        if path is not None and not Path(path).is_file():
            raise SettingsError(f"--{file_flag.replace('_', '-')} {path}: there is no such file")


def _check_ip(flag: str, text: str) -> None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise SettingsError(f"{flag} {text!r} is not an IP address") from None
    if address.is_unspecified:
        raise SettingsError(f"{flag} {text}: name an address of this machine, not the wildcard")
