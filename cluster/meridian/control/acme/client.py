"""Speaks to an authority: RFC 8555, with the suggested time of renewal of RFC 9773.

Invariant: a message is never sent unsigned or over an unverified connection, and nobody is waited for longer than
`TIMEOUT_SECONDS`. Requests go out one at a time, in threads: they are a dozen for a certificate of months.
"""

import asyncio
import datetime
import email.utils
import http.client
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from meridian.control.acme import jws
from meridian.control.acme.errors import AcmeError
from meridian.control.acme.messages import Directory, Problem, RenewalInfo
from meridian.control.acme.pairs import name_of
from meridian.control.acme.records import Authority
from meridian.core.acme import Window

TIMEOUT_SECONDS = 20.0  # of one request: authorities are busy at full hours
BODY_BYTES_MAX = 256 * 1024  # a chain has some KiB
NONCES_MAX = 3  # an authority that likes none of them is asked again later
AGENT = "meridian"
_JOSE = "application/jose+json"
# After these the same order may be asked for again; whatever else an authority refuses of it, another one is made.
_PASSING = frozenset({"badNonce", "rateLimited", "serverInternal", "userActionRequired"})

Read = TypeVar("Read")


@dataclass(frozen=True, slots=True)
class Answer:
    """Of an authority; `body` is JSON."""

    body: bytes
    headers: Mapping[str, str]

    def read(self, kind: type[Read]) -> Read:
        """Raises AcmeError."""
        try:
            return msgspec.json.decode(self.body, type=kind)
        except msgspec.DecodeError as error:
            what = kind.__name__.lower()
            raise AcmeError(f"the authority answered no {what} ({error}); is `directory` right?", final=True) from None

    @property
    def wait_seconds(self) -> float | None:
        """What Retry-After says (RFC 9110 section 10.2.3); None if nothing."""
        said = self.headers.get("retry-after", "")
        if said.isascii() and said.isdecimal():
            return float(said)
        try:
            then = email.utils.parsedate_to_datetime(said).timestamp()
        except (ValueError, OverflowError):
            return None
        return max(0.0, then - datetime.datetime.now(datetime.UTC).timestamp())


class Client:
    """The cluster's account at one authority. `open` it first; one request at a time. All methods raise AcmeError."""

    def __init__(self, authority: Authority, key: ec.EllipticCurvePrivateKey) -> None:
        """Reads the system's authorities, some hundred milliseconds: not for a loop. Raises AcmeError for a `ca_file`
        that holds none."""
        self._authority, self._key = authority, key
        self.thumbprint = jws.thumbprint(key)
        self._directory = Directory("", "", "")
        self._account = ""
        self._nonce = ""
        self._tls = ssl.create_default_context()
        if authority.ca_pem is not None:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            try:
                self._tls.load_verify_locations(cadata=authority.ca_pem.decode("ascii", "replace"))
            except ssl.SSLError:
                raise AcmeError(f"acme: {authority.name}: ca_file holds no certificate in PEM") from None

    async def open(self) -> None:
        """Learns the authority's addresses, and the account's own: with a key that it knows none is made."""
        self._directory = (await self._send("GET", self._authority.directory)).read(Directory)
        url = self._directory.new_account
        account: dict[str, Any] = {"termsOfServiceAgreed": True}
        if self._authority.email is not None:
            account["contact"] = [f"mailto:{self._authority.email}"]
        if (external := self._authority.external) is not None:
            try:
                secret = jws.from_base64url(external.secret.decode("ascii").strip())
            except ValueError:
                raise AcmeError("external_account: key_file holds no key in base64url") from None
            account["externalAccountBinding"] = jws.bind(secret, external.key_id, url, self._key)
        answer = await self._post(url, account)
        self._account = _location(answer)

    @property
    def suggests(self) -> bool:
        """Whether the authority says when to renew (RFC 9773)."""
        return bool(self._directory.renewal_info)

    async def new_order(self, hosts: Sequence[str], replaces: x509.Certificate | None = None) -> str:
        """Begins an order and returns its address. `replaces`: the certificate that it renews (RFC 9773 section 5)."""
        url = self._directory.new_order
        order: dict[str, Any] = {"identifiers": [{"type": "dns", "value": host.lower().rstrip(".")} for host in hosts]}
        if replaces is not None and self.suggests:
            try:
                return _location(await self._post(url, {**order, "replaces": name_of(replaces)}))
            except AcmeError as error:
                if error.kind not in ("alreadyReplaced", "malformed"):  # of another account, or not known any more
                    raise
        return _location(await self._post(url, order))

    async def look(self, url: str, kind: type[Read]) -> tuple[Read, float | None]:
        """The present state of an order or an authorization, and when the authority wants to be asked again."""
        answer = await self._post(url, None)
        return answer.read(kind), answer.wait_seconds

    async def respond(self, challenge: str) -> None:
        """The proof is there: the authority may look."""
        await self._post(challenge, {})

    async def finalize(self, url: str, request_der: bytes) -> None:
        """Asks for the certificate of an order whose hosts are proven, by a PKCS #10 request."""
        await self._post(url, {"csr": jws.to_base64url(request_der)})

    async def chain(self, url: str) -> str:
        """The certificate and those that issued it, PEM."""
        return (await self._post(url, None)).body.decode("ascii", "replace")

    async def suggestion(self, certificate: x509.Certificate) -> tuple[Window | None, float | None]:
        """When to renew it, and in how many seconds to ask again; None for what the authority does not say."""
        if not self.suggests:
            return None, None
        answer = await self._send("GET", f"{self._directory.renewal_info.rstrip('/')}/{name_of(certificate)}")
        found = answer.read(RenewalInfo).suggested_window
        window = Window(found.start.timestamp(), found.end.timestamp())
        return (window if window.start < window.end else None), answer.wait_seconds

    async def _post(self, url: str, content: dict[str, Any] | None) -> Answer:
        """`content` None: POST-as-GET (RFC 8555 section 6.3)."""
        for tries_left in reversed(range(NONCES_MAX)):
            nonce, self._nonce = self._nonce or await self._new_nonce(), ""
            who: dict[str, Any] = {"kid": self._account} if self._account else {"jwk": jws.public_jwk(self._key)}
            payload = b"" if content is None else msgspec.json.encode(content)
            body = jws.sign(self._key, {**who, "nonce": nonce, "url": url}, payload)
            try:
                return await self._send("POST", url, body)
            except AcmeError as error:
                if error.kind != "badNonce" or not tries_left:
                    raise
        raise AssertionError("the last try returns or raises")

    async def _new_nonce(self) -> str:
        await self._send("HEAD", self._directory.new_nonce)
        if not self._nonce:
            raise AcmeError("the authority gave no nonce")
        return self._nonce

    async def _send(self, method: str, url: str, body: bytes | None = None) -> Answer:
        try:
            status, headers, content = await asyncio.to_thread(self._exchange, method, url, body)
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "verify_message", "") or str(error) or type(error).__name__
            raise AcmeError(f"{urlsplit(url).netloc} cannot be asked: {reason}") from None
        self._nonce = headers.get("replay-nonce", self._nonce)
        answer = Answer(content, headers)
        if status >= HTTPStatus.MULTIPLE_CHOICES:
            raise _refusal(status, answer)
        return answer

    def _exchange(self, method: str, url: str, body: bytes | None) -> tuple[int, dict[str, str], bytes]:
        """In a thread. Raises OSError, HTTPException."""
        parts = urlsplit(url)
        if parts.scheme != "https" or parts.hostname is None:
            raise OSError(f"{url!r} is no https address")
        connection = http.client.HTTPSConnection(parts.hostname, parts.port, timeout=TIMEOUT_SECONDS, context=self._tls)
        try:
            target = parts.path or "/"
            headers = {"User-Agent": AGENT, **({"Content-Type": _JOSE} if body is not None else {})}
            connection.request(method, f"{target}?{parts.query}" if parts.query else target, body, headers)
            response = connection.getresponse()
            content = response.read(BODY_BYTES_MAX + 1)
            if len(content) > BODY_BYTES_MAX:
                raise OSError(f"the answer is larger than {BODY_BYTES_MAX} bytes")
            return response.status, {name.lower(): value for name, value in response.getheaders()}, content
        finally:
            connection.close()


def _refusal(status: int, answer: Answer) -> AcmeError:
    try:
        problem = answer.read(Problem)
    except AcmeError:
        problem = Problem(detail=f"the authority answered {status}")
    final = status < HTTPStatus.INTERNAL_SERVER_ERROR and problem.kind not in _PASSING
    return AcmeError(str(problem), problem.kind, answer.wait_seconds or 0.0, final=final)


def _location(answer: Answer) -> str:
    found = answer.headers.get("location")
    if not found:
        raise AcmeError("the authority does not say where it put what was made (no Location)")
    return found
