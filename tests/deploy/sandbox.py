"""Puts on what a unit of deploy/systemd forbids, then becomes another program: `python sandbox.py UNIT COMMAND...`.

systemd does not run where the tests do. What it would ask of the kernel for these words of the unit is asked here:
SystemCallFilter, RestrictAddressFamilies, MemoryDenyWriteExecute, NoNewPrivileges, UMask and LimitNOFILE. The set of
capabilities is the caller's (setpriv). Folders are not made read-only: the node's own are the only ones it is told.
"""

import ctypes
import errno
import os
import resource
import socket
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.deploy.units import Unit, read_unit

_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000 | errno.EPERM  # seccomp(2)
_EQUAL = 4  # SCMP_CMP_EQ
_NO_NEW_PRIVILEGES, _DENY_WRITE_EXECUTE = 38, 65  # prctl(2)


class _Comparison(ctypes.Structure):
    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    )


def calls_of(name: str) -> set[str]:
    """The system calls of a set such as @system-service, as this machine's systemd knows them."""
    if not name.startswith("@"):
        return {name}
    done = subprocess.run(
        ["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True, timeout=20
    )
    found: set[str] = set()
    for line in done.stdout.splitlines()[1:]:
        word = line.strip()
        if word and not word.startswith("#"):
            found |= calls_of(word)
    return found


def allowed(unit: Unit) -> set[str]:
    """What is left when the lines of SystemCallFilter have been read one after the other."""
    found: set[str] = set()
    for line in unit["SystemCallFilter"]:
        words = {call for word in line.removeprefix("~").split() for call in calls_of(word)}
        found = found - words if line.startswith("~") else found | words
    return found


def enter(unit: Unit) -> None:
    """Puts it on, for this process and whatever it becomes."""
    kernel, seccomp = ctypes.CDLL(None, use_errno=True), ctypes.CDLL("libseccomp.so.2")
    most = min(int(unit["LimitNOFILE"][0]), resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, most), most))
    os.umask(int(unit["UMask"][0], 8))
    calls, families = allowed(unit), unit["RestrictAddressFamilies"][0].split()
    for option in (_NO_NEW_PRIVILEGES, _DENY_WRITE_EXECUTE):
        if kernel.prctl(option, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), f"prctl {option}")
    seccomp.seccomp_init.restype = ctypes.c_void_p
    rules = ctypes.c_void_p(seccomp.seccomp_init(_ERRNO))
    for call in sorted(calls):
        number = seccomp.seccomp_syscall_resolve_name(call.encode())
        if call == "socket":
            for family in families:
                of_family = _Comparison(0, _EQUAL, getattr(socket, family), 0)
                seccomp.seccomp_rule_add_array(rules, _ALLOW, number, 1, ctypes.byref(of_family))
        elif number >= 0:  # a call that this kind of machine does not have is negative
            seccomp.seccomp_rule_add(rules, _ALLOW, number, 0)
    if (code := seccomp.seccomp_load(rules)) != 0:
        raise OSError(-code, "seccomp_load")


if __name__ == "__main__":
    enter(read_unit(Path(sys.argv[1])))
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606  # no shell
