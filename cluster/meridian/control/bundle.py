"""A document with its files, as one payload for the store. Private keys are sealed: etcd and its backups never hold
one in the clear, and history shows it by fingerprint only.

Sealing is AES-256-GCM under a key derived from the cluster key (HKDF-SHA256, RFC 5869), a fresh nonce of 96 bits for
each file, and the file's name as associated data, so that a sealed key cannot be put into another's place.
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


def seal(bundle: Bundle, cluster_key: bytes) -> bytes:
    """Encodes a bundle for the store."""
    box = AESGCM(derive_key(cluster_key, "files"))
    sealed = {}
    for name, content in bundle.files.items():
        nonce = os.urandom(NONCE_BYTES)
        sealed[name] = base64.b64encode(nonce + box.encrypt(nonce, content, name.encode())).decode()
    fingerprints = {name: fingerprint(content) for name, content in bundle.files.items()}
    return msgspec.json.encode(_Payload(bundle.text, sealed, fingerprints))


def unseal(payload: bytes, cluster_key: bytes) -> Bundle:
    """Decodes what `seal` made. Raises BundleError for another cluster's key or a damaged payload."""
    found = _decode(payload)
    box = AESGCM(derive_key(cluster_key, "files"))
    files = {}
    for name, text in found.sealed.items():
        raw = base64.b64decode(text)
        try:
            files[name] = box.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], name.encode())
        except InvalidTag:
            raise BundleError(
                f"{name} was sealed under another cluster key; give every node the same key file"
            ) from None
    return Bundle(found.text, files)


def describe(payload: bytes) -> tuple[str, dict[str, str]]:
    """The text and the fingerprints of the files, without opening any of them."""
    found = _decode(payload)
    return found.text, found.fingerprints


def _decode(payload: bytes) -> _Payload:
    try:
        return msgspec.json.decode(payload, type=_Payload)
    except msgspec.DecodeError as error:
        raise BundleError(f"the stored document is damaged or from a newer version: {error}") from None
