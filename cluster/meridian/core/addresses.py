"""Addresses, networks and places as operators write them, checked."""

import ipaddress
import re


def split_host_port(text: str) -> tuple[str, int]:
    """Splits `host:port` or `[v6]:port`; raises ValueError that says what is wrong."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit():
        raise ValueError(f"{text!r} is not host:port, for example 10.1.0.11:8000 or [2001:db8::1]:8000")
    if not 0 < int(port) < 65536:
        raise ValueError(f"{text!r}: the port must be between 1 and 65535")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        ipaddress.IPv6Address(host)
    elif ":" in host:
        raise ValueError(f"{text!r}: write an IPv6 address in brackets, [{host}]:{port}")
    return host, int(port)


def split_dns_address(text: str) -> tuple[str, int]:
    """Splits an IP address with or without a port, which is 53 if absent; raises ValueError that says what is wrong."""
    try:
        return str(ipaddress.ip_address(text)), 53
    except ValueError:
        pass
    try:
        host, port = split_host_port(text)
        return str(ipaddress.ip_address(host)), port
    except ValueError:
        raise ValueError(
            f"{text!r} is not an IP address, such as 192.0.2.53, 192.0.2.53:5353 or [2001:db8::53]:5353"
        ) from None


def checked_address(text: str) -> str:
    split_host_port(text)
    return text


def checked_bind(text: str) -> str:
    host, _ = split_host_port(text)
    ipaddress.ip_address(host)
    return text


def checked_ip(text: str) -> str:
    ipaddress.ip_address(text)
    return text


def checked_network(text: str) -> str:
    ipaddress.ip_network(text)
    return text


def checked_near(text: str) -> str:
    if re.match(r"^(continent|country)/[A-Z]{2}$", text):
        return text
    try:
        return checked_network(text)
    except ValueError:
        raise ValueError(f"{text!r} is neither continent/EU, country/TR nor a network such as 203.0.113.0/24") from None
