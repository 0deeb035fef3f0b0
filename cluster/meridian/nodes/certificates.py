"""Certificates that the cluster obtains, as the agent sees them: between document, control plane and API. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

from meridian.admin.status import CertificateStatus
from meridian.control.acme import keeper
from meridian.control.acme.records import Authority, External, Wish
from meridian.core import acme_words, model
from meridian.core.acme import certificate_id
from meridian.telemetry.metrics import Series


def certificate_wishes(document: model.Document, files: Mapping[str, bytes]) -> Iterator[Wish]:
    """What a document wants to be obtained; `files` are those that it names."""
    authorities = {words.name: _authority(words, files) for words in document.acme}
    for certificate in document.certificates:
        if certificate.acme is not None:
            authority = authorities[certificate.acme]
            yield Wish(certificate_id(authority.directory, certificate.hosts), certificate.hosts, authority)


def _authority(words: acme_words.Acme, files: Mapping[str, bytes]) -> Authority:
    external = words.external_account
    return Authority(
        words.name,
        words.directory,
        words.challenge,
        words.email,
        files[words.ca_file] if words.ca_file is not None else None,
        External(external.key_id, files[external.key_file]) if external is not None else None,
        words.orders_per_hour,
    )


def certificates_status(found: Sequence[keeper.CertificateStatus], now: float) -> tuple[CertificateStatus, ...]:
    """What an operator is told of them; `now` is in seconds since 1970."""
    return tuple(
        CertificateStatus(
            hosts=one.hosts,
            authority=one.authority,
            state="valid" if one.not_after > now else "expired" if one.not_after else "missing",
            not_after=_when(one.not_after),
            renew_at=_when(one.renew_at),
            reason=one.reason,
            try_at=_when(one.try_at),
        )
        for one in found
    )


def certificate_series(found: Sequence[keeper.CertificateStatus]) -> Iterator[Series]:
    """The same as metrics, for alerts."""
    for one in found:
        labels = {"certificate": one.hosts[0], "authority": one.authority}
        help = "When the certificate that is served ends, in seconds since 1970; 0: there is none yet."
        yield Series("meridian_certificate_expires_seconds", "gauge", help, labels, one.not_after)
        help = "Whether it is not there, or not renewed in time; status says why."
        yield Series("meridian_certificate_late", "gauge", help, labels, float(bool(one.reason)))


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds") if seconds else ""
