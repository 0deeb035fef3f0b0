"""The parent of a node: binds every socket, has the agent and the workers made, and made again when they die.

Invariant: the sockets outlive every child, so that connections queued while a worker restarts are served and not
reset. What keeps it: nothing here can fail but what fails at start; there is no asyncio, no TLS, no store, no grpc and
no HTTP in this process; it waits for nobody, neither for a child's line nor for whoever reads the logs.

Life: the DNS and admin ports are bound from the flags, the zygote is started and told to make all children, the agent
says which sockets the document wants (`listen`), the workers get them, privileges are dropped. SIGTERM: `drain` to the
agent, so that DNS leaves this node out; when the agent has `left` and old answers of DNS have aged, `drain` to the
gateway workers, whose clients are told to go, then `leave`, and when they are gone to the others; then exit 0. Clients
are told last, since one that still has this address from DNS would come back by a new connection. A second SIGTERM
kills. Children end by themselves when their line closes, so that a killed launcher leaves no orphan behind. SIGHUP, or
the agent's `upgrade`: new workers take over from those that run, see nodes/upgrading.
"""

import contextlib
import os
import pwd
import resource
import selectors
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from meridian.nodes import clock, logs
from meridian.nodes.line import DESCRIPTORS_MAX, LineClosed, Message
from meridian.nodes.notify import Notifier
from meridian.nodes.relay import Writer
from meridian.nodes.settings import Settings, SettingsError, parse_settings
from meridian.nodes.sockets import Sockets, Wanted, sockets_of_dns
from meridian.nodes.supervision import Child, restart_delay
from meridian.nodes.upgrading import RETIRE_SECONDS, Upgrading
from meridian.nodes.zygotes import Zygote, Zygotes, adopt_orphans

ANNOUNCE_SECONDS = 4.0  # how long the agent may take until the cluster knows that this node leaves
LINGER_SECONDS_MAX = 10.0  # how long clients may still come by an answer of DNS from before, and be told to go
TELL_SECONDS = 2.0  # of that, for clients to ask once more on a connection that is kept, and hear that it closes
GRACE_SECONDS = 10.0  # how long workers may take to finish their exchanges
DNS_WORKERS = 1
OPERATOR_MISTAKE = 2  # exit code


class CannotStart(Exception):
    """The node cannot start, and the message says what the operator can do."""


class Launcher:
    """The loop of the launcher's process. `run` returns the exit code."""

    def __init__(self, settings: Settings) -> None:
        slots = {"agent": 1, "gateway": settings.workers, "dns": DNS_WORKERS if settings.dns_port else 0}
        self._settings = settings
        # With it a worker makes tokens that another worker of this node understands (QUIC Retry). In the environment
        # of the children only their own user can read it.
        self._secret = os.urandom(32).hex()
        self._selector = selectors.DefaultSelector()
        self._sockets = Sockets(slots)
        self._children = [Child(role, slot) for role, count in slots.items() for slot in range(count)]
        self._agent = self._children[0]
        self._upgrading = Upgrading(self)
        self._zygotes = Zygotes(settings.python)
        self._upgrade_asked: float | None = None  # and how many seconds connections may take
        self._stderr = Writer(2)
        self._systemd = Notifier(os.environ)
        self._unready = {child.label for child in self._children}  # who has not said yet that it runs
        self._listening = False  # the first full set of the document's sockets is bound
        self._leaving: float | None = None  # when `drain` was said
        self._leave_at: float | None = None  # when to say `leave`; None while the agent announces it
        self._told = False  # the gateway workers tell their clients to go
        self._left: float | None = None  # when it was said
        self._rest_told = False  # that is, the others after the gateway workers
        self._stops = 0  # SIGTERM and SIGINT seen
        self._killed = False

    def run(self) -> int:
        """Runs the node until it is told to end. Returns the exit code: 0 after a drain, 1 if it was cut short.

        Raises CannotStart for what the operator has to repair.
        """
        self._bind_fixed()
        wake = _catch_signals(self._count_stop, self._note_hangup)
        self._selector.register(wake, selectors.EVENT_READ, lambda: _empty(wake))
        self._log("info", "node starts", pid=os.getpid(), region=self._settings.region, workers=self._settings.workers)
        try:
            while not self._finished():
                for key, events in self._selector.select(self._step(clock.now())):
                    if events & selectors.EVENT_READ:
                        key.data()
                self._stderr.flush()
                self._tell_dropped()
        finally:
            self._kill_all()
            self._systemd.close()
        self._log("info", "node ended", killed=self._killed)
        return 1 if self._killed else 0

    def _step(self, now: float) -> float:
        """Does everything that is due and returns seconds until there may be more to do."""
        self._systemd.turn(now)
        if self._stops and self._leaving is None:
            self._leaving = now
            self._systemd.tell("STOPPING=1", "STATUS=leaves the cluster, ends its exchanges")
            self._log("info", "node leaves")
            self._tell("drain", "agent")
        if self._upgrade_asked is not None:
            self._upgrade(self._upgrade_asked, now)
        self._upgrading.step(now)
        for child in self._processes():
            self._reap(child, now)
            if child.start_at is not None and child.start_at <= now and self._leaving is None:
                self.start(child, now)
            if child.line is not None:
                child.line.flush()
        if self._leaving is not None:
            self._step_leaving(now)
        if self._stderr.waiting or any(child.line is not None and child.line.waiting for child in self._processes()):
            return 0.05
        # Half a second is a safety net: signals, lines and output wake the selector by themselves.
        starting = [child.start_at for child in (self._zygotes.now, *self._children)]
        due = [at for at in starting if at is not None and self._leaving is None]
        return min([0.5, *(max(0.0, at - now) for at in due)])

    # Children

    def _everyone(self) -> list[Child]:
        """Those in their places, those that may follow them, and those that finish."""
        return [*self._children, *self._upgrading.heirs, *self._upgrading.retired]

    def _processes(self) -> list[Child]:
        """All, those first that make the others."""
        return [*self._zygotes.all, *self._everyone()]

    def start(self, child: Child, now: float) -> bool:
        """Starts a process in a place. False: the machine will not, now."""
        try:
            if isinstance(child, Zygote):
                child.open(self._settings, now)
            else:
                child.start(self._settings, self._secret, self._zygotes.now.fork, now)
        except OSError as error:
            child.delay_seconds = restart_delay(child.delay_seconds, 0.0)
            child.start_at = now + child.delay_seconds
            self._log("error", "child cannot start", worker=child.label, reason=str(error))
            return False
        assert child.line is not None
        self._selector.register(child.line.socket, selectors.EVENT_READ, lambda: self._on_line(child))
        self._selector.register(child.output, selectors.EVENT_READ, lambda: self._on_output(child))
        if isinstance(child, Zygote):
            self._log_start(child)
            return True
        if child in self._children:
            self._hand_sockets(child)
            self._introduce()
        if child is self._agent:
            for worker in self._everyone()[1:]:
                self._connect(worker)
            child.line.send({"say": "upgrade", **self._upgrading.report.to_message()})
        else:
            self._connect(child)
        return True

    def _log_start(self, child: Child) -> None:
        assert child.process is not None
        self._log("info", "child started", worker=child.label, pid=child.process.pid, restarts=child.restarts)

    def _note_forked(self, zygote: Zygote, message: Message) -> None:
        process = zygote.hear(message)
        for child in self._everyone():
            if child.process is not process or process is None:
                continue
            if process.pid:
                self._log_start(child)
            else:
                self._log("error", "child cannot start", worker=child.label, reason="the machine forks no process")
        self._tell_children()

    def _reap(self, child: Child, now: float) -> None:
        if child.process is None or child.process.poll() is None:
            return
        assert child.line is not None
        code, pid = child.process.returncode, child.process.pid
        self._on_line(child)  # its last words may still be in the line
        for sock in (child.line.socket, child.output):
            with contextlib.suppress(KeyError):
                self._selector.unregister(sock)
        for text in child.bury():
            self._stderr.write(text)
        if isinstance(child, Zygote) and self._zygotes.ended(child):
            return
        if self._upgrading.ended(child) or self._leaving is not None:
            self._log("info", "child ended", worker=child.label, pid=pid, exit=code)
            self._introduce()
            return
        if code == OPERATOR_MISTAKE and not self._listening:
            raise CannotStart(child.reason or f"{child.label} cannot start; the log says why")
        child.delay_seconds = restart_delay(child.delay_seconds, now - child.started_at)
        child.start_at = now + child.delay_seconds
        child.restarts += 1
        self._log("warning", "child ended", worker=child.label, pid=pid, exit=code, reason=child.reason,
                  restart_in_seconds=child.delay_seconds, restarts=child.restarts)  # fmt: skip
        self._tell_children()

    def _connect(self, worker: Child) -> None:
        """A fresh channel between the agent and a worker, when both run; it replaces the one before."""
        if worker.line is None or self._agent.line is None:
            return
        try:
            one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        except OSError as error:  # out of descriptors: the worker serves on, and the next restart tries again
            self._log("error", "no channel", worker=worker.label, reason=str(error))
            return
        worker.line.send({"say": "channel", "kind": "agent", "slot": 0}, [one])
        place = {"kind": worker.role, "slot": worker.slot, "generation": worker.generation}
        self._agent.line.send({"say": "channel", **place, "serves": worker in self._children}, [other])

    def _introduce(self) -> None:
        """Gives every gateway worker the others' inboxes, for datagrams that reach the wrong one (gateway/handing)."""
        workers = [one for one in self._everyone() if one.role == "gateway" and one.inbox is not None]
        for worker in workers:
            if worker.line is not None and worker.inbox is not None:
                others = [other for other in workers if other is not worker][: DESCRIPTORS_MAX - 1]
                places = [[other.slot, other.generation] for other in others]
                inboxes = [other.inbox[1] for other in others if other.inbox is not None]
                worker.line.send({"say": "neighbours", "neighbours": places}, [worker.inbox[0], *inboxes])

    # Upgrades

    def _note_hangup(self) -> None:
        """Runs inside a signal handler."""
        self._upgrade_asked = RETIRE_SECONDS

    def _upgrade(self, seconds: float, now: float) -> None:
        self._upgrade_asked = None
        places = [child for child in self._children if child is not self._agent]
        if self._leaving is not None:
            why = "the node leaves"
        elif places and not self._listening:
            why = "the node does not serve yet"
        else:
            self.start(self._zygotes.renew(), now)
            why = self._upgrading.begin(places, now, seconds)
            if why:
                self._zygotes.settle(keep_new=False)
        if why:
            self._log("error", "no upgrade", reason=why)
            if self._agent.line is not None:
                self._agent.line.send({"say": "upgrade", **self._upgrading.report.to_message(), "refused": why})

    def replace(self, child: Child, successor: Child) -> None:
        """From now on `successor` is the one in the place of `child`."""
        self._children[self._children.index(child)] = successor
        self._hand_sockets(successor)
        self._introduce()
        if self._agent.line is not None:
            place = {"kind": successor.role, "slot": successor.slot, "generation": successor.generation}
            self._agent.line.send({"say": "succeeded", **place})
        self._tell_children()

    def tell(self, report: dict[str, Any]) -> None:
        """Says how an upgrade stands."""
        if report["state"] != "preparing":
            self._zygotes.settle(keep_new=report["state"] != "failed")
        self._log("error" if report["state"] == "failed" else "info", "upgrade", **report)
        if self._agent.line is not None:
            self._agent.line.send({"say": "upgrade", **report})

    def agent_may_go(self) -> bool:
        """The agent ends and is started again with the new code, unless the cluster's state is in its memory."""
        if self._settings.etcd and self._agent.line is not None:
            self._agent.line.send({"say": "leave"})
        return bool(self._settings.etcd)

    def _tell_children(self) -> None:
        if self._agent.line is not None:
            rows = [[c.role, c.slot, c.process.pid if c.process else 0, c.restarts] for c in self._children]
            self._agent.line.send({"say": "children", "launcher": os.getpid(), "children": rows})

    def _on_output(self, child: Child) -> None:
        lines = child.read_output()
        if lines is None:
            self._selector.unregister(child.output)  # closed; `_reap` will find the process ended
            return
        for text in lines:
            self._stderr.write(text)

    def _tell_dropped(self) -> None:
        if self._stderr.dropped and not self._stderr.waiting:
            dropped, self._stderr.dropped = self._stderr.dropped, 0
            self._log("warning", "lines dropped", lines=dropped, reason="stderr was not read quickly enough")

    # Sockets

    def _bind_fixed(self) -> None:
        settings = self._settings
        admin = [Wanted("agent", "tcp", settings.bound_host(settings.admin_host), settings.admin_port, "--admin-port")]
        problems = self._sockets.want("agent", admin) + self._bind_dns()
        if problems:
            raise CannotStart("; ".join(problems))

    def _bind_dns(self) -> list[str]:
        """Returns problems. A full disk, say, that takes no socket file ends DNS over HTTPS here, and nothing else."""
        wanted = sockets_of_dns(self._settings)
        problems = self._sockets.want("dns", wanted)
        if problems and not self._sockets.want("dns", [entry for entry in wanted if entry.kind != "unix"]):
            self._log("error", "no DNS over HTTPS on this node", problems=problems)
            return []
        return problems

    def _hand_sockets(self, child: Child) -> None:
        """Gives a child its full set. A gateway worker gets none before the document has said which."""
        if child.line is None or (child.role == "gateway" and not self._listening):
            return
        mine = self._sockets.of(child.role, child.slot)
        entries = [wanted.to_list() for wanted, _ in mine]
        child.line.send({"say": "sockets", "sockets": entries}, [sock for _, sock in mine])

    def _listen(self, message: Message) -> None:
        wanted = [Wanted.of_list(entry) for entry in message["sockets"]]
        if len(wanted) > DESCRIPTORS_MAX:
            problems = [f"{len(wanted)} sockets at once, old and new together; change the listeners in two steps"]
        else:
            problems = self._sockets.want("gateway", wanted)
        assert self._agent.line is not None
        if problems:
            self._log("error", "listeners refused", problems=problems)
            if not self._listening:
                raise CannotStart("; ".join(problems))
            self._agent.line.send({"say": "refused", "problems": problems})
            return
        if self._sockets.unsteered:
            self._log("warning", "workers hand on datagrams of HTTP/3 themselves", reason=self._sockets.unsteered)
            self._sockets.unsteered = ""
        self._listening = True
        for child in self._children:
            if child.role == "gateway":
                self._hand_sockets(child)
        self._agent.line.send({"say": "listening"})
        self._drop_privileges()

    def _drop_privileges(self) -> None:
        if self._settings.user is None or os.geteuid() != 0:
            return
        account = pwd.getpwnam(self._settings.user)
        with contextlib.suppress(FileNotFoundError):
            os.chown(self._settings.dns_socket, account.pw_uid, account.pw_gid)
        os.initgroups(account.pw_name, account.pw_gid)
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
        self._log("info", "privileges dropped", user=account.pw_name)

    # Lines

    def _on_line(self, child: Child) -> None:
        try:
            while child.line is not None and (received := child.line.receive()) is not None:
                message, descriptors = received
                for descriptor in descriptors:
                    os.close(descriptor)  # children have nothing to hand to us
                try:
                    self._on_message(child, message)
                except (KeyError, TypeError, ValueError) as error:
                    self._log("error", "message not understood", worker=child.label, reason=repr(error))
        except LineClosed:
            if child.line is not None:
                with contextlib.suppress(KeyError):
                    self._selector.unregister(child.line.socket)

    def _on_message(self, child: Child, message: Message) -> None:
        say = message["say"]
        if isinstance(child, Zygote):
            self._note_forked(child, message)
        elif say == "listen" and child is self._agent:
            self._listen(message)
        elif say == "ready":
            self._log("info", "child ready", worker=child.label, after_seconds=round(clock.now() - child.started_at, 3))
            if self._unready == {child.label}:
                self._systemd.tell("READY=1", f"STATUS={self._settings.name} in {self._settings.region} runs")
            self._unready.discard(child.label)
            child.version = str(message.get("version", ""))
        elif say == "upgrade" and child is self._agent:
            self._upgrade_asked = float(message["seconds"])
        elif self._upgrading.hear(child, message, clock.now()):
            pass
        elif say == "left" and child is self._agent and self._leaving is not None:
            self._linger(float(message["linger_seconds"]), clock.now())
        elif say == "failed":
            child.reason = str(message["reason"])
        else:
            self._log("error", "message not understood", worker=child.label, say=say)

    # The end

    def _count_stop(self) -> None:
        """Runs inside a signal handler, which may interrupt anything: it only counts."""
        self._stops += 1

    def _step_leaving(self, now: float) -> None:
        assert self._leaving is not None
        self._killed = self._killed or self._stops > 1
        if self._leave_at is None:
            # An agent that is silent has told nobody: the others find out by themselves, in some seconds.
            if now >= self._leaving + ANNOUNCE_SECONDS or self._agent.process is None:
                self._linger(LINGER_SECONDS_MAX, now)
            return
        if self._left is None:
            if not self._told and now >= self._leave_at - TELL_SECONDS:
                self._told = True
                self._tell("drain", "gateway")
            if now >= self._leave_at:
                self._left = now
                self._tell("leave", "gateway")
                self._tell("depart", "agent")
                self._sockets.want("gateway", [])  # who comes now is refused at once, and goes elsewhere
            return
        if not self._rest_told and not any(c.process for c in self._everyone() if c.role == "gateway"):
            # DNS answers and the agent reports until the last exchange is over.
            self._rest_told = True
            self._tell("leave", "dns", "agent")
        if self._rest_told and not any(child.process for child in self._everyone()):
            self._zygotes.end()
        if now - self._left > GRACE_SECONDS + 1.0:  # they stop by themselves before
            self._killed = True

    def _linger(self, seconds: float, now: float) -> None:
        """Serves on while answers of DNS age, and a little longer, so that clients hear that they should go; 0 seconds
        if there is no other node that they could go to."""
        linger_seconds = min(seconds + TELL_SECONDS, LINGER_SECONDS_MAX) if seconds else 0.0
        self._leave_at = now + linger_seconds
        self._log("info", "node lingers", seconds=linger_seconds)

    def _tell(self, say: str, *roles: str) -> None:
        for child in self._everyone():
            if child.line is not None and child.role in roles:
                child.line.send({"say": say})

    def _finished(self) -> bool:
        gone = all(child.process is None for child in self._processes())
        return self._killed or (self._leaving is not None and gone)

    def _kill_all(self) -> None:
        for child in self._processes():
            if child.process is not None:
                child.process.kill()
        for child in self._processes():
            if child.process is not None:
                child.process.wait()
                for text in child.bury():
                    self._stderr.write(text)

    def _log(self, level: str, event: str, **fields: object) -> None:
        self._stderr.write(logs.line(level, event, node=self._settings.name, **{"worker": "launcher", **fields}))


def _catch_signals(on_stop: Callable[[], None], on_hangup: Callable[[], None]) -> socket.socket:
    """Returns a socket that is readable after each signal."""
    wake, waker = socket.socketpair()
    wake.setblocking(False)
    waker.setblocking(False)
    signal.set_wakeup_fd(waker.detach(), warn_on_full_buffer=False)

    def stop(number: int, frame: FrameType | None) -> None:
        on_stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)  # it only has to wake the selector
    signal.signal(signal.SIGHUP, lambda number, frame: on_hangup())
    return wake


def _empty(sock: socket.socket) -> None:
    with contextlib.suppress(BlockingIOError):
        while sock.recv(4096):
            pass


def _prepare(settings: Settings) -> None:
    """The state folder, the limit of open files, the name in ps. Raises CannotStart."""
    adopt_orphans()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    Path("/proc/self/comm").write_text("meridian-node")
    try:
        state = Path(settings.state)
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        if settings.user is not None and os.geteuid() == 0:
            account = pwd.getpwnam(settings.user)
            os.chown(state, account.pw_uid, account.pw_gid)
    except OSError as error:
        raise CannotStart(f"--state {settings.state}: {error.strerror}; name a folder that may be written") from error
    except KeyError:
        raise CannotStart(f"--user {settings.user}: there is no such user") from None


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a node with these flags; returns the exit code."""
    try:
        settings = parse_settings(sys.argv[1:] if argv is None else argv)
        _prepare(settings)
        return Launcher(settings).run()
    except (SettingsError, CannotStart) as error:
        sys.stderr.write(f"meridian node: {error}\n")
        return OPERATOR_MISTAKE


if __name__ == "__main__":
    sys.exit(main())
