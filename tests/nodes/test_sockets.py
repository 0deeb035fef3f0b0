"""The launcher's sockets: whole sets, kept while they are wanted."""

import select
import socket
from pathlib import Path

from tests.support import free_port

from meridian.core.snapshot import Listener
from meridian.nodes.settings import Settings
from meridian.nodes.sockets import Sockets, Wanted, sockets_of_dns, sockets_of_listener


def tcp(port: int, name: str = "web") -> Wanted:
    return Wanted("gateway", "tcp", "127.0.0.1", port, name)


def test_what_stays_wanted_stays_open_and_what_does_not_is_closed() -> None:
    sockets = Sockets({"gateway": 2, "dns": 1})
    first, second = free_port(), free_port()
    assert sockets.want("gateway", [tcp(first), tcp(second)]) == []
    assert sockets.want("dns", [Wanted("dns", "udp", "127.0.0.1", free_port())]) == []
    kept = sockets.of("gateway", 0)
    assert sockets.want("gateway", [tcp(second, "renamed")]) == []
    ((wanted, sock),) = sockets.of("gateway", 1)
    assert wanted.name == "renamed" and sock in [held for _, held in kept]
    with socket.create_server(("127.0.0.1", first)):
        pass
    assert len(sockets.of("dns", 0)) == 1
    assert sockets.want("gateway", []) == [] and sockets.want("dns", []) == []


def test_udp_has_a_socket_for_each_slot_and_tcp_one_for_all() -> None:
    sockets = Sockets({"gateway": 3})
    port = free_port()
    assert sockets.want("gateway", [tcp(port), Wanted("gateway", "udp", "127.0.0.1", port)]) == []
    numbers = {(wanted.kind, sock.fileno()) for slot in range(3) for wanted, sock in sockets.of("gateway", slot)}
    assert sorted(kind for kind, _ in numbers) == ["tcp", "udp", "udp", "udp"]
    sockets.want("gateway", [])


def test_datagrams_of_quic_go_to_the_slot_in_their_connection_id_and_others_do_not() -> None:
    sockets = Sockets({"gateway": 3})
    ports = {"quic": free_port(), "udp": free_port()}
    assert sockets.want("gateway", [Wanted("gateway", kind, "127.0.0.1", port) for kind, port in ports.items()]) == []
    assert sockets.unsteered == ""
    arrived: dict[str, set[int]] = {"quic": set(), "udp": set()}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        for kind, port in ports.items():
            for slot in range(3):
                client.sendto(bytes([0x40, slot]) + bytes(20), ("127.0.0.1", port))
            for slot in range(3):
                (sock,) = [sock for wanted, sock in sockets.of("gateway", slot) if wanted.kind == kind]
                while select.select([sock], [], [], 0.05)[0]:
                    arrived[kind].add(slot if sock.recv(100)[1] == slot else -1)
    assert arrived["quic"] == {0, 1, 2}
    assert arrived["udp"] != {0, 1, 2}, "the kernel's hash of one client leads to one socket"
    sockets.want("gateway", [])


def test_one_bad_address_leaves_all_as_it_was() -> None:
    sockets = Sockets({"gateway": 1})
    good, new = free_port(), free_port()
    assert sockets.want("gateway", [tcp(good)]) == []
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        problems = sockets.want("gateway", [tcp(new), tcp(taken, "second"), Wanted("gateway", "tcp", "192.0.2.1", 80)])
    assert len(problems) == 2
    assert problems[0].startswith(f"second: tcp port {taken} on 127.0.0.1 is taken by another program")
    assert "no such address" in problems[1]
    assert [wanted.port for wanted, _ in sockets.of("gateway", 0)] == [good]
    with socket.create_server(("127.0.0.1", new)):
        pass
    sockets.want("gateway", [])


def test_a_listener_wants_tcp_for_h1_and_h2_and_udp_for_h3() -> None:
    settings = Settings("one", "eu", address="127.0.0.7", advertise=("127.0.0.7",))

    def kinds(*protocols: str, host: str = "0.0.0.0") -> list[tuple[str, str]]:
        listener = Listener("web", host, 8443, protocols, True, ())
        return [(wanted.kind, wanted.host) for wanted in sockets_of_listener(listener, settings)]

    assert kinds("h1", "h2", "h3") == [("tcp", "127.0.0.7"), ("quic", "127.0.0.7")]
    assert kinds("h3") == [("quic", "127.0.0.7")]
    assert kinds("udp") == [("udp", "127.0.0.7")]
    assert kinds("h1", host="127.0.0.9") == [("tcp", "127.0.0.9")]


def test_dns_has_a_port_for_tls_only_beside_its_own() -> None:
    def ports(dns_port: int = 53, dns_tls_port: int = 0) -> list[tuple[str, int]]:
        settings = Settings("a", "eu", address="127.0.0.1", dns_port=dns_port, dns_tls_port=dns_tls_port)
        return [(wanted.kind, wanted.port) for wanted in sockets_of_dns(settings) if wanted.kind != "unix"]

    assert ports() == [("tcp", 53), ("udp", 53)]
    assert ports(dns_tls_port=853) == [("tcp", 53), ("udp", 53), ("tcp", 853), ("udp", 853)]
    assert ports(dns_port=0, dns_tls_port=853) == []


def test_a_unix_socket_is_its_owner_s_alone_and_one_left_behind_makes_room(tmp_path: Path) -> None:
    path = tmp_path / "dns.sock"
    wanted = [Wanted("dns", "unix", str(path), 0, "--state")]
    first = Sockets({"dns": 1})
    assert first.want("dns", wanted) == []
    assert path.stat().st_mode & 0o777 == 0o600
    assert Sockets({"dns": 1}).want("dns", wanted) == [
        f"--state: the socket {path} cannot be made: another node uses it"
    ]
    ((_, sock),) = first.of("dns", 0)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        sock.accept()[0].close()
    assert first.want("dns", []) == []
    again = Sockets({"dns": 1})
    assert path.exists() and again.want("dns", wanted) == [], "nobody listens there any more"
    again.want("dns", [])
    (problem,) = Sockets({"dns": 1}).want("dns", [Wanted("dns", "unix", str(tmp_path / "none" / "dns.sock"), 0, "x")])
    assert problem.endswith("cannot be made: No such file or directory")
