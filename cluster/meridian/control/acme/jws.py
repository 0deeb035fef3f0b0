"""Signed messages as ACME wants them: flattened JWS (RFC 7515) by ES256, and the key's own names (RFC 7517, RFC 7638).
Pure but for the signature's own chance."""

import base64
import hashlib
import hmac
from collections.abc import Mapping

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

_COORDINATE_BYTES = 32  # of P-256


def to_base64url(data: bytes) -> str:
    """Without padding, RFC 7515 section 2."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def from_base64url(text: str) -> bytes:
    """With or without padding. Raises ValueError."""
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def public_jwk(key: ec.EllipticCurvePrivateKey) -> dict[str, str]:
    """The public part, with its members in the order of RFC 7638 section 3."""
    numbers = key.public_key().public_numbers()
    x, y = (to_base64url(number.to_bytes(_COORDINATE_BYTES, "big")) for number in (numbers.x, numbers.y))
    return {"crv": "P-256", "kty": "EC", "x": x, "y": y}


def thumbprint(key: ec.EllipticCurvePrivateKey) -> str:
    """RFC 7638, as base64url."""
    return to_base64url(hashlib.sha256(msgspec.json.encode(public_jwk(key))).digest())


def digest(proof: str) -> str:
    """What a TXT record says of a proof (RFC 8555 section 8.4)."""
    return to_base64url(hashlib.sha256(proof.encode()).digest())


def sign(key: ec.EllipticCurvePrivateKey, protected: Mapping[str, object], payload: bytes) -> bytes:
    """A message signed with the account's key."""
    head, body = _parts({"alg": "ES256", **protected}, payload)
    r, s = decode_dss_signature(key.sign(f"{head}.{body}".encode(), ec.ECDSA(SHA256())))
    return msgspec.json.encode(_flattened(head, body, b"".join(n.to_bytes(_COORDINATE_BYTES, "big") for n in (r, s))))


def bind(secret: bytes, key_id: str, url: str, key: ec.EllipticCurvePrivateKey) -> dict[str, str]:
    """Our key, signed with that of an account which the authority's operator knows (RFC 8555 section 7.3.4)."""
    head, body = _parts({"alg": "HS256", "kid": key_id, "url": url}, msgspec.json.encode(public_jwk(key)))
    return _flattened(head, body, hmac.digest(secret, f"{head}.{body}".encode(), "sha256"))


def _parts(protected: Mapping[str, object], payload: bytes) -> tuple[str, str]:
    return to_base64url(msgspec.json.encode(protected)), to_base64url(payload)


def _flattened(head: str, body: str, signature: bytes) -> dict[str, str]:
    return {"protected": head, "payload": body, "signature": to_base64url(signature)}
