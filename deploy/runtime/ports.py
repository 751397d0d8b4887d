"""TCP ports of the servers: free ones to start on, and the proof that a server is the one that listens."""

import socket
from pathlib import Path

LOOPBACK = "127.0.0.1"
LISTEN = "0A"


def free_port(preferred: int = 0, host: str = LOOPBACK) -> int:
    """The preferred port (0: none) when nobody listens on it, else one picked by the kernel.

    Somebody else may take it before it is used: who starts a server on it must be ready to pick again.
    """
    for port in (preferred, 0) if preferred else (0,):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
            # As the servers do: connections of the last run that still linger do not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                if port == 0:
                    raise
                continue
            picked: int = probe.getsockname()[1]
            return picked
    raise AssertionError("unreachable: port 0 either binds or raises")


def listens(pid: int, port: int) -> bool:
    """Whether this very process listens on the port. A connection could not tell: another server may have taken it."""
    inodes = _listening_inodes(port)
    if not inodes:
        return False
    try:
        entries = list(Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False  # gone
    for entry in entries:
        try:
            target = str(entry.readlink())
        except OSError:
            continue  # closed meanwhile
        if target.startswith("socket:[") and target[8:-1] in inodes:
            return True
    return False


def _listening_inodes(port: int) -> set[str]:
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except FileNotFoundError:
            continue  # no IPv6
        for line in lines:
            columns = line.split()
            if columns[3] == LISTEN and int(columns[1].rpartition(":")[2], 16) == port:
                found.add(columns[9])
    return found
