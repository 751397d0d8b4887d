"""What keeps the bytes of evidence: a folder or a bucket, which promise the same."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Protocol

from libs.errors import Away, Reason

# Less than what FinishUpload is given, so that who asked is told what is wrong.
OPERATION_TIMEOUT_S = 40.0
_NAME = re.compile(r"[0-9a-z]{2}/[0-9a-z]{6,64}")


class Trouble(StrEnum):
    """What is wrong with a store, as people are told it."""

    AWAY = "away"  # it does not answer, or not in time
    REFUSED = "refused"  # it does not let the node in
    NO_BUCKET = "no_bucket"
    UNTRUSTED = "untrusted"  # its certificate is of nobody that the node knows
    FAULTY = "faulty"  # it answers, but does not do what it should


class StoreAway(Away):
    """The store cannot do it now. Nothing is lost by that: whoever asked may ask again."""

    def __init__(self, trouble: Trouble, why: str) -> None:
        """`why` is for developers: it leaves the node, and must hold neither keys nor what a store says of them."""
        super().__init__(Reason.DEPENDENCY_AWAY, f"evidence: {why}", dependency="evidence", trouble=trouble.value)
        self.trouble = trouble
        self.why = why


class Objects(Protocol):
    """Bytes by name. Names are made by management, never by callers: two characters, a slash and six to 64 more.

    What was put is on the store's disks when `put` returns. Who looks finds all of it or nothing. Every call ends
    within OPERATION_TIMEOUT_S, and raises StoreAway when the store cannot do it.
    """

    @property
    def kind(self) -> str:
        """What it is, for metrics and logs: "folder" or "bucket"."""
        ...

    async def put(self, name: str, content: bytes) -> None:
        """Keep bytes under a name, in the place of what was there."""
        ...

    async def get(self, name: str) -> bytes | None:
        """Return the bytes of a name, None when there are none."""
        ...

    async def delete(self, name: str) -> None:
        """Remove the bytes of a name, if there are any."""
        ...


def checked(name: str) -> str:
    """Return the name of an object. Raises ValueError for anything else: it must not lead elsewhere."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not the name of an object")
    return name
