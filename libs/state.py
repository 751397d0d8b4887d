"""What a running node keeps in its state folder for its own processes: secrets and the addresses it picked."""

import asyncio
import fcntl
import json
import os
import re
import secrets as tokens
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

SECRET_BYTES = 32
SECRET_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")
RUNTIME_FILE = "runtime.json"


class Secrets:
    """A folder of secrets, one per file, readable by its owner only. Values are ASCII text without line ends."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, name: str) -> str:
        """The secret, made from SECRET_BYTES random bytes when there is none yet; several processes may ask at once.

        ValueError on a bad name, OSError when the folder can neither be read nor written.
        """
        path = self._path(name)
        if not path.exists():
            self.set(name, tokens.token_urlsafe(SECRET_BYTES), replace=False)
        return self.read(name)

    def read(self, name: str) -> str:
        """The secret; FileNotFoundError when there is none."""
        return self._path(name).read_text().strip()

    def set(self, name: str, value: str, *, replace: bool = True) -> None:
        """Stores a secret; with replace=False one that is already there wins."""
        path = self._path(name)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _whole_file(path, value) as temporary:
            if replace:
                temporary.replace(path)
            else:
                try:
                    os.link(temporary, path)
                except FileExistsError:
                    return  # another process was first: its value counts

    def remove(self, name: str) -> None:
        """Forgets a secret; nothing happens when there is none."""
        self._path(name).unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        if not SECRET_NAME.fullmatch(name):
            raise ValueError(f"secret name {name!r} must match {SECRET_NAME.pattern}")
        return self._folder / name


@dataclass(frozen=True, slots=True)
class RuntimeInfo:
    """Where the parts of a running node are found. Empty text means: not running, or not known yet.

    postgres is a DSN without user and password (see login_dsn), nats a URL without them; gateway is the base URL of the
    public API; the others are host:port. metrics are those of services that run in processes of their own.
    """

    node: str = ""
    postgres: str = ""
    nats: str = ""
    mqtt: str = ""
    gateway: str = ""
    adapter: str = ""
    join: str = ""
    link: str = ""
    services: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, str] = field(default_factory=dict)


def read_runtime(state: Path) -> RuntimeInfo:
    """What the node last wrote; an empty RuntimeInfo when it has not started yet."""
    try:
        found = json.loads((state / RUNTIME_FILE).read_text())
    except FileNotFoundError:
        return RuntimeInfo()
    # Keys of a newer or older version are left alone: a rolled-back node must still start.
    known = {item.name for item in fields(RuntimeInfo)}
    return RuntimeInfo(**{key: value for key, value in found.items() if key in known})


def update_runtime(state: Path, change: Callable[[RuntimeInfo], RuntimeInfo]) -> RuntimeInfo:
    """Reads, changes and writes the file under a lock: several processes of a node add their own addresses."""
    state.mkdir(parents=True, exist_ok=True)
    with (state / f"{RUNTIME_FILE}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        changed = change(read_runtime(state))
        path = state / RUNTIME_FILE
        with _whole_file(path, json.dumps(asdict(changed), indent=1, sort_keys=True) + "\n") as temporary:
            temporary.replace(path)
    return changed


async def change_runtime(state: Path, change: Callable[[RuntimeInfo], RuntimeInfo]) -> RuntimeInfo:
    """update_runtime off the event loop: the lock may be held by another process."""
    return await asyncio.to_thread(update_runtime, state, change)


def login_dsn(dsn: str, user: str, password: str) -> str:
    """The DSN with user and password put in. The result is a secret: never log it."""
    parts = urlsplit(dsn)
    host = parts.netloc.rpartition("@")[2]
    netloc = f"{quote(user, safe='')}:{quote(password, safe='')}@{host}"
    return urlunsplit(parts._replace(netloc=netloc))


@contextmanager
def _whole_file(path: Path, text: str) -> Iterator[Path]:
    """A temporary file (0600) with the text beside path, for the caller to move: no reader ever sees half a file."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())  # a secret that the database already knows must survive a power cut
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
