"""The tests' own authority, seen by certbot's client: what our client is tested against is no mirror of it."""

import datetime
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from acme import challenges, client, crypto_util, errors, messages
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from josepy.jwa import ES256
from josepy.jwk import JWKEC
from tests import acme_server
from tests.acme_server import AcmeServer


@pytest.fixture
def authority() -> Iterator[AcmeServer]:
    with acme_server.running() as server:
        yield server


class Proofs(HTTPServer):
    """Answers authorities with what it was told."""

    content = b""


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Proofs)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.server.content)

    def log_message(self, *arguments: object) -> None:
        """Says nothing."""


def new_client(server: AcmeServer, folder: Path) -> client.ClientV2:
    key = JWKEC(key=ec.generate_private_key(ec.SECP256R1()))
    net = client.ClientNetwork(key, alg=ES256)
    (folder / "ca.pem").write_bytes(server.ca_pem)
    net.verify_ssl = str(folder / "ca.pem")  # type: ignore[assignment]  # requests takes a file, too
    net.session.trust_env = False
    found = client.ClientV2(client.ClientV2.get_directory(server.directory, net), net)
    found.new_account(messages.NewRegistration.from_data(email="a@example.com", terms_of_service_agreed=True))
    return found


def test_certbots_client_gets_a_certificate(authority: AcmeServer, tmp_path: Path) -> None:
    authority.behaviour.bad_nonces = 1
    authority.behaviour.window = (100.0, 200.0)
    speaker = new_client(authority, tmp_path)
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    order = speaker.new_order(crypto_util.make_csr(pem, ["a.example.com"]))
    (authorization,) = order.authorizations
    offered = next(one for one in authorization.body.challenges if isinstance(one.chall, challenges.HTTP01))
    proofs = Proofs(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=proofs.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        response, validation = offered.response_and_validation(speaker.net.key)
        proofs.content = validation.encode()
        authority.behaviour.http = [("127.0.0.1", proofs.server_port)]
        speaker.answer_challenge(offered, response)
        done = speaker.poll_and_finalize(order)
    finally:
        proofs.shutdown()
        proofs.server_close()
        thread.join()
    assert done.fullchain_pem.count("BEGIN CERTIFICATE") == 2
    renew_at, _ = speaker.renewal_time(done.fullchain_pem.encode())
    assert renew_at is not None
    left = renew_at.timestamp() - datetime.datetime.now(datetime.UTC).timestamp()
    assert 50.0 < left < 200.0


def test_certbots_client_is_refused_where_nothing_answers(authority: AcmeServer, tmp_path: Path) -> None:
    speaker = new_client(authority, tmp_path)
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with socket.create_server(("127.0.0.1", 0)) as closed:
        authority.behaviour.http = [closed.getsockname()]
    order = speaker.new_order(crypto_util.make_csr(pem, ["a.example.com"]))
    offered = next(one for one in order.authorizations[0].body.challenges if isinstance(one.chall, challenges.HTTP01))
    speaker.answer_challenge(offered, offered.response(speaker.net.key))
    with pytest.raises(errors.ValidationError):
        speaker.poll_and_finalize(order)
