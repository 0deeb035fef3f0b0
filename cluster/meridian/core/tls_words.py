"""What an operator may say of TLS, beside certificates and listeners."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from meridian.core.words import Word

Profile = Literal["intermediate", "modern"]
ServerName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]+$", max_length=255)]
Version = Literal["1.2", "1.3"]


class ClientCertificates(Word):
    """Certificates that clients of a listener show (mTLS). One that is shown must be good: of an authority in
    `ca_file`, in its time, for clients, not revoked; else the handshake fails. Whose it is, `authenticators` say."""

    ca_file: str = Field(description="PEM of the authorities that clients' certificates are of")
    required: bool = Field(default=True, description="false: clients may come without; routes can still refuse those")
    crl_file: str | None = Field(
        default=None, description="PEM of the authorities' revocation lists; with it every authority needs a fresh one"
    )
    forward: bool = Field(default=True, description="upstreams are told of it by Client-Cert (RFC 9440)")


class UpstreamTls(Word):
    """TLS to the endpoints of an upstream, and to its health probes. Endpoints are verified unless told otherwise:
    against the authorities in `ca_file`, or those that the node's system trusts."""

    verify: bool = Field(default=True, description="false: whoever answers is believed, so anybody on the way may read")
    server_name: ServerName | None = Field(
        default=None, description="that is asked for (SNI) and verified; without it the endpoint's host or address"
    )
    ca_file: str | None = Field(default=None, description="PEM of the authorities; without it the system's")
    cert_file: str | None = Field(default=None, description="PEM chain to show to endpoints that ask (mTLS)")
    key_file: str | None = Field(default=None, description="its PEM key without a password")
    min_version: Version = "1.2"

    @model_validator(mode="after")
    def _fits(self) -> "UpstreamTls":
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file come together: give both, or neither")
        if self.ca_file is not None and not self.verify:
            raise ValueError("ca_file is not used with verify: false; leave one of them out")
        return self
