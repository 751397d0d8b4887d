"""What was answered to a request before, so that asking again does not do it again."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from google.protobuf.message import Message

from libs import context
from libs.errors import AlreadyExists, Reason
from quintet.options.v1 import options_pb2

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor, FieldDescriptor

    from libs.db import Connection

# Longer than any client keeps trying.
REQUEST_LOG_KEEP_S = 7 * 24 * 3600
REQUEST_LOG = "request_log"


@dataclass
class Memory:
    """One request as the log knows it: by whom, what, under which id, and a hash of all of it."""

    subject: str
    method: str
    request_id: str
    request_hash: bytes
    answer: bytes | None = None  # to keep; written by the flush of the transaction

    @classmethod
    def of(cls, request: Message) -> Memory | None:
        """Return None for a request without a request_id."""
        request_id = getattr(request, "request_id", "")
        if not request_id:
            return None
        # Without its secrets: a hash of a password that is quick to make is quick to guess.
        digest = hashlib.sha256(without_secrets(request).SerializeToString(deterministic=True)).digest()
        return cls(context.caller_subject.get(), method_of(request), request_id, digest)

    async def recall(self, conn: Connection) -> bytes | None:
        """Return the answer given before, or claim the request for this transaction and return None.

        While another transaction has the claim, wait for its end. Raises AlreadyExists when the id was used for another
        request.
        """
        claimed = await conn.fetchval(
            """INSERT INTO request_log (subject, method, request_id, request_hash) VALUES ($1, $2, $3, $4)
            ON CONFLICT DO NOTHING RETURNING true""",
            self.subject, self.method, self.request_id, self.request_hash,
        )  # fmt: skip
        if claimed:
            return None
        # A statement of its own: its snapshot includes what the other transaction has just committed.
        answer = await self.look(conn)
        return await self.recall(conn) if answer is None else answer  # purged between the two statements

    async def look(self, conn: Connection) -> bytes | None:
        """Return the answer given before, or None, claiming nothing. Raises like `recall`."""
        row = await conn.fetchrow(
            "SELECT request_hash, response FROM request_log WHERE subject = $1 AND method = $2 AND request_id = $3",
            self.subject, self.method, self.request_id,
        )  # fmt: skip
        if row is None:
            return None
        if row["request_hash"] != self.request_hash:
            text = f"request_id {self.request_id} was used for another request"
            raise AlreadyExists(Reason.REQUEST_ID_REUSED, text, request_id=self.request_id)
        answer: bytes = row["response"]
        return answer

    def keep(self, response: Message) -> None:
        """Remember the answer, except its secrets, which are given once."""
        self.answer = without_secrets(response).SerializeToString()


def without_secrets(message: Message) -> Message:
    """Return the message, or a copy of it in which the fields declared as secret are empty."""
    if not _holds_secrets(message.DESCRIPTOR):
        return message
    copy = type(message)()
    copy.CopyFrom(message)
    _clear_secrets(copy)
    return copy


@cache
def _holds_secrets(descriptor: Descriptor) -> bool:
    return any(_is_secret(field) for kind in _reachable(descriptor) for field in kind.fields)


def _reachable(descriptor: Descriptor) -> set[Descriptor]:
    """Return the type and all types within it; types may contain themselves."""
    found: set[Descriptor] = set()
    ahead = [descriptor]
    while ahead:
        kind = ahead.pop()
        if kind not in found:
            found.add(kind)
            ahead += [field.message_type for field in kind.fields if field.message_type is not None]
    return found


def _is_secret(field: FieldDescriptor) -> bool:
    return field.GetOptions().Extensions[options_pb2.rules].secret


def _clear_secrets(message: Message) -> None:
    for field, value in message.ListFields():
        if _is_secret(field):
            message.ClearField(field.name)
        elif field.message_type is not None:
            if field.message_type.GetOptions().map_entry:
                inner = [item for item in value.values() if isinstance(item, Message)]
            else:
                inner = list(value) if field.is_repeated else [value]
            for item in inner:
                _clear_secrets(item)


def method_of(request: Message) -> str:
    """Return the RPC being served, or outside of one the type of the request."""
    return context.rpc_method.get() or request.DESCRIPTOR.full_name


def resource_of(message: Message) -> str:
    """Return the resource name in `message.name`, or in the first message within it that has one, else ""."""
    inner = [getattr(message, f.name) for f in message.DESCRIPTOR.fields if f.message_type and not f.is_repeated]
    for candidate in (message, *inner):
        name = getattr(candidate, "name", "")
        if name and isinstance(name, str):
            return name
    return ""
