"""Both kinds of stores of evidence as tests handle them: from behind, and with ways to keep the node from them."""

from __future__ import annotations

import asyncio
import errno
import os
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol
from uuid import uuid4

from deploy.testing_s3 import KEEPER, REGION, Account, S3Server
from libs.config import EVIDENCE_KEYS, BucketSection, Secrets
from services.management.evidence.bucket import Bucket
from services.management.evidence.files import Folder

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from services.management.evidence.objects import Objects

HOST = "127.0.0.1"
PREFIX = "sf"
CHUNK_BYTES = 64 * 1024


class Store(Protocol):
    """Where a node keeps evidence. settings belong into node.toml; objects is a way to it that `cut` does not cut."""

    objects: Objects

    @property
    def settings(self) -> str: ...

    def opened(self) -> Objects:
        """Return the way that a node takes."""
        ...

    async def cut(self) -> None:
        """Let no node reach it."""
        ...

    async def break_off(self) -> None:
        """Let what nodes put break off half-way."""
        ...

    async def mend(self) -> None:
        """Let nodes reach it again."""
        ...

    async def names(self) -> list[str]:
        """Return the names of everything in it, of what is no object, too."""
        ...


class FolderStore:
    settings = ""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self._root = root
        self._away = root.with_name("unmounted")
        self._patch = patch
        self.objects: Objects = Folder(root)

    def opened(self) -> Objects:
        return Folder(self._root)

    async def cut(self) -> None:
        """Put a file in its place: permissions would not keep the superuser out."""
        self._root.mkdir(parents=True, exist_ok=True)
        self._root.rename(self._away)
        self._root.write_text("")

    async def break_off(self) -> None:
        def full(_file: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        self._patch.setattr(os, "fsync", full)

    async def mend(self) -> None:
        self._patch.undo()
        if self._away.exists():
            self._root.unlink()
            self._away.rename(self._root)

    async def names(self) -> list[str]:
        return sorted(str(path.relative_to(self._root)) for path in self._root.rglob("*") if path.is_file())


class BucketStore:
    def __init__(self, server: S3Server, line: Line, secrets: Secrets) -> None:
        self.server = server
        self.bucket = f"evidence-{uuid4().hex}"
        self._line = line
        self._secrets = secrets
        self.use(KEEPER)
        server.make_bucket(self.bucket)
        self.objects: Objects = Bucket(self.section(url=server.url), self.keys)

    @property
    def settings(self) -> str:
        return (
            f'[evidence]\nendpoint = "{self._line.url}"\nbucket = "{self.bucket}"\nregion = "{REGION}"\n'
            f'prefix = "{PREFIX}"\nca = "{self.server.ca}"\n'
        )

    def section(self, *, url: str = "", prefix: str = PREFIX, ca: bool = True) -> BucketSection:
        return BucketSection(url or self._line.url, self.bucket, REGION, prefix, True, self.server.ca if ca else None)

    def use(self, account: Account) -> None:
        """Have the node use other keys."""
        for name, value in zip(EVIDENCE_KEYS, (account.access_key, account.secret_key), strict=True):
            self._secrets.set(name, value)

    def keys(self) -> tuple[str, str]:
        access, secret = (self._secrets.read(name) for name in EVIDENCE_KEYS)
        return access, secret

    def opened(self) -> Objects:
        return Bucket(self.section(), self.keys)

    async def cut(self) -> None:
        await self._line.cut()

    async def break_off(self) -> None:
        self._line.bytes_max = CHUNK_BYTES

    async def mend(self) -> None:
        self._line.bytes_max = None
        await self._line.mend()

    async def names(self) -> list[str]:
        everything = Bucket(
            self.section(url=self.server.url, prefix=""), lambda: (KEEPER.access_key, KEEPER.secret_key)
        )
        found = [meta["path"] async for batch in everything._store.list() for meta in batch]
        return sorted(name.removeprefix(f"{PREFIX}/") for name in found)


@dataclass
class Line:
    """What stands between the node and a port. Cut, nobody answers; with bytes_max a connection ends after so many."""

    target: int
    port: int = 0
    bytes_max: int | None = None
    _server: asyncio.Server | None = None
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"https://{HOST}:{self.port}"

    async def mend(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._carry, HOST, self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in self._open:
            writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, onward = await asyncio.open_connection(HOST, self.target)
        ends = {writer, onward}
        self._open |= ends
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pass_on(reader, onward, limited=True))
                both.create_task(self._pass_on(there, writer, limited=False))
        finally:
            self._open -= ends
            for end in ends:
                end.transport.abort()

    async def _pass_on(self, source: asyncio.StreamReader, to: asyncio.StreamWriter, *, limited: bool) -> None:
        passed = 0
        with suppress(OSError):
            while chunk := await source.read(CHUNK_BYTES):
                passed += len(chunk)
                if limited and self.bytes_max is not None and passed > self.bytes_max:
                    break
                to.write(chunk)
                await to.drain()
        for writer in self._open:
            if writer is to:
                writer.transport.abort()
