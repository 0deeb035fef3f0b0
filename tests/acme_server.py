"""An authority for tests: RFC 8555 with RFC 9773, over TLS, made with certbot's own message classes (JWS by josepy),
cryptography and dnspython. It believes nobody: signatures, nonces and proofs are checked, over HTTP and DNS as a real
one would, at every address that it was given.

`behaviour` makes it difficult; `orders` and `issued` count what was asked of it.
"""

import contextlib
import datetime
import hashlib
import http.client
import json
import secrets
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import dns.message
import dns.query
import dns.rdatatype
import trustme
from acme import jws
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID
from josepy.json_util import decode_b64jose, encode_b64jose
from josepy.jwk import JWK, JWKOct

Address = tuple[str, int]
PROBLEM = "urn:ietf:params:acme:error:"
LOOK_SECONDS = 10.0  # for one look at a proof: as large authorities wait
LATER = (30 * 86_400.0, 31 * 86_400.0)
HELD_SECONDS = 60.0  # what holds a validation is let go of after this at the latest


class Problem(Exception):
    """An answer that refuses."""

    def __init__(self, status: int, kind: str, detail: str, retry_after: int = 0) -> None:
        super().__init__(detail)
        self.status, self.retry_after = status, retry_after
        self.body = {"type": PROBLEM + kind, "detail": detail, "status": status}


@dataclass
class Behaviour:
    """Counts of what goes wrong next, and where proofs are looked for.

    `window` (seconds from now) is when a certificate that replaces none should be renewed; None: the authority does not
    say. While `gate` is not set no proof is looked at, while `mint` is not set no certificate is made.
    """

    bad_nonces: int = 0
    rate_limits: int = 0
    retry_after: int = 1
    http: Sequence[Address] = ()
    dns: Sequence[Address] = ()
    offers: Sequence[str] = ("http-01", "dns-01")
    external: dict[str, bytes] | None = None  # accounts must be bound to one of these
    window: tuple[float, float] | None = None
    days: float = 90.0
    spoil: Callable[[str, Any], Any] = lambda path, body: body  # what it answers instead of what is right
    gate: threading.Event = field(default_factory=threading.Event)
    mint: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.gate.set()
        self.mint.set()


@dataclass
class Authorization:
    """Of one host, for one order."""

    host: str
    wildcard: bool
    token: str
    status: str = "pending"
    error: dict[str, Any] | None = None


@dataclass
class OrderState:
    """One order."""

    hosts: tuple[str, ...]
    authorizations: list[int]
    account: str
    replaces: str | None = None
    status: str = "pending"
    chain: bytes = b""


class AcmeServer:
    """See the module's head. Use `running`."""

    def __init__(self) -> None:
        self.behaviour = Behaviour()
        self.tls = trustme.CA()
        self.accounts: dict[str, JWK] = {}
        self.contacts: dict[str, list[str]] = {}
        self.authorizations: list[Authorization] = []
        self.orders: list[OrderState] = []
        self.issued: list[x509.Certificate] = []
        self.windows: dict[str, tuple[float, float]] = {}
        self.looked: list[Address] = []
        self.looking = 0  # how often it was told that a proof is there
        self._nonces: set[str] = set()
        self._lock = threading.RLock()
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"test authority {secrets.token_hex(4)}")])
        self.root = _certificate(name, name, self._key, self._key, 3650.0, None)
        server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.issue_cert("127.0.0.1").configure_cert(context)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.acme = self  # type: ignore[attr-defined]
        self._server = server
        self.base = f"https://127.0.0.1:{server.server_port}"
        self._thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def directory(self) -> str:
        """Its address."""
        return f"{self.base}/directory"

    @property
    def ca_pem(self) -> bytes:
        """What its own TLS is trusted by."""
        return self.tls.cert_pem.bytes()

    @property
    def root_pem(self) -> str:
        """What its certificates are trusted by."""
        return self.root.public_bytes(serialization.Encoding.PEM).decode()

    def start(self) -> None:
        """Answers from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Answers no more."""
        self.behaviour.gate.set()
        self.behaviour.mint.set()
        self._server.shutdown()
        self._server.server_close()

    # Resources; all return (status, headers, body)

    def nonce(self) -> str:
        """One to be used once."""
        with self._lock:
            nonce = secrets.token_urlsafe(16)
            self._nonces.add(nonce)
            return nonce

    def get(self, path: str) -> tuple[int, dict[str, str], Any]:
        """What needs no account."""
        if path == "/directory":
            found = {name: f"{self.base}/{name}" for name in ("newNonce", "newAccount", "newOrder")}
            if self.behaviour.window is not None:
                found["renewalInfo"] = f"{self.base}/renewal"
            meta = {"externalAccountRequired": self.behaviour.external is not None}
            return 200, {}, {**found, "meta": meta}
        if path == "/newNonce":
            return 204, {}, None
        if path.startswith("/renewal/") and (window := self.windows.get(path.removeprefix("/renewal/"))):
            start, end = (datetime.datetime.fromtimestamp(at, datetime.UTC).isoformat() for at in window)
            return 200, {"Retry-After": "3600"}, {"suggestedWindow": {"start": start, "end": end}}
        raise Problem(404, "malformed", "no such resource")

    def post(self, path: str, raw: bytes) -> tuple[int, dict[str, str], Any]:
        """A signed request."""
        with self._lock:
            message = jws.JWS.json_loads(raw.decode())
            header = message.signature.combined
            if header.url != self.base + path:
                raise Problem(401, "unauthorized", "signed for another address")
            nonce = encode_b64jose(header.nonce)
            if nonce not in self._nonces or self._took("bad_nonces"):
                self._nonces.discard(nonce)
                raise Problem(400, "badNonce", "this nonce is not known")
            self._nonces.discard(nonce)
            if path == "/newAccount":
                return self._new_account(message, header.jwk)
            account = header.kid
            if account not in self.accounts or not message.verify(self.accounts[account]):
                raise Problem(401, "accountDoesNotExist", "who are you?")
            payload = json.loads(message.payload) if message.payload else None
            return self._of_account(path, account, payload)

    def _took(self, what: str) -> bool:
        left: int = getattr(self.behaviour, what)
        setattr(self.behaviour, what, max(0, left - 1))
        return left > 0

    def _new_account(self, message: jws.JWS, key: JWK) -> tuple[int, dict[str, str], Any]:
        if not message.verify(key):
            raise Problem(401, "unauthorized", "the signature is not that of the key")
        wanted = json.loads(message.payload)
        account = f"{self.base}/account/{encode_b64jose(key.thumbprint())}"
        known = account in self.accounts
        if not known:
            if wanted.get("onlyReturnExisting"):
                raise Problem(400, "accountDoesNotExist", "there is none")
            if not wanted.get("termsOfServiceAgreed"):
                raise Problem(403, "userActionRequired", "agree to the terms")
            if self.behaviour.external is not None:
                self._check_binding(wanted.get("externalAccountBinding"), key)
            self.accounts[account] = key.public_key()
            self.contacts[account] = wanted.get("contact", [])
        return 200 if known else 201, {"Location": account}, {"status": "valid", "contact": self.contacts[account]}

    def _check_binding(self, binding: Any, key: JWK) -> None:
        assert self.behaviour.external is not None
        if binding is None:
            raise Problem(403, "externalAccountRequired", "bind the account to one that is known here")
        message = jws.JWS.from_json(binding)
        secret = self.behaviour.external.get(message.signature.combined.kid)
        if secret is None or not message.verify(JWKOct(key=secret)):
            raise Problem(403, "unauthorized", "the binding is not signed by that account")
        if JWK.from_json(json.loads(message.payload)) != key.public_key():
            raise Problem(403, "malformed", "the binding is of another key")

    def _of_account(self, path: str, account: str, payload: Any) -> tuple[int, dict[str, str], Any]:
        kind, _, rest = path.removeprefix("/").partition("/")
        if kind == "newOrder":
            return self._new_order(account, payload)
        number, _, verb = rest.partition("/")
        if kind == "authorization":
            found = self.authorizations[int(number)]
            if verb and payload == {} and found.status == "pending":
                threading.Thread(target=self._validate, args=(found, verb, account), daemon=True).start()
            if verb:
                return 200, {}, self._challenge(int(number), verb)
            return 200, {}, self._authorization(int(number))
        order = self.orders[int(number)]
        if order.account != account:
            raise Problem(403, "unauthorized", "not yours")
        if verb == "finalize":
            self._finalize(order, decode_b64jose(payload["csr"]))
        if verb == "certificate":
            return 200, {"Content-Type": "application/pem-certificate-chain"}, order.chain
        return 200, {"Location": f"{self.base}/order/{number}"}, self._order(int(number))

    def _new_order(self, account: str, payload: Any) -> tuple[int, dict[str, str], Any]:
        if self._took("rate_limits"):
            raise Problem(429, "rateLimited", "too many new orders", self.behaviour.retry_after)
        replaces = payload.get("replaces")
        if replaces is not None and any(order.replaces == replaces for order in self.orders if order.status == "valid"):
            raise Problem(409, "alreadyReplaced", "that certificate has been replaced")
        hosts = tuple(one["value"] for one in payload["identifiers"])
        first = len(self.authorizations)
        for host in hosts:
            plain = host.removeprefix("*.")
            self.authorizations.append(Authorization(plain, plain != host, secrets.token_urlsafe(24)))
        numbers = list(range(first, first + len(hosts)))
        self.orders.append(OrderState(hosts, numbers, account, replaces))
        number = len(self.orders) - 1
        return 201, {"Location": f"{self.base}/order/{number}"}, self._order(number)

    def _order(self, number: int) -> dict[str, Any]:
        order, url = self.orders[number], f"{self.base}/order/{number}"
        proven = [self.authorizations[i].status for i in order.authorizations]
        if order.status == "pending" and "invalid" in proven:
            order.status = "invalid"
        if order.status == "pending" and set(proven) == {"valid"}:
            order.status = "ready"
        found: dict[str, Any] = {
            "status": order.status,
            "identifiers": [{"type": "dns", "value": host} for host in order.hosts],
            "authorizations": [f"{self.base}/authorization/{i}" for i in order.authorizations],
            "finalize": f"{url}/finalize",
        }
        if order.status == "valid":
            found["certificate"] = f"{url}/certificate"
        return found

    def _authorization(self, number: int) -> dict[str, Any]:
        found = self.authorizations[number]
        kinds = ["dns-01"] if found.wildcard else self.behaviour.offers
        return {
            "status": found.status,
            "identifier": {"type": "dns", "value": found.host},
            "challenges": [self._challenge(number, kind) for kind in kinds],
            **({"wildcard": True} if found.wildcard else {}),
        }

    def _challenge(self, number: int, kind: str) -> dict[str, Any]:
        found = self.authorizations[number]
        url = f"{self.base}/authorization/{number}/{kind}"
        body = {"type": kind, "url": url, "token": found.token, "status": found.status}
        return body if found.error is None else {**body, "error": found.error}

    def _validate(self, found: Authorization, kind: str, account: str) -> None:
        self.looking += 1
        self.behaviour.gate.wait(HELD_SECONDS)
        proof = f"{found.token}.{encode_b64jose(self.accounts[account].thumbprint())}"
        try:
            if kind == "http-01":
                for address in self.behaviour.http:
                    self._look_over_http(address, found, proof)
            else:
                for address in self.behaviour.dns:
                    self._look_in_dns(address, found, proof)
        except (OSError, http.client.HTTPException, dns.exception.DNSException, AssertionError) as error:
            with self._lock:
                found.error = {"type": f"{PROBLEM}unauthorized", "detail": str(error)}
                found.status = "invalid"
            return
        with self._lock:
            found.status = "valid"

    def _look_over_http(self, address: Address, found: Authorization, proof: str) -> None:
        self.looked.append(address)
        connection = http.client.HTTPConnection(*address, timeout=LOOK_SECONDS)
        try:
            connection.request("GET", f"/.well-known/acme-challenge/{found.token}", headers={"Host": found.host})
            answer = connection.getresponse()
            content = answer.read(1024).decode().rstrip()
            assert answer.status == 200 and content == proof, f"{address} answered {answer.status} {content[:40]!r}"
        finally:
            connection.close()

    def _look_in_dns(self, address: Address, found: Authorization, proof: str) -> None:
        self.looked.append(address)
        wanted = encode_b64jose(hashlib.sha256(proof.encode()).digest())
        question = dns.message.make_query(f"_acme-challenge.{found.host}.", "TXT")
        answer = dns.query.udp(question, address[0], LOOK_SECONDS, address[1])
        texts = [
            b"".join(rdata.strings).decode()
            for rrset in answer.answer
            if rrset.rdtype == dns.rdatatype.TXT
            for rdata in rrset
        ]
        assert wanted in texts, f"{address} answered {texts}, not {wanted}"

    def _finalize(self, order: OrderState, der: bytes) -> None:
        if order.status != "ready":
            raise Problem(403, "orderNotReady", order.status)
        request = x509.load_der_x509_csr(der)
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        hosts = names.get_values_for_type(x509.DNSName)
        if not request.is_signature_valid or sorted(hosts) != sorted(order.hosts):
            raise Problem(400, "badCSR", "not for the hosts of this order")
        order.status = "processing"
        threading.Thread(target=self._issue, args=(order, request), daemon=True).start()

    def _issue(self, order: OrderState, request: x509.CertificateSigningRequest) -> None:
        self.behaviour.mint.wait(HELD_SECONDS)
        with self._lock:
            leaf = _certificate(
                x509.Name([]), self.root.subject, request.public_key(), self._key, self.behaviour.days, order.hosts
            )
            self.issued.append(leaf)
            if self.behaviour.window is not None:
                now = datetime.datetime.now(datetime.UTC).timestamp()
                start, end = self.behaviour.window if order.replaces is None else LATER
                self.windows[renewal_name(leaf)] = (now + start, now + end)
            order.chain = leaf.public_bytes(serialization.Encoding.PEM) + self.root_pem.encode()
            order.status = "valid"


def renewal_name(leaf: x509.Certificate) -> str:
    """RFC 9773 section 4.1, from the certificate's DER."""
    issuer = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    assert issuer is not None
    serial = leaf.serial_number
    length = (serial.bit_length() + 8) // 8
    return f"{encode_b64jose(issuer)}.{encode_b64jose(serial.to_bytes(length, 'big'))}"


@contextlib.contextmanager
def running() -> Iterator[AcmeServer]:
    """An authority that answers until the end."""
    server = AcmeServer()
    server.start()
    try:
        yield server
    finally:
        server.stop()


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: Any, issuer_key: Any, days: float, hosts: Sequence[str] | None
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    public = key.public_key() if hosts is None else key
    builder = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=1)).not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )  # fmt: skip
    if hosts is None:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    else:
        names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
        builder = builder.add_extension(names, critical=True)
    return builder.sign(issuer_key, SHA256())


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 5

    @property
    def _acme(self) -> AcmeServer:
        found: AcmeServer = self.server.acme  # type: ignore[attr-defined]
        return found

    def do_GET(self) -> None:
        self._reply(lambda: self._acme.get(self.path))

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self._reply(lambda: self._acme.post(self.path, body))

    def _reply(self, work: Any) -> None:
        headers: dict[str, str]
        try:
            status, headers, found = work()
        except Problem as problem:
            status, found = problem.status, problem.body
            headers = {"Content-Type": "application/problem+json"}
            if problem.retry_after:
                headers["Retry-After"] = str(problem.retry_after)
        found = self._acme.behaviour.spoil(self.path, found)
        content = found if isinstance(found, bytes) else b"" if found is None else json.dumps(found).encode()
        self.send_response(status)
        up = f'<{self._acme.base}{self.path.rpartition("/")[0]}>;rel="up"'
        for name, value in {
            "Content-Type": "application/json", "Replay-Nonce": self._acme.nonce(), "Link": up,
            "Content-Length": str(len(content)), **headers,
        }.items():  # fmt: skip
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        """Says nothing."""
