"""A small disk under a folder of a stopped node, to be filled and emptied again. Needs the right to mount (root)."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DISK_BYTES = 768 * 1024 * 1024
FILL_BYTES = 1024 * 1024
FILLER = "filler"


def can_mount() -> bool:
    """Whether this process may mount file systems."""
    found = subprocess.run(
        ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"], check=False, capture_output=True
    )
    return os.geteuid() == 0 and found.returncode == 0


class Disk:
    """A mounted file system of DISK_BYTES."""

    def __init__(self, folder: Path) -> None:
        self._filler = folder / FILLER

    def fill(self) -> None:
        """Take all the room that is left."""
        with self._filler.open("ab", buffering=0) as file:
            for size in (FILL_BYTES, 4_096, 1):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError:
                    continue  # full, as far as pieces of this size go

    def clear(self) -> None:
        """Give the room back."""
        self._filler.unlink(missing_ok=True)


@contextmanager
def small_disk(folder: Path) -> Iterator[Disk]:
    """Put a small disk under a folder for the length of the block; what is in the folder moves there and back.

    Whoever works on the folder must be stopped at the block's begin and end.
    """
    aside = folder.with_name(f"{folder.name}.aside")
    folder.rename(aside)
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)], check=True)
    try:
        _own_as(aside, folder)
        subprocess.run(["cp", "-a", f"{aside}/.", str(folder)], check=True)
        yield Disk(folder)
        shutil.rmtree(aside)
        subprocess.run(["cp", "-a", str(folder), str(aside)], check=True)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
        shutil.rmtree(folder, ignore_errors=True)
        aside.rename(folder)


def _own_as(model: Path, folder: Path) -> None:
    found = model.stat()
    os.chown(folder, found.st_uid, found.st_gid)
    folder.chmod(found.st_mode & 0o7777)
