"""The stream of a list's changes: live, resumed without a gap, bounded, ended with the rights."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from libs.access import Grant, Grants, Scope
from libs.errors import Forbidden, Invalid, Reason, Unauthenticated
from libs.testing import eventually, running
from libs.tokens import CLOCK_SKEW_MAX_S
from quintet.management.v1 import management_pb2
from quintet.management.v1 import worklists_pb2 as pb
from services.management.tests.samples import NOISE, SEWERS, WORKS
from services.management.tests.story import OFFICER, walk
from services.management.worklists import feed as feeds
from services.management.worklists import watch as watches
from services.management.worklists.keeping import CHANGES_KEEP_S, ChangeKeeper

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from services.management.tests.conftest import Node

DISPATCHER, HANDLER = "people/dispatcher", "people/handler.works"
CITY = "zones/us-ca-sf"
WITHIN_S = 10.0


@pytest_asyncio.fixture
async def live(city: Node) -> AsyncIterator[Node]:
    """A node that follows its changes, as the runtime lets it."""
    async with running(city.wired.tasks["changes"]()):
        yield city


class Stream:
    """A stream as its reader sees it: what it said, change by change."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self.changes: list[tuple[str, str]] = []
        self.token = ""
        self.counts = pb.WorkCounts()
        self.again = pb.WORK_LIST_AGAIN_UNSPECIFIED

    async def read(self) -> bool:
        """Read one response; False at the end."""
        async with asyncio.timeout(WITHIN_S):
            response = await anext(self._call, None)
        if response is None:
            return False
        kinds = pb.WorkChangeKind.Name
        self.changes += [(kinds(each.kind).removeprefix("WORK_CHANGE_KIND_"), each.name) for each in response.changes]
        self.token = response.watch_token or self.token
        self.again = response.list_again
        if response.HasField("counts"):
            self.counts = response.counts
        return True

    async def until(self, *changes: tuple[str, str]) -> None:
        """Read until just these changes were told since the last time."""
        while len(self.changes) < len(changes):
            assert await self.read(), "the stream ended"
        assert self.changes == list(changes)
        self.changes = []

    async def to_the_end(self) -> None:
        while await self.read():
            pass


@asynccontextmanager
async def watching(node: Node, person: str, token: str = "", **more: Any) -> AsyncIterator[Stream]:
    request = pb.WatchWorkRequest(parent=CITY, watch_token=token, **more)
    call = node.begin("WatchWork", request, person)
    try:
        stream = Stream(aiter(call))
        await stream.read()
        yield stream
    finally:
        call.cancel()


async def opened(node: Node) -> str:
    request = management_pb2.OpenEventRequest(parent=f"{CITY}-d6", type=NOISE.name, description="Loud")
    name: str = (await node.call("OpenEvent", request, OFFICER)).event.name
    return name


async def dispatched(node: Node, organisation: str = WORKS) -> str:
    name = await opened(node)
    await walk(node, name, "file")
    await walk(node, name, "dispatch", organisation=organisation)
    return name


async def claim(node: Node, name: str, person: str = HANDLER) -> None:
    await node.call("ClaimEvent", pb.ClaimEventRequest(name=name), person)


async def test_a_list_is_followed_as_it_changes(live: Node) -> None:
    async with (
        watching(live, DISPATCHER, inbox=pb.WORK_INBOX_ROLE) as dispatcher,
        watching(live, HANDLER) as handler,
        watching(live, "people/handler.parks") as stranger,
    ):
        name = await opened(live)
        await walk(live, name, "file")
        await dispatcher.until(("ADDED", name))
        await walk(live, name, "dispatch", organisation=WORKS)
        await dispatcher.until(("REMOVED", name))
        await handler.until(("ADDED", name))
        await claim(live, name)
        await handler.until(("CHANGED", name))
        while handler.counts.total != 1 or handler.counts.unassigned:
            assert await handler.read()
        other = await dispatched(live, SEWERS)
        await walk(live, name, "dispose", "feed_back", "verify", reason="done")
        while ("REMOVED", name) not in handler.changes:
            assert await handler.read()
        # What was never theirs to see, they are not told of.
        assert other not in {changed for _, changed in handler.changes + stranger.changes}


async def test_nothing_is_missed_between_the_list_and_the_stream(live: Node) -> None:
    stays, goes = await dispatched(live), await dispatched(live)
    page = await live.call("ListWork", pb.ListWorkRequest(parent=CITY), HANDLER)
    await claim(live, stays)
    new, never = await dispatched(live), await dispatched(live, SEWERS)
    returned = management_pb2.AdvanceEventRequest(name=goes, action="return", reason="not ours")
    await live.call("AdvanceEvent", returned, HANDLER)
    async with watching(live, HANDLER, page.watch_token) as stream:
        told = {name: kind for kind, name in stream.changes}
        assert told == {stays: "CHANGED", new: "CHANGED", goes: "REMOVED"}, never
        stream.changes = []
        await claim(live, new)
        await stream.until(("CHANGED", new))
        token = stream.token
    await walk(live, new, "dispose", reason="done")
    async with watching(live, HANDLER, token) as stream:
        assert ("CHANGED", new) in stream.changes


async def test_a_transaction_that_ends_late_is_not_passed_over(live: Node) -> None:
    name = await dispatched(live)
    started, go_on = asyncio.Event(), asyncio.Event()

    async def slow(tx: Any) -> None:
        await tx.conn.execute("UPDATE events SET title = 'late', revision = revision + 1 WHERE name = $1", name)
        await tx.conn.execute("INSERT INTO event_changes (event_id) SELECT id FROM events WHERE name = $1", name)
        started.set()
        await go_on.wait()

    late = asyncio.create_task(live.transactions.run(slow))
    await started.wait()
    other = await dispatched(live)  # begun and committed while the other is under way
    page = await live.call("ListWork", pb.ListWorkRequest(parent=CITY), HANDLER)
    async with watching(live, HANDLER, page.watch_token) as stream:
        stream.changes = []
        go_on.set()
        await late
        await stream.until(("CHANGED", name))
    # With the token of the list alone, too.
    async with watching(live, HANDLER, page.watch_token) as stream:
        assert ("CHANGED", name) in stream.changes, other


async def test_time_alone_brings_events_into_a_list(live: Node) -> None:
    name = await dispatched(live)
    async with watching(live, HANDLER, filter=pb.WorkFilter(overdue=True)) as stream:
        assert stream.counts.total == 0
        live.clock.advance(timedelta(hours=25))
        await stream.until(("ADDED", name))


async def test_who_was_away_for_long_lists_again(live: Node) -> None:
    page = await live.call("ListWork", pb.ListWorkRequest(parent=CITY), HANDLER)
    await dispatched(live)
    keeper = ChangeKeeper(live.transactions)
    assert await keeper.keep() == 0
    async with watching(live, HANDLER, page.watch_token) as stream:
        assert [kind for kind, _ in stream.changes] == ["CHANGED"]
    live.clock.advance(timedelta(seconds=CHANGES_KEEP_S + 1))
    assert await keeper.keep() > 0
    for token in (page.watch_token, "1", "99999999999999999999"):
        async with watching(live, HANDLER, token) as stream:
            assert stream.again == pb.WORK_LIST_AGAIN_TOKEN_OLD
            assert not await stream.read()


async def test_who_falls_behind_lists_again(live: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "PENDING_EVENTS_MAX", 2)
    async with watching(live, HANDLER) as stream:

        async def work(tx: Any) -> None:
            await tx.conn.execute("INSERT INTO event_changes (event_id) SELECT n FROM generate_series(1, 3) AS n")

        await live.transactions.run(work)
        await stream.to_the_end()
        assert stream.again == pb.WORK_LIST_AGAIN_TOO_MANY_CHANGES
    monkeypatch.setattr(watches, "PENDING_EVENTS_MAX", 2)
    page = await live.call("ListWork", pb.ListWorkRequest(parent=CITY), HANDLER)
    await live.transactions.run(work)
    async with watching(live, HANDLER, page.watch_token) as stream:
        assert stream.again == pb.WORK_LIST_AGAIN_TOO_MANY_CHANGES


async def test_a_stream_ends_with_the_rights(live: Node) -> None:
    held = live.held[HANDLER]

    def now_holds(*grants: Grant, active: bool = True) -> None:
        organisations = held.organisations
        live.held[HANDLER] = Grants(HANDLER, grants, lambda: live.zones, active=active, organisations=organisations)

    async with watching(live, HANDLER) as stream:
        now_holds(Grant("management.events.read", Scope.ORGANISATION, "us-ca-sf", SEWERS))
        await stream.to_the_end()
        assert stream.again == pb.WORK_LIST_AGAIN_RIGHTS_CHANGED
    async with watching(live, HANDLER) as stream:
        now_holds()
        with pytest.raises(Forbidden):
            await stream.to_the_end()
    live.held[HANDLER] = held
    async with watching(live, HANDLER) as stream:
        now_holds(active=False)
        with pytest.raises(Unauthenticated):
            await stream.to_the_end()


async def test_a_stream_ends_with_the_token(live: Node) -> None:
    soon = int(time.time()) - CLOCK_SKEW_MAX_S + 3
    call = live.begin("WatchWork", pb.WatchWorkRequest(parent=CITY), HANDLER, exp=soon)
    stream = Stream(aiter(call))
    assert await stream.read()
    with pytest.raises(Unauthenticated) as caught:
        await stream.to_the_end()
    assert caught.value.reason == Reason.TOKEN_EXPIRED


async def test_streams_are_limited(live: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds, "FOLLOWERS_MAX", 1)
    async with watching(live, HANDLER):
        call = live.begin("WatchWork", pb.WatchWorkRequest(parent=CITY), HANDLER)
        with pytest.raises(Exception, match="streams of changes at once"):
            await anext(aiter(call))

    async def again() -> bool:
        async with watching(live, HANDLER) as stream:
            return stream.token != ""

    await eventually(again)
    with pytest.raises(Invalid):
        await anext(aiter(live.begin("WatchWork", pb.WatchWorkRequest(parent=CITY, watch_token="x"), HANDLER)))
