"""The unprivileged account that PostgreSQL runs as when the node itself runs as root: PostgreSQL refuses to be root."""

import os
import pwd
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

ACCOUNT = "quintet-postgres"
# Five nodes that start at once all try to add the account, and useradd refuses while another holds its lock.
ADD_TRIES = 20
ADD_DELAY_S = 0.1


@dataclass(frozen=True, slots=True)
class Account:
    name: str
    uid: int
    gid: int


def server_account(data: Path) -> Account | None:
    """Who PostgreSQL runs as: None for ourselves; for root the owner of the data, or else the system account ACCOUNT.

    RuntimeError when the account is missing and cannot be added.
    """
    if os.geteuid() != 0:
        return None
    owner = data.stat().st_uid if data.exists() else 0
    # Data that was made while the node ran as an ordinary user stays that user's.
    entry = pwd.getpwuid(owner) if owner else _system_entry()
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def reachable(account: Account, path: Path) -> bool:
    """Whether the account can enter the folder. Asked of the kernel, as modes alone say nothing of ACLs and mounts."""
    done = subprocess.run(
        ["/usr/bin/test", "-x", str(path)], user=account.uid, group=account.gid, extra_groups=[], check=False, cwd="/"
    )
    return done.returncode == 0


def give(account: Account | None, path: Path) -> None:
    """Makes the account the owner of the path; nothing to do when the servers run as ourselves."""
    if account is not None:
        os.chown(path, account.uid, account.gid, follow_symlinks=False)


def _system_entry() -> pwd.struct_passwd:
    problem = ""
    for _ in range(ADD_TRIES):
        try:
            return pwd.getpwnam(ACCOUNT)
        except KeyError:
            command = ["useradd", "--system", "--no-create-home", "--home-dir", "/", "--shell", "/usr/sbin/nologin"]
            try:
                done = subprocess.run([*command, ACCOUNT], check=False, capture_output=True, text=True)
            except FileNotFoundError:
                problem = "there is no useradd"
                break
            problem = done.stderr.strip()
            if done.returncode != 0:
                time.sleep(ADD_DELAY_S)
    raise RuntimeError(
        f"PostgreSQL cannot run as root, and the account {ACCOUNT} cannot be added ({problem}): "
        "run the node as an ordinary user, or add that system account"
    )
