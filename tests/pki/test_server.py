"""The authority's door over real TLS: who gets a certificate, who does not, and what a stranger can cost."""

import contextlib
import datetime
import http.client
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from meridian.pki import machine, tokens
from meridian.pki.authority import (
    LIFETIME,
    Identity,
    PkiError,
    addresses_of,
    create,
    identity_of,
    load,
    new_key,
    request,
)
from meridian.pki.machine import Unanswered
from meridian.pki.server import CONNECTIONS_MAX, Door, Registrar
from meridian.pki.tokens import Grant

HOST = "127.0.0.1"
NOW = datetime.datetime.now(datetime.UTC)
NODE = Identity("eu-1", addresses_of(["10.1.0.7"]))


class Running:
    """A door in a thread. Its clock is `slow` by half a certificate's life, until a test sets that."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.slow = LIFETIME / 2
        self.log: list[str] = []
        create(folder, "shop", self.now())
        identity = Identity("meridian-pki", addresses_of([HOST]))
        self.door = Door((HOST, 0), Registrar(folder, self.now), folder, identity, self.log.append)
        self.url = f"https://{HOST}:{self.door.server_address[1]}"
        self._thread = threading.Thread(target=self.door.serve_forever, args=(0.05,))
        self._thread.start()

    def now(self) -> datetime.datetime:
        return datetime.datetime.now(datetime.UTC) - self.slow

    def token(self, names: str = "eu-*", *, uses: int = 1, cluster_key: bool = True) -> str:
        grant = Grant(names, ("10.1.0.0/16",), uses, self.now().timestamp() + 60, cluster_key)
        return tokens.make(self.folder, load(self.folder).certificate, grant, self.now().timestamp())

    def close(self) -> None:
        self.door.shutdown()
        self.door.server_close()
        self._thread.join()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    made = Running(tmp_path / "authority")
    try:
        yield made
    finally:
        made.close()


def certificate_of(folder: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / "certificate.pem").read_bytes())


def test_a_machine_joins_once_and_holds_what_a_node_needs(running: Running, tmp_path: Path) -> None:
    token, node = running.token(), tmp_path / "node"
    machine.join(running.url, token, NODE, node)
    assert identity_of(certificate_of(node)) == NODE
    assert (node / "cluster.key").read_bytes() == (running.folder / "cluster.key").read_bytes()
    certificate_of(node).verify_directly_issued_by(load(running.folder).certificate)
    assert any("gave a certificate to eu-1" in line for line in running.log)
    with pytest.raises(PkiError, match="unknown, or was used"):
        machine.join(running.url, token, NODE, tmp_path / "second")
    assert not (tmp_path / "second").exists()
    assert not any(tokens.split(token)[0] in line for line in running.log)


def test_a_machine_of_etcd_does_not_get_the_cluster_s_key(running: Running, tmp_path: Path) -> None:
    machine.join(running.url, running.token(cluster_key=False), NODE, tmp_path / "etcd")
    assert not (tmp_path / "etcd" / "cluster.key").exists()


def test_an_impostor_does_not_hear_the_secret(running: Running, tmp_path: Path) -> None:
    """Of another authority: the token's fingerprint gives it away before the secret is told."""
    heard: list[str] = []
    impostor = Running(tmp_path / "impostor")
    impostor.door.registrar.join = lambda token, request: heard.append(token) or {}  # type: ignore[method-assign, func-returns-value]
    try:
        with pytest.raises(PkiError, match="is not the authority that made this token"):
            machine.join(impostor.url, running.token(), NODE, tmp_path / "node")
    finally:
        impostor.close()
    assert not heard


def test_renewal_keeps_names_and_key_whatever_is_asked(running: Running, tmp_path: Path) -> None:
    node = tmp_path / "node"
    machine.join(running.url, running.token(), NODE, node)
    before, key = certificate_of(node), (node / "private.key").read_bytes()
    assert machine.renew(running.url, node, running.now()) is False
    running.slow = datetime.timedelta()
    assert machine.renew(running.url, node, running.now()) is True
    after = certificate_of(node)
    assert after.not_valid_after_utc > before.not_valid_after_utc
    assert identity_of(after) == NODE and (node / "private.key").read_bytes() == key
    context = ssl.create_default_context(cafile=str(node / "ca.pem"))
    context.load_cert_chain(node / "certificate.pem", node / "private.key")
    greedy = request(Identity("us-9", addresses_of(["10.9.9.9"])), new_key()).decode()
    status, answer = ask(running, "/v1/renew", {"request": greedy}, context)
    given = x509.load_pem_x509_certificate(answer["certificate"].encode())
    assert status == 200 and identity_of(given) == NODE


def test_without_a_valid_certificate_nothing_is_renewed(running: Running, tmp_path: Path) -> None:
    asked = {"request": request(NODE, new_key()).decode()}
    status, answer = ask(running, "/v1/renew", asked)
    assert status == 403 and "shows the present certificate" in answer["message"]
    stranger = tmp_path / "stranger"
    other = create(tmp_path / "other", "shop", NOW)
    machine.keep(stranger, other, NODE, b"", NOW)
    (stranger / "ca.pem").write_bytes((running.folder / "ca.pem").read_bytes())
    with pytest.raises(Unanswered):  # TLS refuses it
        machine.renew(running.url, stranger, NOW, force=True)
    old = tmp_path / "old"
    machine.keep(old, load(running.folder), NODE, b"", NOW - 2 * LIFETIME)
    with pytest.raises(PkiError, match="is over since"):
        machine.renew(running.url, old, NOW)


def test_its_own_certificate_is_renewed_before_it_ends(running: Running, tmp_path: Path) -> None:
    before = x509.load_pem_x509_certificate((running.folder / "server.pem").read_bytes())
    running.slow = datetime.timedelta()
    running.door.refresh()
    after = x509.load_pem_x509_certificate((running.folder / "server.pem").read_bytes())
    assert after.not_valid_after_utc > before.not_valid_after_utc
    machine.join(running.url, running.token(), NODE, tmp_path / "node")


def test_who_says_nothing_hinders_nobody(running: Running, tmp_path: Path) -> None:
    port = running.door.server_address[1]
    silent = [socket.create_connection((HOST, port)) for _ in range(CONNECTIONS_MAX // 2)]
    try:
        machine.join(running.url, running.token(), NODE, tmp_path / "node")
    finally:
        for connection in silent:
            connection.close()


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/join", b"x" * 20_000, 413),
        ("/v1/join", b"[]", 400),
        ("/v1/join", b'{"request": "x", "token": "y"}', 403),
        ("/v1/else", b'{"request": "x"}', 403),
    ],
)
def test_nonsense_is_refused(running: Running, path: str, body: bytes, status: int) -> None:
    assert ask(running, path, body)[0] == status


def ask(
    running: Running, path: str, content: dict[str, str] | bytes, context: ssl.SSLContext | None = None
) -> tuple[int, dict[str, str]]:
    context = context or ssl.create_default_context(cafile=str(running.folder / "ca.pem"))
    connection = http.client.HTTPSConnection(running.url.removeprefix("https://"), context=context, timeout=10)
    with contextlib.closing(connection):
        connection.request("POST", path, content if isinstance(content, bytes) else json.dumps(content))
        with connection.getresponse() as response:
            answer: dict[str, str] = json.loads(response.read())
            return response.status, answer
