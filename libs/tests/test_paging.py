import base64
import json
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs import paging
from libs.errors import Invalid, Reason

TIME = datetime(2026, 11, 21, 8, 30, 0, 123456, tzinfo=UTC)
ROWS = [(TIME, "zones/a/events/1"), (TIME, "zones/a/events/2"), (TIME, "zones/a/events/3")]


def test_a_token_leads_to_the_row_it_was_made_from() -> None:
    page, token = paging.page(ROWS, 2, lambda row: row, of="events open")
    assert page == ROWS[:2]
    assert paging.after(token, datetime, str, of="events open") == ROWS[1]


def test_the_last_page_has_no_token() -> None:
    assert paging.page(ROWS, 3, lambda row: row, of="events") == (ROWS, "")
    assert paging.after("", datetime, str, of="events") is None


def test_page_sizes() -> None:
    assert [paging.size(asked, default=50, most=100) for asked in (0, 1, 100, 1000)] == [50, 1, 100, 100]


def forged(*keys: object, of: str = "events") -> str:
    _, token = paging.page([1, 2], 1, lambda row: (row,), of=of)
    mark = json.loads(base64.urlsafe_b64decode(token))[0]
    return base64.urlsafe_b64encode(json.dumps([mark, *keys]).encode()).decode()


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "====",
        "é",
        "A" * 513,
        forged(TIME.isoformat(), "a", of="other"),
        forged(TIME.isoformat()),
        forged("a", TIME.isoformat()),
        forged("2026-11-21T08:30:00", "a"),
        forged("0001-01-01T00:00:00+00:00", "a"),
        forged(TIME.isoformat(), "\0"),
        forged(TIME.isoformat(), "\ud800"),
        forged(TIME.isoformat(), "x" * 257),
        forged(TIME.isoformat(), 1),
        forged(TIME.isoformat(), None),
        base64.urlsafe_b64encode(b"1").decode(),
        base64.urlsafe_b64encode(b"[" * 300).decode(),
    ],
)
def test_tokens_of_others_are_refused(token: str) -> None:
    with pytest.raises(Invalid) as caught:
        paging.after(token, datetime, str, of="events")
    assert caught.value.reason == Reason.PAGE_TOKEN_INVALID
    assert caught.value.violations[0][0] == "pageToken"


@pytest.mark.parametrize("number", [2**63, -(2**63), True, 1.5, "1"])
def test_numbers_fit_their_column(number: object) -> None:
    with pytest.raises(Invalid):
        paging.after(forged(number), int, of="events")


@given(st.text(max_size=600))
def test_no_token_causes_anything_but_invalid(token: str) -> None:
    with suppress(Invalid):
        assert paging.after(token, datetime, of="events") is None
