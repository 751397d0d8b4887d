"""Where the bytes of evidence are kept: a folder."""

from __future__ import annotations

import asyncio
import os
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from services.management.evidence.objects import OPERATION_TIMEOUT_S, StoreAway, Trouble, checked

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

P = ParamSpec("P")
T = TypeVar("T")
_FOLDER_MODE, _FILE_MODE = 0o700, 0o600
# Nobody writes to a file that has not changed for this long.
_LEFT_BEHIND_S = 10 * OPERATION_TIMEOUT_S


class Folder:
    """Objects in a folder that all replicas see."""

    kind = "folder"

    def __init__(self, root: Path) -> None:
        self._root = root

    async def put(self, name: str, content: bytes) -> None:
        await _done(self._put, self._path(name), content)

    async def get(self, name: str) -> bytes | None:
        try:
            return await _done(self._path(name).read_bytes)
        except FileNotFoundError:
            return None

    async def delete(self, name: str) -> None:
        await _done(_delete, self._path(name))

    def _put(self, path: Path, content: bytes) -> None:
        path.parent.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
        # Under another name first, which nobody else has: whoever looks finds the whole file or none.
        passing = path.with_name(f"{path.name}.{secrets.token_hex(8)}.part")
        try:
            with os.fdopen(os.open(passing, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _FILE_MODE), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            passing.replace(path)
        except OSError:
            passing.unlink(missing_ok=True)
            raise
        for folder in (path.parent, self._root):
            _sync(folder)
        _tidy(path, older_than=path.stat().st_mtime - _LEFT_BEHIND_S)

    def _path(self, name: str) -> Path:
        return self._root / checked(name)


async def _done(work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Do something with the disk in a thread, so that nobody else waits for it."""
    try:
        async with asyncio.timeout(OPERATION_TIMEOUT_S):  # the disk may be another machine's
            return await asyncio.to_thread(work, *arguments, **named)
    except FileNotFoundError:
        raise
    except TimeoutError:
        raise StoreAway(Trouble.AWAY, f"the folder did not answer within {OPERATION_TIMEOUT_S:g} s") from None
    except OSError as error:
        trouble = Trouble.REFUSED if isinstance(error, PermissionError) else Trouble.FAULTY
        raise StoreAway(trouble, f"the folder: {error.strerror}") from error


def _delete(path: Path) -> None:
    path.unlink(missing_ok=True)
    with suppress(FileNotFoundError):
        _tidy(path)


def _tidy(path: Path, *, older_than: float = float("inf")) -> None:
    """Remove what a process that was killed has left of a file, before a time of files, in seconds since 1970."""
    for left in path.parent.glob(f"{path.name}.*.part"):
        with suppress(FileNotFoundError):
            if left.stat().st_mtime < older_than:
                left.unlink()


def _sync(folder: Path) -> None:
    """Have the names in a folder on the disk, too."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
