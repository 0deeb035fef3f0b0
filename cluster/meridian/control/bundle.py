"""A document with its files, as one payload for the store. Private keys are sealed: etcd and its backups never hold
one in the clear, and history shows it by fingerprint only.

Sealing is AES-256-GCM under a key derived from the cluster key (HKDF-SHA256, RFC 5869), a fresh nonce of 96 bits for
each secret, and its place (a file's name) as associated data, so that a sealed key cannot be put into another's place.
"""

import base64
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

NONCE_BYTES = 12
CLUSTER_KEY_BYTES = 32


class BundleError(Exception):
    """The payload cannot be opened here; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """The operator's text and the contents of the files it names, by the names it uses."""

    text: str
    files: Mapping[str, bytes]


class _Payload(msgspec.Struct):
    text: str
    sealed: dict[str, str]
    fingerprints: dict[str, str]


def fingerprint(content: bytes) -> str:
    """What is shown instead of a secret: the first 16 hex digits of its SHA-256."""
    return hashlib.sha256(content).hexdigest()[:16]


def derive_key(cluster_key: bytes, purpose: str) -> bytes:
    """A key of 32 bytes for one purpose. Raises BundleError if the cluster key is too short to be one."""
    if len(cluster_key) < CLUSTER_KEY_BYTES:
        raise BundleError(f"the cluster key has {len(cluster_key)} bytes; it needs {CLUSTER_KEY_BYTES} random ones")
    return HKDF(SHA256(), 32, salt=None, info=f"meridian/v1/{purpose}".encode()).derive(cluster_key)


class Sealer:
    """Seals and opens the secrets of one purpose."""

    def __init__(self, cluster_key: bytes, purpose: str) -> None:
        """Raises BundleError if the cluster key is too short to be one."""
        self._box = AESGCM(derive_key(cluster_key, purpose))

    def seal(self, place: str, content: bytes) -> str:
        """A secret for the store, in base64."""
        nonce = os.urandom(NONCE_BYTES)
        return base64.b64encode(nonce + self._box.encrypt(nonce, content, place.encode())).decode()

    def open(self, place: str, sealed: str) -> bytes:
        """What was sealed for this place. Raises BundleError for another cluster's key or a damaged secret."""
        try:
            raw = base64.b64decode(sealed)
            return self._box.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], place.encode())
        except (InvalidTag, ValueError):
            raise BundleError(
                f"{place} was sealed under another cluster key; give every node the same key file"
            ) from None


def seal(bundle: Bundle, cluster_key: bytes) -> bytes:
    """Encodes a bundle for the store."""
    sealer = Sealer(cluster_key, "files")
    sealed = {name: sealer.seal(name, content) for name, content in bundle.files.items()}
    fingerprints = {name: fingerprint(content) for name, content in bundle.files.items()}
    return msgspec.json.encode(_Payload(bundle.text, sealed, fingerprints))


def unseal(payload: bytes, cluster_key: bytes) -> Bundle:
    """Decodes what `seal` made. Raises BundleError for another cluster's key or a damaged payload."""
    found = _decode(payload)
    sealer = Sealer(cluster_key, "files")
    return Bundle(found.text, {name: sealer.open(name, sealed) for name, sealed in found.sealed.items()})


def describe(payload: bytes) -> tuple[str, dict[str, str]]:
    """The text and the fingerprints of the files, without opening any of them."""
    found = _decode(payload)
    return found.text, found.fingerprints


def _decode(payload: bytes) -> _Payload:
    try:
        return msgspec.json.decode(payload, type=_Payload)
    except msgspec.DecodeError as error:
        raise BundleError(f"the stored document is damaged or from a newer version: {error}") from None
