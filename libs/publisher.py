"""Publishing to JetStream with many acknowledgements under way at once.

The client library has this too, but leaves a refused message without an answer and takes a cancellation for an error.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nats.aio.client import Client
    from nats.aio.msg import Msg


class Ack(NamedTuple):
    """The stream has stored the message at this sequence; `duplicate` when it already had."""

    sequence: int
    duplicate: bool


class Refused(Exception):
    """The server has answered that it did not store the message; `code` is its error code."""

    def __init__(self, code: int, description: str) -> None:
        super().__init__(f"{description} ({code})")
        self.code = code


class Publisher:
    """Sends messages and matches the answers to them."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._inbox = ""
        self._count = 0
        self._waiting: dict[str, asyncio.Future[Ack]] = {}

    async def send(self, subject: str, payload: bytes, headers: Mapping[str, str]) -> asyncio.Future[Ack]:
        """Send a message; the future gives its acknowledgement or raises Refused. Cancel it to stop waiting.

        Raises the client's errors when it cannot be sent.
        """
        if not self._inbox:
            inbox = self._client.new_inbox()
            await self._client.subscribe(f"{inbox}.*", cb=self._answer)
            self._inbox = inbox
        self._count += 1
        token = str(self._count)
        future = self._waiting[token] = asyncio.get_running_loop().create_future()
        future.add_done_callback(lambda _: self._waiting.pop(token, None))
        try:
            await self._client.publish(subject, payload, reply=f"{self._inbox}.{token}", headers=dict(headers))
        except BaseException:
            future.cancel()
            raise
        return future

    async def _answer(self, message: Msg) -> None:
        future = self._waiting.get(message.subject.rpartition(".")[2])
        if future is None or future.done():
            return
        if not message.data:
            # The server's "no responders": there is no stream for the subject.
            future.set_exception(Refused(503, "no stream takes the subject"))
            return
        with suppress(ValueError, KeyError):
            answer = json.loads(message.data)
            if error := answer.get("error"):
                future.set_exception(Refused(error.get("err_code", error["code"]), error.get("description", "")))
            else:
                future.set_result(Ack(answer["seq"], bool(answer.get("duplicate"))))
