import asyncio

import pytest
import structlog.testing

from libs import supervisor
from libs.supervisor import CANCELS_MAX, Supervisor, end


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "RESTART_DELAY_FIRST_S", 0.01)
    monkeypatch.setattr(supervisor, "STABLE_S", 0.05)


async def test_crashed_work_is_started_again_and_reported_until_it_runs_well() -> None:
    changes: asyncio.Queue[frozenset[str]] = asyncio.Queue()
    attempts = 0

    async def fragile() -> None:
        nonlocal attempts
        attempts += 1
        if attempts <= 2:
            raise ValueError("not yet")
        await asyncio.Event().wait()

    watched = Supervisor("test", lambda: changes.put_nowait(watched.unhealthy))
    watched.start({"fragile": fragile})
    async with asyncio.timeout(5):
        assert await changes.get() == {"fragile"}
        assert await changes.get() == {"fragile"}
        assert await changes.get() == frozenset()
    assert attempts == 3
    await watched.stop()


async def test_work_that_returns_is_done() -> None:
    done = asyncio.Event()

    async def once() -> None:
        done.set()

    watched = Supervisor("test", lambda: None)
    watched.start({"once": once})
    await asyncio.wait_for(done.wait(), 5)
    await watched.stop()
    assert not watched.unhealthy


async def test_stop_waits_for_the_end_of_the_work() -> None:
    ended = []
    started = asyncio.Event()

    async def tidy() -> None:
        try:
            started.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append("tidy")

    watched = Supervisor("test", lambda: None)
    watched.start({"tidy": tidy})
    await started.wait()
    await watched.stop()
    assert ended == ["tidy"]


async def test_work_that_has_lost_its_cancellation_is_cancelled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "CANCEL_AGAIN_S", 0.01)
    losses = 0

    async def loses(times: int) -> None:
        nonlocal losses
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                losses += 1
                if losses > times:
                    raise

    watched = Supervisor("test", lambda: None)
    watched.start({"loses": lambda: loses(1)})
    await asyncio.sleep(0)
    await watched.stop()
    assert losses == 2

    losses = 0
    stubborn = asyncio.create_task(loses(CANCELS_MAX), name="stubborn")
    await asyncio.sleep(0)
    with structlog.testing.capture_logs() as logs:
        await end([stubborn])
    assert [(entry["event"], entry["tasks"]) for entry in logs] == [("tasks.do_not_end", ["stubborn"])]
    stubborn.cancel()
    await asyncio.wait([stubborn])
