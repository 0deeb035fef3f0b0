"""Where a node is reached: what its member record says to other nodes and to operators."""

import ipaddress

from meridian.control.members import Endpoints
from meridian.nodes.config_flow import Reading
from meridian.nodes.settings import Settings


def endpoints_of(settings: Settings, reading: Reading | None) -> Endpoints:
    """As others should dial it; listeners are those of the document in force, none before there is one."""
    own = settings.address or settings.advertise[0]
    listeners = reading.snapshot.listeners if reading is not None and not settings.witness else ()

    def first(tls: bool) -> str:
        for listener in listeners:
            if listener.tls is tls and {"h1", "h2"} & set(listener.protocols):
                host = settings.bound_host(listener.host)
                return _join(own if ipaddress.ip_address(host).is_unspecified else host, listener.port)
        return ""

    return Endpoints(
        http=first(False),
        https=first(True),
        dns=_join(own, settings.dns_port) if settings.dns_port else "",
        admin=_join(settings.bound_host(settings.admin_host), settings.admin_port),
        peer=_join(settings.peer_address or own, settings.peer_port) if settings.peer_cert else "",
    )


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
