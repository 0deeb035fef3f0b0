"""The one place where keys are spelled. All of Meridian's state lies below `/meridian/v1/<cluster>/`.

Invariant: two different things never share a key, and no name from outside can reach another thing's key. What keeps
it: every name that goes into a key is checked for its alphabet, which has no slash.
"""

import hashlib
import re
from dataclasses import dataclass

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
VERSION_MAX = 10**10 - 1  # ten digits


def _checked(name: str) -> str:
    """Returns `name`; raises ValueError if it cannot be one segment of a key."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot be part of a key: use 1 to 200 letters, digits, '.', '_' or '-'")
    return name


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one cluster. Methods ending in `s` or named `..._prefix` give prefixes (they end in a slash)."""

    cluster: str

    def __post_init__(self) -> None:
        _checked(self.cluster)

    def root(self) -> str:
        return f"/meridian/v1/{self.cluster}/"

    # The operator's document: content-addressed chunks, one record a version, one pointer to the version in force.
    def config_prefix(self) -> str:
        return f"{self.root()}config/"

    def chunks(self) -> str:
        return f"{self.config_prefix()}chunks/"

    def chunk(self, sha256: str) -> str:
        return self.chunks() + _checked(sha256)

    def versions(self) -> str:
        return f"{self.config_prefix()}versions/"

    def version(self, number: int) -> str:
        """Returns the key of a version's record; padded, so that the order of keys is the order of numbers."""
        if not 1 <= number <= VERSION_MAX:
            raise ValueError(f"a version is an integer from 1 on, not {number}")
        return f"{self.versions()}{number:010d}"

    def current(self) -> str:
        return f"{self.config_prefix()}current"

    # A candidate on its way: one record, what nodes say of it (by name), and how earlier ones ended (by version).
    def rollout(self) -> str:
        return f"{self.config_prefix()}rollout"

    def trials(self) -> str:
        return f"{self.config_prefix()}trials/"

    def trial(self, node: str) -> str:
        return self.trials() + _checked(node)

    def outcomes(self) -> str:
        return f"{self.config_prefix()}outcomes/"

    def outcome(self, number: int) -> str:
        """Returns the key of how a version's rollout ended; padded as the version's own."""
        return f"{self.outcomes()}{number:010d}"

    # Nodes, each under its own lease, and who of them leads.
    def members(self) -> str:
        return f"{self.root()}members/"

    def member(self, node_id: str) -> str:
        return self.members() + _checked(node_id)

    def leader(self) -> str:
        return f"{self.root()}leader"

    def generation(self) -> str:
        """Returns the key of the number of stores before this one; beside the leader's, so that one watch has both."""
        return f"{self.leader()}_generation"

    # What each region's store says of its members, for the other regions; only where there are regional stores.
    def rosters(self) -> str:
        return f"{self.root()}rosters/"

    def roster(self, region: str) -> str:
        return self.rosters() + _checked(region)

    # What the leader judged, and what an operator ordered to leave.
    def verdicts(self) -> str:
        return f"{self.root()}verdicts/"

    def verdict(self) -> str:
        return f"{self.verdicts()}current"

    def drains(self) -> str:
        return f"{self.root()}drains/"

    def drain(self, target: str) -> str:
        """Returns the key that orders a node or a region to drain."""
        return self.drains() + _checked(target)

    # Who may spend how much.
    def limits(self) -> str:
        return f"{self.root()}limits/"

    def limit_epoch(self) -> str:
        """Returns the key of the cut and of the store's generation."""
        return f"{self.limits()}epoch"

    def limit_seats(self) -> str:
        return f"{self.limits()}seats/"

    def limit_seat(self, index: int) -> str:
        return f"{self.limit_seats()}{index:d}"

    def limit_held(self, index: int) -> str:
        """Returns the key that is there once a seat was somebody's home: with who had it first."""
        return f"{self.limits()}held/{index:d}"

    def limit_values(self) -> str:
        return f"{self.limits()}values/"

    def limit_value(self, limit: str) -> str:
        return self.limit_values() + _checked(limit)

    def limit_acks(self) -> str:
        return f"{self.limits()}acks/"

    def limit_ack(self, limit: str, node: str) -> str:
        """Returns the key where a node says which value of a limit it keeps to."""
        return f"{self.limit_acks()}{_checked(limit)}/{_checked(node)}"

    # What servers share beside the document and the zones' keys: outlived by nothing, so no backup has it.
    def shared_secrets(self, kind: str) -> str:
        """Returns the key of the secrets of one kind."""
        return f"{self.root()}secrets/{_checked(kind)}"

    # Purges of the cache; accounts at authorities, certificates of theirs and proofs; and the encrypted private keys.
    def cache(self) -> str:
        return f"{self.root()}cache/"

    def purge(self, name: str) -> str:
        return self.cache() + _checked(name)

    def acme_prefix(self) -> str:
        return f"{self.root()}acme/"

    def acme_account(self, id_: str) -> str:
        return f"{self.acme_prefix()}accounts/{_checked(id_)}"

    def acme_certificates(self) -> str:
        return f"{self.acme_prefix()}certificates/"

    def acme_certificate(self, id_: str) -> str:
        return self.acme_certificates() + _checked(id_)

    def acme_challenges(self) -> str:
        return f"{self.acme_prefix()}challenges/"

    def acme_challenge(self, id_: str) -> str:
        """Returns the key of what proves the hosts of one certificate while it is ordered."""
        return self.acme_challenges() + _checked(id_)

    def secrets(self) -> str:
        return f"{self.root()}keys/"

    def secret(self, name: str) -> str:
        return self.secrets() + _checked(name)

    def zone_keys(self) -> str:
        return f"{self.secrets()}zones/"

    def zone_key(self, zone: str) -> str:
        """Returns the key of a signed zone's keys; by hash, since a zone's name may hold any byte."""
        return self.zone_keys() + hashlib.sha256(zone.encode()).hexdigest()[:40]
