"""Looks at the local cluster from outside: does it listen, does it answer. Each look is short and never raises."""

import http.client
import json
import os
import socket
import ssl
import struct

from meridian.cli.local_state import LocalCluster, LocalEtcd, LocalNode, LocalPaths

TIMEOUT_SECONDS = 1.0


def taken(address: str, port: int, kind: socket.SocketKind = socket.SOCK_STREAM) -> str:
    """Why this port cannot be listened on; empty if it can."""
    with socket.socket(socket.AF_INET, kind) as probe:
        if kind is socket.SOCK_STREAM:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do: TIME_WAIT is no owner
        try:
            probe.bind((address, port))
        except OSError as error:
            return f"{address}:{port}: {error.strerror}"
    return ""


def etcd_healthy(paths: LocalPaths, member: LocalEtcd) -> str:
    """Why this member is not healthy; empty if it is (its own judgement: it has a leader and can commit)."""
    context = ssl.create_default_context(cafile=str(paths.cluster_ca))
    context.load_cert_chain(paths.certificate(member.name), paths.key(member.name))
    host, port = member.endpoint.removeprefix("https://").rsplit(":", 1)
    connection = http.client.HTTPSConnection(host, int(port), timeout=TIMEOUT_SECONDS, context=context)
    try:
        connection.request("GET", "/health")
        answer = json.loads(connection.getresponse().read(4096))
        return "" if answer.get("health") == "true" else f"{member.name} says it is not healthy"
    except (OSError, http.client.HTTPException, ValueError) as error:
        return f"{member.name} does not answer at {member.endpoint}: {error}"
    finally:
        connection.close()


def http_answers(host_port: str, path: str) -> str:
    """Why there is no HTTP answer below 500; empty if there is."""
    connection = http.client.HTTPConnection(host_port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", path)
        status = connection.getresponse().status
        return "" if status < 500 else f"http://{host_port}{path} answers {status}"
    except (OSError, http.client.HTTPException) as error:
        return f"http://{host_port} does not answer: {error or type(error).__name__}"
    finally:
        connection.close()


def tls_answers(host_port: str) -> str:
    """Why there is no TLS handshake; empty if there is. Whose certificate it is does not matter here: it may be the
    operator's own, for names we do not know."""
    host, port = host_port.rsplit(":", 1)
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection((host, int(port)), TIMEOUT_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname="localhost"),
        ):
            return ""
    except OSError as error:
        return f"https://{host_port} does not answer: {error}"


def dns_answers(host_port: str, zone: str) -> str:
    """Why the server does not answer with authority for `zone`; empty if it does (RFC 1035, 4.1.1)."""
    host, port = host_port.rsplit(":", 1)
    query_id = int.from_bytes(os.urandom(2), "big")
    name = b"".join(bytes([len(label)]) + label.encode() for label in zone.strip(".").split(".")) + b"\0"
    query = struct.pack("!6H", query_id, 0, 1, 0, 0, 0) + name + struct.pack("!2H", 6, 1)  # SOA, IN
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(TIMEOUT_SECONDS)
        try:
            sock.connect((host, int(port)))
            sock.send(query)
            answer = sock.recv(4096)
        except OSError as error:
            return f"DNS at {host_port} does not answer: {error}"
    if len(answer) < 12 or answer[:2] != query[:2]:
        return f"DNS at {host_port} answers something else"
    flags = struct.unpack("!H", answer[2:4])[0]
    return "" if flags & 0x040F == 0x0400 else f"DNS at {host_port} has no authority for {zone}"


def node_ports_taken(node: LocalNode) -> list[str]:
    """Ports of a node that is not running which somebody else holds."""
    wanted = [text for text in (node.http, node.https, node.dns, node.admin, node.peer) if text]
    found = [taken(host, int(port)) for host, port in (text.rsplit(":", 1) for text in wanted)]
    host, port = node.dns.rsplit(":", 1)
    found.append(taken(host, int(port), socket.SOCK_DGRAM))
    return [reason for reason in found if reason]


def silent_ports(cluster: LocalCluster, zone: str) -> list[str]:
    """Everything that does not answer yet on the ports that clients use, in words."""
    found: list[str] = []
    for node in cluster.nodes:
        if node.http:
            found.append(http_answers(node.http, "/"))
        if node.https:
            found.append(tls_answers(node.https))
        if zone:
            found.append(dns_answers(node.dns, zone))
    return [reason for reason in found if reason]
