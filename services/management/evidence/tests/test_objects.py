"""What both kinds of stores promise, and how people hear when one does not keep it."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from services.management.evidence.elsewhere import FILE_BYTES_MAX
from services.management.evidence.files import Folder
from services.management.evidence.objects import StoreAway, Trouble
from services.management.evidence.watch import StoreWatch

if TYPE_CHECKING:
    from pathlib import Path

    from services.management.evidence.objects import Objects
    from services.management.evidence.tests.stores import Store

NAME, OTHER = "ab/photo1", "cd/photo2"


async def test_what_was_put_comes_back_until_it_is_removed(store: Store) -> None:
    objects = store.opened()
    largest = os.urandom(FILE_BYTES_MAX)
    assert await objects.get(NAME) is None
    await objects.delete(NAME)
    await objects.put(NAME, largest)
    await objects.put(OTHER, b"small")
    assert await objects.get(NAME) == largest
    await objects.put(NAME, b"")
    assert await objects.get(NAME) == b""
    assert await store.names() == [NAME, OTHER]
    await objects.delete(NAME)
    assert (await objects.get(NAME), await objects.get(OTHER)) == (None, b"small")


async def test_who_puts_the_same_at_once_leaves_one(store: Store) -> None:
    objects, content = store.opened(), os.urandom(1024 * 1024)
    await asyncio.gather(*(objects.put(NAME, content) for _ in range(4)))
    assert await objects.get(NAME) == content
    assert await store.names() == [NAME]


@pytest.mark.parametrize("name", ["", "ab", "../secrets", "ab/../../x", "AB/PHOTO1", "ab/photo1/more", "/ab/photo1"])
async def test_names_do_not_lead_elsewhere(store: Store, name: str) -> None:
    objects = store.opened()
    for attempt in (objects.put(name, b"x"), objects.get(name), objects.delete(name)):
        with pytest.raises(ValueError, match="is not the name of an object"):
            await attempt


async def test_what_breaks_off_leaves_what_was_there(store: Store) -> None:
    objects = store.opened()
    await objects.put(NAME, b"before")
    await store.break_off()
    with pytest.raises(StoreAway):
        await objects.put(NAME, bytes(1024 * 1024))
    with pytest.raises(StoreAway):
        await objects.put(OTHER, bytes(1024 * 1024))
    await store.mend()
    assert await objects.get(NAME) == b"before"
    assert await store.names() == [NAME]


async def test_a_store_that_was_away_is_back(store: Store) -> None:
    objects = store.opened()
    await objects.put(NAME, b"kept")
    await store.cut()
    for attempt in (objects.put(OTHER, b"x"), objects.get(NAME), objects.delete(NAME)):
        with pytest.raises(StoreAway):
            await attempt
    await store.mend()
    assert await objects.get(NAME) == b"kept"
    assert await store.names() == [NAME]


async def test_the_watch_says_what_is_wrong_and_when_it_is_over(store: Store) -> None:
    objects = store.opened()
    watch = StoreWatch(objects)
    with capture_logs() as logs:
        assert [await watch.check(), await watch.check()] == [None, None]
        assert shown(objects) == "ok"
        await store.cut()
        trouble = await watch.check()
        assert trouble in {Trouble.AWAY, Trouble.FAULTY}
        assert await watch.check() == trouble
        assert shown(objects) == trouble
        await store.mend()
        assert await watch.check() is None
    assert shown(objects) == "ok"
    said = [(entry["event"], entry.get("trouble")) for entry in logs]
    assert said == [
        ("evidence.store_well", None),
        ("evidence.store_trouble", trouble.value),
        ("evidence.store_well", None),
    ]


async def test_the_watch_leaves_one_object_and_puts_it_back(store: Store) -> None:
    watch = StoreWatch(store.opened())
    await watch.check()
    (probe,) = await store.names()
    await store.objects.put(probe, b"something else")
    assert await watch.check() is None
    await store.objects.delete(probe)
    assert await watch.check() is None
    assert await store.names() == [probe]


async def test_what_a_killed_process_left_of_a_file_goes_with_it(tmp_path: Path) -> None:
    objects = Folder(tmp_path)
    await objects.put(NAME, b"whole")
    old, fresh = (tmp_path / f"{NAME}.{end}.part" for end in ("0", "1"))
    for left in (old, fresh):
        left.write_bytes(b"who")
    long_ago = time.time() - 24 * 3600
    os.utime(old, (long_ago, long_ago))
    await objects.put(NAME, b"whole")
    assert [old.exists(), fresh.exists()] == [False, True]
    await objects.delete(NAME)
    assert not fresh.exists()


def shown(objects: Objects) -> str:
    """Return the only state that metrics show."""
    states: list[str] = ["ok", *Trouble]
    values = {
        state: REGISTRY.get_sample_value("quintet_evidence_store", {"kind": objects.kind, "state": state})
        for state in states
    }
    (state,) = [state for state, value in values.items() if value == 1]
    return state
