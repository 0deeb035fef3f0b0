"""What a machine must have for a node, and how to give it that."""

import ctypes
import datetime
import os
import resource
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from meridian.cli.doctor import Finding
from meridian.cli.local_probe import http_answers, taken

if TYPE_CHECKING:
    from cryptography import x509

    from meridian.nodes.settings import Settings

FILES_MIN = 65536  # two descriptors for each of 30,000 exchanges
UDP_BUFFER_BYTES = 2 * 1024 * 1024  # what nodes/sockets.py asks for
BACKLOG_MIN = 1024
DISK_BYTES_MIN = 512 * 1024**2
UNSYNCHRONISED = 5  # TIME_ERROR of adjtimex(2)


def machine(settings: "Settings | None") -> Iterator[Finding]:
    """Looks at this machine; at ports, files and addresses only if the node's flags are known."""
    yield _clock()
    yield _open_files()
    yield from _kernel()
    if settings is None:
        return
    yield _disk(Path(settings.state))
    yield from _addresses(settings)
    yield from _ports(settings)
    now = datetime.datetime.now(datetime.UTC)
    for use in ("peer", "etcd"):
        files = [getattr(settings, f"{use}_{part}") for part in ("ca", "cert", "key")]
        if all(files):
            ca, chain, key = (Path(file) for file in files)
            yield certificate(use, ca, chain, key, now, settings.peer_address or settings.address)
        elif settings.etcd and use == "peer":
            yield Finding("error", "certificates", "--peer-ca, --peer-cert and --peer-key are missing",
                          "join the cluster: meridian pki join")  # fmt: skip


def _clock() -> Finding:
    """Whether the kernel's clock is kept by NTP: adjtimex(2) with no modes only asks."""
    timex = ctypes.create_string_buffer(512)
    state = ctypes.CDLL(None).adjtimex(timex)
    if state == UNSYNCHRONISED:
        return Finding("warning", "clock", "the kernel says that nothing synchronises it",
                       "apt-get install chrony; limits assume rates within 1 %, certificates minutes")  # fmt: skip
    return Finding("ok", "clock", "is synchronised")


def _open_files() -> Finding:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if most < FILES_MIN:
        return Finding("warning", "open files", f"{most} for one process, of this shell at least",
                       f"LimitNOFILE={FILES_MIN} or more in the unit; meridian.service has it")  # fmt: skip
    return Finding("ok", "open files", f"{most} for one process")


def _kernel() -> Iterator[Finding]:
    for name, least, why in (
        ("net.core.rmem_max", UDP_BUFFER_BYTES, "bursts of DNS and HTTP/3 are lost"),
        ("net.core.somaxconn", BACKLOG_MIN, "connections are refused while a worker restarts"),
    ):
        try:
            value = int(Path("/proc/sys", *name.split(".")).read_text())
        except (OSError, ValueError):
            continue  # of another network namespace than the first
        if value < least:
            yield Finding("warning", name, f"is {value}, less than {least}: {why}", f"sysctl -w {name}={least}")
        else:
            yield Finding("ok", name, str(value))


def _disk(state: Path) -> Finding:
    place = next(folder for folder in (state, *state.parents) if folder.is_dir())
    free = shutil.disk_usage(place).free
    if free < DISK_BYTES_MIN:
        return Finding("error", "disk", f"{free >> 20} MiB are free at {place}", "make room, or name another --state")
    if state.is_dir() and not os.access(state, os.W_OK):
        return Finding("error", "disk", f"{state} may not be written by this user", "run it as the node's user")
    return Finding("ok", "disk", f"{free >> 20} MiB are free at {place}")


def _addresses(settings: "Settings") -> Iterator[Finding]:
    for flag, address in (("--address", settings.address), ("--peer-address", settings.peer_address)):
        if address is None:
            continue
        if reason := taken(address, 0):
            yield Finding("error", "address", f"{flag} {reason}", "name an address of this machine: ip addr")
        else:
            yield Finding("ok", "address", address)


def _ports(settings: "Settings") -> Iterator[Finding]:
    """Free, or held by the node that runs here already."""
    host = settings.address or "0.0.0.0"
    admin = settings.bound_host(settings.admin_host)
    runs = http_answers(f"{'127.0.0.1' if admin == '0.0.0.0' else admin}:{settings.admin_port}", "/healthz") == ""
    if runs:
        yield Finding("ok", "ports", "a node runs here and holds them")
        return
    peers = settings.peer_address or host
    wanted = [(peers, settings.peer_port, socket.SOCK_STREAM, "--peer-port")] if settings.etcd else []
    wanted.append((admin, settings.admin_port, socket.SOCK_STREAM, "--admin-port"))
    for port, flag in ((settings.dns_port, "--dns-port"), (settings.dns_tls_port, "--dns-tls-port")):
        if port:
            wanted.append((host, port, socket.SOCK_STREAM, flag))
    if settings.dns_port:
        wanted.append((host, settings.dns_port, socket.SOCK_DGRAM, "--dns-port"))
    for address, port, kind, flag in wanted:
        if reason := taken(address, port, kind):
            letter = "t" if kind is socket.SOCK_STREAM else "u"
            remedy = f"see who holds it: ss -l{letter}np 'sport = :{port}'"
            if "Permission" in reason:
                remedy = "ask as root, or as the unit does: with CAP_NET_BIND_SERVICE"
            elif port == 53:
                remedy += "; systemd-resolved gives it up with DNSStubListener=no"
            yield Finding("error", flag, reason, remedy)
        else:
            yield Finding("ok", flag, f"{address}:{port} is free")


def certificate(use: str, ca: Path, chain: Path, key: Path, now: datetime.datetime, address: str | None) -> Finding:
    """Whether a certificate is in time, of its authority, has its key, and names the address that peers dial."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import serialization

    about = f"certificate for {'etcd' if use == 'etcd' else 'peers'}"
    anew = "join anew: remove it, then meridian pki join"
    try:
        if key.stat().st_mode & 0o077:
            return Finding("error", about, f"others may read {key}", f"chmod 600 {key}")
        found = x509.load_pem_x509_certificate(chain.read_bytes())
        authorities = x509.load_pem_x509_certificates(ca.read_bytes())
        private = serialization.load_pem_private_key(key.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        return Finding("error", about, f"cannot be read: {error}", anew)
    if private.public_key() != found.public_key():
        return Finding("error", about, f"{key} is not the key of {chain}", anew)
    if now >= found.not_valid_after_utc:
        return Finding("error", about, f"is over since {found.not_valid_after_utc:%Y-%m-%d %H:%M} UTC", anew)
    if now < found.not_valid_before_utc:
        return Finding("error", about, "is not valid yet", "set this machine's clock")
    for authority in authorities:
        try:
            found.verify_directly_issued_by(authority)
            break
        except (ValueError, TypeError, InvalidSignature):
            continue
    else:
        return Finding("error", about, f"is not of an authority in {ca}", anew)
    if address is not None and not _names(found, address):
        return Finding("error", about, f"does not name {address}, where others dial this node", anew)
    left = found.not_valid_after_utc - now
    if left < (found.not_valid_after_utc - found.not_valid_before_utc) / 2:
        remedy = "see: systemctl status 'meridian-renew@*'; by hand: meridian pki renew"
        return Finding("warning", about, f"ends in {left.days} days and should have been renewed", remedy)
    return Finding("ok", about, f"is good for {left.days} days")


def _names(certificate: "x509.Certificate", address: str) -> bool:
    from cryptography import x509

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    return address in {str(one) for one in names.get_values_for_type(x509.IPAddress)}
