"""Where the bytes of evidence are kept: a folder. Names are made by management, never by callers."""

from __future__ import annotations

import asyncio
import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from libs.errors import Away, Reason

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

P = ParamSpec("P")
T = TypeVar("T")
NAME = re.compile(r"[0-9a-z]{2}/[0-9a-z]{6,64}")
_FOLDER_MODE, _FILE_MODE = 0o700, 0o600


class Folder:
    """Files in a folder that all replicas see. What was put is on the disk when `put` returns."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def put(self, name: str, content: bytes) -> None:
        """Keep bytes under a name, in the place of what was there. Raises Away when the disk refuses."""
        await _done(self._put, name, content)

    async def get(self, name: str) -> bytes | None:
        """Return the bytes of a name, None when there are none. Raises Away when the disk refuses."""
        try:
            return await _done(self._path(name).read_bytes)
        except FileNotFoundError:
            return None

    async def delete(self, name: str) -> None:
        """Remove the bytes of a name, if there are any. Raises Away when the disk refuses."""
        with suppress(FileNotFoundError):
            await _done(self._path(name).unlink)

    def _put(self, name: str, content: bytes) -> None:
        path = self._path(name)
        path.parent.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
        # Under another name first: whoever looks finds the whole file or none.
        passing = path.with_name(f"{path.name}.{os.getpid()}.part")
        with os.fdopen(os.open(passing, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _FILE_MODE), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        passing.replace(path)
        for folder in (path.parent, self._root):
            _sync(folder)

    def _path(self, name: str) -> Path:
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not the name of an object")
        return self._root / name


async def _done(work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Do something with the disk in a thread, so that nobody else waits for it."""
    try:
        return await asyncio.to_thread(work, *arguments, **named)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Away(Reason.DEPENDENCY_AWAY, f"evidence: {error.strerror}", dependency="evidence") from error


def _sync(folder: Path) -> None:
    """Have the names in a folder on the disk, too."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
