"""Clients' certificates over HTTP/1.1, HTTP/2 and HTTP/3: which are taken, whose they are, what upstreams are told."""

import asyncio
import base64
import dataclasses
import datetime
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import curl_cffi
import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from tests.gateway.echoing import authority
from tests.gateway.harness import Running, document, hello, origin, secure, upstream
from tests.support import wait_until

from meridian.core.snapshot import ClientAuth, Snapshot
from meridian.gateway.client_certificate import client_certificate

VERSIONS = {"1.1": "v1", "2": "v2tls", "3": "v3only"}
NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)
CLIENTS = trustme.CA()


def der_of(leaf: trustme.LeafCert) -> bytes:
    found = x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes())
    return found.public_bytes(serialization.Encoding.DER)


class Asker:
    """A client with its certificate in files, or without one."""

    def __init__(self, folder: Path, port: int, ca: str, leaf: trustme.LeafCert | None) -> None:
        self._port, self._ca, self._cert = port, ca, None
        if leaf is not None:
            chain, key = folder / "client.pem", folder / "client.key"
            chain.write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
            key.write_bytes(leaf.private_key_pem.bytes())
            self._cert = (str(chain), str(key))

    async def ask(self, version: str, path: str = "/", **fields: str) -> Any:
        async with curl_cffi.AsyncSession(verify=self._ca, trust_env=False) as session:  # type: ignore[arg-type] # or a path
            return await session.request(
                "GET", f"https://localhost:{self._port}{path}", http_version=VERSIONS[version], timeout=10,
                cert=self._cert, headers=fields,
            )  # fmt: skip


CONSUMERS = [
    {"name": "shop", "certificates": ["dns:shop.clients.example"]},
    {"name": "anyone", "certificates": ["dns:*.clients.example", "uri:spiffe://corp.example/ns/*"]},
]
ROUTES: list[dict[str, Any]] = [
    {"name": "all", "upstream": "app"},
    {"name": "known", "match": {"path_prefix": "/known"}, "upstream": "app", "stages": [{"authenticate": "certs"}]},
]


@asynccontextmanager
async def asked(port: int, *, required: bool = True, **more: Any) -> AsyncIterator[tuple[Running, str]]:
    auth = ClientAuth(CLIENTS.cert_pem.bytes(), required, **more)

    def make(own: int) -> Snapshot:
        # The document wants a listener that asks; the harness serves its own.
        listener = {"protocols": ["h2"], "client_certificates": {"ca_file": "clients.pem"}}
        made = document(
            own, [upstream(port)], ROUTES, listener=listener, files={"clients.pem": b"", "a": b""},
            certificates=[{"hosts": ["a.example"], "cert_file": "a", "key_file": "a"}],
            authenticators=[{"name": "certs", "consumers": CONSUMERS}],
        )  # fmt: skip
        return dataclasses.replace(made, listeners=(dataclasses.replace(made.listeners[0], client_auth=auth),))

    async with secure(make=make) as (running, ca):
        yield running, ca


@pytest.mark.parametrize("version", VERSIONS)
async def test_whose_it_is_reaches_limits_and_the_upstream(version: str, tmp_path: Path) -> None:
    leaf = CLIENTS.issue_cert("shop.clients.example")
    async with origin(hello) as app, asked(app, required=False) as (running, ca):
        known = Asker(tmp_path, running.port, ca, leaf)
        forged = {"client-cert": ":Zm9yZ2Vk:", "x-consumer": "root"}
        answer = await known.ask(version, "/known", **forged)
        assert answer.status_code == 200
        assert b"client-cert: :" + base64.b64encode(der_of(leaf)) + b":\r\n" in answer.content
        assert answer.content.count(b"client-cert") == 1 and b"x-consumer: shop\r\n" in answer.content
        nobody = Asker(tmp_path, running.port, ca, None)
        answer = await nobody.ask(version, "/", **forged)
        assert answer.status_code == 200 and b"client-cert" not in answer.content
        answer = await nobody.ask(version, "/known", **forged)
        assert answer.status_code == 403 and b"needs a client certificate" in answer.content
        stranger = Asker(tmp_path, running.port, ca, CLIENTS.issue_cert("elsewhere.example"))
        assert (await stranger.ask(version)).status_code == 200
        answer = await stranger.ask(version, "/known")
        assert answer.status_code == 403 and b"may not ask" in answer.content
        whys = [outcome.why for outcome in running.seen.outcomes]
        assert whys == ["", "", "no_certificate", "", "unknown_certificate"]


@pytest.mark.parametrize("version", VERSIONS)
async def test_what_is_not_good_is_refused_in_the_handshake(version: str, tmp_path: Path) -> None:
    revoked = CLIENTS.issue_cert("revoked.clients.example")
    serial = x509.load_pem_x509_certificate(revoked.cert_chain_pems[0].bytes()).serial_number
    root = x509.load_pem_x509_certificate(CLIENTS.cert_pem.bytes())
    key = serialization.load_pem_private_key(CLIENTS.private_key_pem.bytes(), password=None)
    entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(NOW - DAY).build()
    lists = x509.CertificateRevocationListBuilder().issuer_name(root.subject).last_update(NOW - DAY)
    crl = lists.next_update(NOW + DAY).add_revoked_certificate(entry).sign(key, hashes.SHA256())  # type: ignore[arg-type] # EC
    crl_pem = crl.public_bytes(serialization.Encoding.PEM)
    old = CLIENTS.issue_cert("a.clients.example", not_before=NOW - 2 * DAY, not_after=NOW - DAY)
    async with origin(hello) as app, asked(app, crl_pem=crl_pem) as (running, ca):
        good = Asker(tmp_path, running.port, ca, CLIENTS.issue_cert("a.clients.example"))
        assert (await good.ask(version)).status_code == 200
        bad = {"none": None, "expired": old, "revoked": revoked, "stranger": trustme.CA().issue_cert("b.example")}
        for what, leaf in bad.items():
            with pytest.raises(curl_cffi.requests.RequestsError):
                await Asker(tmp_path, running.port, ca, leaf).ask(version)
            assert len(running.seen.outcomes) == 1, what
        await wait_until(lambda: not running.gateway.active, within_seconds=5, what="all over")


@pytest.mark.parametrize("protocol", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("fault", "said"), [("none", "REQUIRED|HANDSHAKE_FAILURE"), ("expired", "EXPIRED"), ("stranger", "UNKNOWN_CA")]
)
async def test_a_client_hears_why(fault: str, said: str, protocol: ssl.TLSVersion) -> None:
    """And not only that the connection ended, which is what the loop would let it see."""
    leaf = {
        "none": None,
        "expired": CLIENTS.issue_cert("a.example", not_before=NOW - 2 * DAY, not_after=NOW - DAY),
        "stranger": trustme.CA().issue_cert("a.example"),
    }[fault]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority().configure_trust(context)
    context.minimum_version = context.maximum_version = protocol
    if leaf is not None:
        leaf.configure_cert(context)
    async with origin(hello) as app, asked(app) as (running, _):
        with pytest.raises(ssl.SSLError, match=said):
            reader, writer = await asyncio.open_connection("localhost", running.port, ssl=context)
            try:
                assert await asyncio.wait_for(reader.read(1), 5)
            finally:
                writer.transport.abort()


def test_names_of_a_certificate() -> None:
    leaf = CLIENTS.issue_cert(
        "Shop.Example.com", "192.0.2.1", "shop@example.com", common_name="Shop", organization_name="Corp"
    )
    names = client_certificate(der_of(leaf)).names
    assert {"dns:shop.example.com", "ip:192.0.2.1", "email:shop@example.com", "cn:Shop"} <= set(names)
    assert names[0].startswith("sha256:") and names[-1].startswith("subject:") and "O=Corp" in names[-1]
    assert client_certificate(b"no certificate").names[1:] == ()
