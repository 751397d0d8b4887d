"""Becomes another program that dies with its parent. Run as a script by `process.Child`; standard library only.

The kernel forgets the death signal when a process changes its user, and nothing may run between fork and exec in a
process with threads: so this small program stands between the two, drops the privileges and then asks for the signal.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1
FAILED = 127


def main(arguments: list[str]) -> int:
    """Arguments: parent pid, death signal, user and group id (-1: keep), own process group (0 or 1), the program."""
    parent, death_signal, uid, gid, own_group = (int(item) for item in arguments[:5])
    program = arguments[5:]
    if own_group:
        os.setpgid(0, 0)
    if uid >= 0:
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    os.umask(0o077)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
        print(f"cannot ask for the death signal: {os.strerror(ctypes.get_errno())}", file=sys.stderr)
        return FAILED
    if os.getppid() != parent:
        return FAILED  # the parent died before the kernel was asked
    try:
        os.execv(program[0], program)  # noqa: S606 - to run what it is given is all it does
    except OSError as error:
        print(f"cannot run {program[0]}: {error.strerror}", file=sys.stderr)
    return FAILED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
