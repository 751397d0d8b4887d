"""The asking end of questions: within the caller's deadline, taken back when the caller goes away."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

import grpc

from libs import telemetry
from libs.context import deadline
from libs.errors import Away, DomainError, Exhausted, Reason, TooLate, WrongState
from libs.ids import new_id
from quintet.federation.v1 import link_pb2
from services.federation.query_rules import STREAM_CREDIT, error_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

# Questions that wait for answers at a time, to all peers together; of them streams, of which each holds pages.
ASKING_MAX = 64
STREAMS_MAX = 16
TAKE_BACK_TIMEOUT_S = 5.0

# What a write to a stream raises that ended in the meantime.
_BROKEN = (grpc.aio.AioRpcError, grpc.aio.BaseError, OSError, asyncio.InvalidStateError)


class Session(Protocol):
    """The session over which questions and answers go."""

    peer: str

    async def send(self, frame: link_pb2.Frame) -> None:
        """Send one frame."""
        ...


class Post:
    """Sends frames for tasks that may be cancelled: a write that is cancelled half-way would end the whole stream."""

    def __init__(self) -> None:
        self._writing: set[asyncio.Task[None]] = set()

    async def send(self, session: Session, frame: link_pb2.Frame) -> None:
        """Send one frame. Raises Away when the stream has ended."""
        writing = asyncio.ensure_future(session.send(frame))
        self._writing.add(writing)
        writing.add_done_callback(self._written)
        try:
            await asyncio.shield(writing)
        except _BROKEN as error:
            raise _link_broke(session.peer) from error

    def _written(self, writing: asyncio.Task[None]) -> None:
        self._writing.discard(writing)
        if not writing.cancelled():
            writing.exception()  # whoever still waits is told; nobody else needs to know


class Asked:
    """One question that waits for answers. At most `room` answers are held."""

    def __init__(self, session: Session, room: int) -> None:
        self.session = session
        self.peer = session.peer
        self.over = False  # the last answer came
        self.lost = False  # the link broke
        self._room = room
        self._answers: deque[link_pb2.Answer] = deque()
        self._error: DomainError | None = None
        self._changed = asyncio.Event()

    def put(self, answer: link_pb2.Answer) -> None:
        """Take an answer; one more than was asked for ends the question."""
        if len(self._answers) >= self._room:
            self.fail(WrongState(Reason.WRONG_STATE, f"{self.peer} sends more answers than it may", peer=self.peer))
            return
        self._answers.append(answer)
        self._changed.set()

    def fail(self, error: DomainError) -> None:
        """Let who waits know that nothing more will come."""
        self._error = self._error or error
        self._changed.set()

    async def next(self, until: float) -> link_pb2.Answer:
        """Return the next answer. Raises what the peer refused with, Away when the link broke, TooLate at `until`."""
        try:
            async with asyncio.timeout_at(until):
                while not self._answers:
                    if self._error is not None:
                        raise self._error
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError as error:
            raise TooLate(Reason.DEADLINE, f"{self.peer} did not answer in time", peer=self.peer) from error
        answer = self._answers.popleft()
        self.over = not answer.more
        if answer.code:
            raise error_of(answer)
        return answer


class Asking:
    """Keeps track of what was asked and is not answered yet."""

    def __init__(self, post: Post) -> None:
        self._post = post
        self._open: dict[str, Asked] = {}
        self._streams = 0
        self._taking_back: set[asyncio.Task[None]] = set()

    async def ask(self, session: Session, query: link_pb2.Query, timeout_s: float) -> link_pb2.Answer:
        """Ask the peer; return its answer. Raises what the peer refused with, TooLate, or Away when the link breaks.

        The caller's remaining time, at most `timeout_s`, is all that the peer gets.
        """
        until = _until(timeout_s)
        asked = self._begin(session, query, until, room=1)
        try:
            await self._send(session, query, until)
            return await asked.next(until)
        finally:
            self._end(session, query, asked)

    async def stream(
        self, session: Session, query: link_pb2.Query, timeout_s: float
    ) -> AsyncGenerator[link_pb2.Answer, None]:
        """Yield answers until the last, reading on only as fast as they are used. Raises like `ask`; close it."""
        if self._streams >= STREAMS_MAX:
            raise Exhausted(Reason.TOO_BUSY, f"{STREAMS_MAX} streams are open already")
        until = _until(timeout_s)
        query.stream = True
        query.credit = STREAM_CREDIT
        asked = self._begin(session, query, until, room=STREAM_CREDIT)
        self._streams += 1
        try:
            await self._send(session, query, until)
            while not asked.over:
                yield await asked.next(until)
                if not asked.over:
                    await self._send(session, link_pb2.Query(id=query.id, credit=1), until)
        finally:
            self._streams -= 1
            self._end(session, query, asked)

    def answered(self, session: Session, answer: link_pb2.Answer) -> None:
        """Hand an answer to who waits for it; nobody may wait any more."""
        asked = self._open.get(answer.id)
        if asked is not None and asked.session is session:
            asked.put(answer)

    def lost(self, session: Session) -> None:
        """The link broke: nobody will answer."""
        for asked in self._open.values():
            if asked.session is session:
                asked.lost = True
                asked.fail(_link_broke(session.peer))

    def _begin(self, session: Session, query: link_pb2.Query, until: float, room: int) -> Asked:
        if len(self._open) >= ASKING_MAX:
            raise Exhausted(Reason.TOO_BUSY, f"{ASKING_MAX} questions are open already")
        query.id = new_id()
        query.remaining_ms = max(0, int((until - asyncio.get_running_loop().time()) * 1000))
        query.traceparent = telemetry.traceparent()
        asked = self._open[query.id] = Asked(session, room)
        return asked

    async def _send(self, session: Session, query: link_pb2.Query, until: float) -> None:
        try:
            async with asyncio.timeout_at(until):
                await self._post.send(session, link_pb2.Frame(query=query))
        except TimeoutError as error:
            raise TooLate(Reason.DEADLINE, f"{session.peer} takes no questions", peer=session.peer) from error

    def _end(self, session: Session, query: link_pb2.Query, asked: Asked) -> None:
        """Forget a question; when it was not answered to the end, tell the peer that nobody waits any more."""
        del self._open[query.id]
        if not (asked.over or asked.lost):
            task = asyncio.create_task(self._take_back(session, query.id), name=f"take-back-{session.peer}")
            self._taking_back.add(task)
            task.add_done_callback(self._taking_back.discard)

    async def _take_back(self, session: Session, query: str) -> None:
        with suppress(TimeoutError, DomainError):
            async with asyncio.timeout(TAKE_BACK_TIMEOUT_S):
                await self._post.send(session, link_pb2.Frame(cancel=link_pb2.CancelQuery(id=query)))


def _until(timeout_s: float) -> float:
    """Return when the answer must be there, by the loop's clock: the caller's deadline, or sooner."""
    now = asyncio.get_running_loop().time()
    until = min(deadline.get(), now + timeout_s)
    if until <= now:
        raise TooLate(Reason.DEADLINE, "no time is left to ask")
    return until


def _link_broke(peer: str) -> Away:
    return Away(Reason.PEER_AWAY, f"the link to {peer} broke", peer=peer)
