"""Tokens that let a machine join: how many, whose names and addresses, until when.

A token is `mrd1.SECRET.FINGERPRINT`. The fingerprint is that of the authority's certificate: by it a machine that knows
nothing yet knows whom it may tell the secret. The authority keeps a secret's hash only, so its folder lets nobody in.
"""

import fcntl
import fnmatch
import hashlib
import ipaddress
import json
import re
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from meridian.pki.authority import Identity, PkiError, write_private

_TOKEN = re.compile(r"mrd1\.([A-Za-z0-9_-]{43})\.([0-9a-f]{64})")
TOKENS_MAX = 1000  # files of one folder: each scale-out makes one, and old ones are swept
USES_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token is good for. `names` is a pattern such as eu-west-*; `until` is in seconds since 1970."""

    names: str
    networks: tuple[str, ...]
    uses: int
    until: float
    cluster_key: bool = True  # whether the machine also gets what configuration is sealed with

    def refuses(self, identity: Identity, now: float) -> str:
        """Why this machine may not have a certificate for it; empty if it may."""
        if now >= self.until:
            return "the token's time is over"
        for name in (identity.name, *identity.hosts):
            if not fnmatch.fnmatchcase(name, self.names):
                return f"the token is not for the name {name}"
        networks = [ipaddress.ip_network(text) for text in self.networks]
        for address in identity.addresses:
            # Loopback is every machine's own, so nobody can play another by it.
            if not address.is_loopback and not any(address in network for network in networks):
                return f"the token is not for the address {address}"
        return ""


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of the certificate's DER, in hexadecimal."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def split(token: str) -> tuple[str, str]:
    """(secret, fingerprint). Raises PkiError."""
    found = _TOKEN.fullmatch(token.strip())
    if found is None:
        raise PkiError("this is no token", "make one with: meridian pki token")
    return found[1], found[2]


def make(folder: Path, certificate: x509.Certificate, grant: Grant, now: float) -> str:
    """Writes a grant below the authority's `folder` and returns the token for it. Raises PkiError."""
    _check(grant)
    place = folder / "tokens"
    if place.is_dir():
        for file in place.glob("*.json"):
            if _read(file).until <= now:
                file.unlink(missing_ok=True)
        if len(list(place.glob("*.json"))) >= TOKENS_MAX:
            raise PkiError(f"{place} holds {TOKENS_MAX} tokens", "remove some; each is a file")
    secret = secrets.token_urlsafe(32)
    write_private(_file(folder, secret), json.dumps(asdict(grant)).encode())
    return f"mrd1.{secret}.{fingerprint(certificate)}"


def use(folder: Path, secret: str, identity: Identity, now: float) -> Grant:
    """Counts one use of a token for this machine and returns what it is good for.

    Raises PkiError if it is not good for this machine; then nothing is counted.

    Under a lock: of two machines that come at once with the same one-time token, one joins.
    """
    file = _file(folder, secret)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / "tokens.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not file.exists():
            raise PkiError("this token is unknown, or was used", "make a new one with: meridian pki token")
        grant = _read(file)
        if reason := grant.refuses(identity, now):
            raise PkiError(reason, "make a token for it with: meridian pki token")
        if grant.uses == 1:
            file.unlink()
        else:
            write_private(file, json.dumps(asdict(grant) | {"uses": grant.uses - 1}).encode())
        return grant


def _file(folder: Path, secret: str) -> Path:
    return folder / "tokens" / f"{hashlib.sha256(secret.encode()).hexdigest()}.json"


def _read(file: Path) -> Grant:
    try:
        values = json.loads(file.read_bytes())
        return Grant(values["names"], tuple(values["networks"]), values["uses"], values["until"], values["cluster_key"])
    except (OSError, ValueError, KeyError, TypeError):
        raise PkiError(f"{file} is damaged", "remove it") from None


def _check(grant: Grant) -> None:
    if not 1 <= grant.uses <= USES_MAX:
        raise PkiError(f"{grant.uses} uses: say 1 to {USES_MAX}")
    _networks(grant.networks)


def _networks(texts: Sequence[str]) -> None:
    for text in texts:
        try:
            ipaddress.ip_network(text)
        except ValueError as error:
            raise PkiError(f"--network {text}: {error}") from None
