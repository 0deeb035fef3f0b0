"""The authority's door: HTTPS where a machine may `join` (by a token) and `renew` (by the certificate it has).

Invariant: nobody gets a certificate but for a token that is good for it, or for the names of a valid certificate that
the caller proves to hold. It holds the authority's key, so it does nothing else, and bounds what a stranger can cost:
the size of a question, the time of a connection, how many there are at once.
"""

import contextlib
import datetime
import json
import socket
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509

from meridian.pki import tokens
from meridian.pki.authority import (
    Identity,
    PkiError,
    due,
    identity_of,
    key_pem,
    load,
    new_key,
    read,
    requested,
    write_private,
)

PORT = 9902
BODY_BYTES_MAX = 16 * 1024  # a signing request has 500
DISCARD_BYTES_MAX = 256 * 1024
SILENCE_SECONDS = 5.0
CONNECTION_SECONDS = 20.0  # in all, so that nobody holds a place by a byte now and then
CONNECTIONS_MAX = 64

Now = Callable[[], datetime.datetime]
Log = Callable[[str], None]


class Registrar:
    """What the door answers, without the door."""

    def __init__(self, folder: Path, now: Now) -> None:
        self._folder = folder
        self._now = now
        load(folder)  # a damaged authority is told at once

    def authority_pem(self) -> str:
        """The authority's certificate, for anyone."""
        return load(self._folder).pem.decode()

    def join(self, token: str, request: bytes) -> dict[str, str]:
        """A certificate for the request, and the cluster's key if the token is good for that. Raises PkiError."""
        secret, wanted = tokens.split(token)
        authority = load(self._folder)
        if wanted != tokens.fingerprint(authority.certificate):
            raise PkiError("this token is of another authority", "make one here with: meridian pki token")
        identity, key = requested(request)
        now = self._now()
        grant = tokens.use(self._folder, secret, identity, now.timestamp())
        given = {"name": identity.name, "certificate": authority.issue(identity, key, now).decode()}
        if grant.cluster_key:
            given["cluster_key"] = read(self._folder / "cluster.key").hex()
        return given

    def renew(self, present: bytes, request: bytes) -> dict[str, str]:
        """A certificate for whom `present` (DER, proven by TLS) is for, whatever the request asks. Raises PkiError."""
        authority = load(self._folder)
        identity = identity_of(x509.load_der_x509_certificate(present))
        key = requested(request)[1]
        return {"name": identity.name, "certificate": authority.issue(identity, key, self._now()).decode()}

    def own_certificate(self, identity: Identity) -> tuple[Path, Path]:
        """The door's own certificate and key, made anew when it is due."""
        chain, key_file = self._folder / "server.pem", self._folder / "server.key"
        authority, now = load(self._folder), self._now()
        if chain.exists() and key_file.exists():
            present = x509.load_pem_x509_certificate(chain.read_bytes())
            if not due(present, now) and identity_of(present) == identity:
                return chain, key_file
        key = new_key()
        write_private(key_file, key_pem(key))
        write_private(chain, authority.issue(identity, key.public_key(), now) + authority.pem)
        return chain, key_file


class Door(ThreadingHTTPServer):
    """The HTTPS server of a registrar. `identity` is what its own certificate says."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self, address: tuple[str, int], registrar: Registrar, folder: Path, identity: Identity, log: Log
    ) -> None:
        """Raises OSError if it cannot listen there."""
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Handler)
        self.registrar = registrar
        self.log = log
        self._identity = identity
        self._room = threading.BoundedSemaphore(CONNECTIONS_MAX)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_3
        self._context.load_verify_locations(folder / "ca.pem")
        self._context.verify_mode = ssl.CERT_OPTIONAL  # who joins has none yet
        self.refresh()

    def refresh(self) -> None:
        """Takes a new certificate of its own when that is due."""
        self._context.load_cert_chain(*self.registrar.own_certificate(self._identity))

    def process_request(self, request: Any, client_address: Any) -> None:
        """One thread a connection, as many as there is room for; whoever comes beyond that is sent away."""
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """The handshake is made here and not where connections are accepted, so that a slow one hinders nobody."""
        request.settimeout(SILENCE_SECONDS)
        same = request.dup()
        end = threading.Timer(CONNECTION_SECONDS, _cut, [same])
        end.daemon = True
        end.start()
        try:
            encrypted = self._context.wrap_socket(request, server_side=True)
        except (OSError, ValueError) as error:
            self.log(f"{client_address[0]}: no handshake: {error}")
            self.shutdown_request(request)
        else:
            super().process_request_thread(encrypted, client_address)
        finally:
            end.cancel()
            same.close()
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke off is no error of ours."""


def _cut(connection: socket.socket) -> None:
    """Ends a connection under whoever reads it."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    server: Door
    server_version = "meridian-pki"
    sys_version = ""

    def do_GET(self) -> None:
        if self.path == "/v1/authority":
            self._answer(200, {"authority": self.server.registrar.authority_pem()})
        else:
            self._answer(404, {"message": "there is only /v1/authority, /v1/join and /v1/renew"})

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > BODY_BYTES_MAX:
            # What is on its way already is read, or the answer would be lost with it.
            self.rfile.read(min(int(length), DISCARD_BYTES_MAX) if length.isdigit() else 0)
            self._answer(413, {"message": f"say Content-Length, at most {BODY_BYTES_MAX}"})
            return
        try:
            asked = json.loads(self.rfile.read(int(length)))
            request = str(asked["request"]).encode()
            self._answer(200, self._decide(str(asked.get("token", "")), request))
        except PkiError as error:
            self.server.log(f"{self.client_address[0]}: {self.path} refused: {error.message}")
            self._answer(403, {"message": error.message, "remedy": error.remedy})
        except (ValueError, KeyError, TypeError, AttributeError):
            self._answer(400, {"message": "send JSON with the words request and token"})

    def _decide(self, token: str, request: bytes) -> dict[str, str]:
        if self.path == "/v1/join":
            given = self.server.registrar.join(token, request)
        elif self.path == "/v1/renew":
            assert isinstance(self.connection, ssl.SSLSocket)
            present = self.connection.getpeercert(binary_form=True)
            if not present:
                raise PkiError("who renews shows the present certificate", "join anew, with a token")
            given = self.server.registrar.renew(present, request)
        else:
            raise PkiError("there is only /v1/authority, /v1/join and /v1/renew")
        self.server.log(f"{self.client_address[0]}: {self.path} gave a certificate to {given['name']}")
        return given

    def _answer(self, status: int, content: dict[str, str]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: what was decided is logged by name, and the request line says nothing more."""
