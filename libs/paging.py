"""Lists in pages: keyset tokens, which stay right while rows come and go and cost the same on every page.

    after = paging.after(request.page_token, datetime, str, of=f"events {request.zone} {request.state}")
    size = paging.size(request.page_size, default=50, most=500)
    rows = await store.list_events(conn, after=after, limit=size + 1)
    page, token = paging.page(rows, size, lambda row: (row.created, row.id), of=...)

A token only says after which row to go on. It grants nothing: the list applies the same narrowing to every page.
"""

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from libs.errors import Invalid, Reason

PAGE_SIZE_DEFAULT = 100
PAGE_SIZE_MAX = 1000
TOKEN_CHARS_MAX = 512
KEY_CHARS_MAX = 256
INT64_MAX = 2**63 - 1
YEARS = range(1900, 2201)

Key = str | int | datetime
Row = TypeVar("Row")


def size(page_size: int, *, default: int = PAGE_SIZE_DEFAULT, most: int = PAGE_SIZE_MAX) -> int:
    """Return how many rows to give: `default` when the request says 0, never more than `most`."""
    return min(page_size or default, most)


def after(token: str, *kinds: type[Key], of: str) -> tuple[Any, ...] | None:
    """Return the keys of the last row of the page before, typed as `kinds`; None for the first page.

    `of` names the list and its filter: a token is good for the list that made it only. Raises Invalid(pageToken).
    """
    if not token:
        return None
    try:
        return _keys(token, kinds, of)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        rule = "must be the nextPageToken of this list with the same filter"
        raise Invalid("pageToken", rule, reason=Reason.PAGE_TOKEN_INVALID) from error


def page(rows: Sequence[Row], limit: int, keys: Callable[[Row], Sequence[Key]], *, of: str) -> tuple[list[Row], str]:
    """Return the rows of this page and the token of the next, "" at the end.

    `rows` holds one row more than `limit` when there is a next page; `keys` gives what the list is ordered by: times,
    numbers and names, not free text, as a token holds TOKEN_CHARS_MAX characters.
    """
    if len(rows) <= limit:
        return list(rows), ""
    return list(rows[:limit]), _token(keys(rows[limit - 1]), of)


def _token(keys: Sequence[Key], of: str) -> str:
    written = [_mark(of), *(key.isoformat() if isinstance(key, datetime) else key for key in keys)]
    token = base64.urlsafe_b64encode(json.dumps(written, separators=(",", ":"), ensure_ascii=False).encode()).decode()
    if len(token) > TOKEN_CHARS_MAX:
        raise ValueError(f"the keys of {of!r} are too long for a page token")
    return token


def _keys(token: str, kinds: Sequence[type[Key]], of: str) -> tuple[Key, ...]:
    if len(token) > TOKEN_CHARS_MAX:
        raise ValueError("too long")
    mark, *keys = json.loads(base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True))
    if mark != _mark(of):
        raise ValueError("made by another list")
    return tuple(_read(key, kind) for key, kind in zip(keys, kinds, strict=True))


def _mark(of: str) -> str:
    return hashlib.sha256(of.encode()).hexdigest()[:8]


def _read(key: object, kind: type[Key]) -> Key:
    """Return the key as its column can hold it: the token may come from anybody."""
    if kind is datetime and isinstance(key, str):
        time = datetime.fromisoformat(key)
        if time.tzinfo is not None and time.year in YEARS:
            return time.astimezone(UTC)
    elif kind is int and isinstance(key, int) and not isinstance(key, bool) and abs(key) <= INT64_MAX:
        return key
    elif kind is str and isinstance(key, str) and len(key) <= KEY_CHARS_MAX and "\0" not in key:
        key.encode()  # raises UnicodeEncodeError, a ValueError, for a lone surrogate
        return key
    raise ValueError("not a key of this list")
