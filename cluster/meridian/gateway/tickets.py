"""Session tickets of QUIC, sealed so that every worker and node of the cluster can open them.

aioquic keeps sessions in memory by what is in the ticket; here a ticket is the session itself (RFC 8446 section 4.6.1),
under AES-256-GCM with a key derived from a secret that all share, bound to the host that it was given under: under
another name it is none.
"""

import hmac
import os
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NAME_BYTES, _NONCE_BYTES = 8, 12


class TicketBox:
    """Immutable; made anew when the secrets change."""

    def __init__(self, secrets: Sequence[bytes]) -> None:
        """The first secret seals, all open."""
        self._boxes = {
            hmac.digest(secret, b"quic name", "sha256")[:_NAME_BYTES]: AESGCM(hmac.digest(secret, b"quic", "sha256"))
            for secret in secrets
        }
        self._name = next(iter(self._boxes))

    def seal(self, session: bytes, host: bytes) -> bytes:
        """A ticket."""
        nonce = os.urandom(_NONCE_BYTES)
        return self._name + nonce + self._boxes[self._name].encrypt(nonce, session, host)

    def open(self, ticket: bytes, host: bytes) -> bytes | None:
        """The session; None if it was not sealed here, not lately, or for another host."""
        box = self._boxes.get(ticket[:_NAME_BYTES])
        if box is None or len(ticket) < _NAME_BYTES + _NONCE_BYTES + 16:
            return None
        body = ticket[_NAME_BYTES:]
        try:
            return box.decrypt(body[:_NONCE_BYTES], body[_NONCE_BYTES:], host)
        except InvalidTag:
            return None
