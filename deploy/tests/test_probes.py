"""A disk that is full is said to be, before somebody finds out by what goes wrong."""

import shutil
from pathlib import Path

import pytest

from deploy import probes
from libs.errors import Away


async def test_a_disk_with_room_is_no_reason_for_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _with_free(monkeypatch, probes.DISK_FREE_BYTES_MIN)
    await probes.probe_disk({"PostgreSQL": tmp_path, "NATS": tmp_path})


async def test_a_full_disk_is_named_by_what_lies_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _with_free(monkeypatch, 3 * probes.MIB)
    with pytest.raises(Away, match="the disk of NATS is full: 3 MiB are left, 32 are needed"):
        await probes.probe_disk({"NATS": tmp_path})


def _with_free(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    usage = shutil.disk_usage("/")._replace(free=free)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
