"""Clock, ids, backoff, canonical JSON."""

import asyncio
import time
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs import canonical
from libs.backoff import Backoff, delay
from libs.clock import ManualClock, SystemClock
from libs.ids import new_id, short_id


def test_clocks_speak_utc() -> None:
    assert SystemClock().now().tzinfo is UTC
    clock = ManualClock(datetime(2026, 1, 5, 16, tzinfo=timezone(timedelta(hours=8))))
    assert clock.now() == datetime(2026, 1, 5, 8, tzinfo=UTC)
    assert clock.advance(timedelta(minutes=1)) == clock.now() == datetime(2026, 1, 5, 8, 1, tzinfo=UTC)
    with pytest.raises(ValueError, match="backwards"):
        clock.advance(timedelta(seconds=-1))
    with pytest.raises(ValueError, match="aware"):
        ManualClock(datetime(2026, 1, 5))  # noqa: DTZ001 - that is the point


def test_ids_are_uuids_of_version_7_in_order() -> None:
    before_ms = time.time_ns() // 1_000_000
    ids = [new_id() for _ in range(10_000)]
    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)
    parsed = UUID(ids[0])
    assert (parsed.version, str(parsed)) == (7, ids[0])
    assert before_ms <= parsed.int >> 80 <= time.time_ns() // 1_000_000


def test_short_ids_are_in_order_and_easy_to_read() -> None:
    ids = [short_id() for _ in range(10_000)]
    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)
    assert {len(each) for each in ids} == {12}
    assert not set("ilou").intersection("".join(ids))


def test_backoff_grows_to_its_bound_and_starts_anew() -> None:
    backoff = Backoff(0.1, 1.0)
    delays = [backoff.next_s() for _ in range(100)]
    assert 0.05 <= delays[0] <= 0.1
    assert all(0.5 <= each <= 1.0 for each in delays[4:])
    backoff.reset()
    assert backoff.next_s() <= 0.1
    assert delay(10_000, 0.1, 30.0) == 30.0


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_what_is_stored_has_one_form_also_when_read_back(value: canonical.JsonValue) -> None:
    try:
        form = canonical.dumps(canonical.storable(value))
    except ValueError:
        assert any(0xD800 <= ord(char) < 0xE000 for char in repr_text(value))  # lone surrogates have no UTF-8
        return
    assert b"\\u0000" not in form
    assert canonical.dumps(canonical.loads(form)) == form


def repr_text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return "".join(repr_text(key) + repr_text(item) for key, item in value.items())
    return "".join(map(repr_text, value)) if isinstance(value, list) else ""


def test_canonical_form() -> None:
    value: canonical.JsonValue = {"b": [1, 2.0, 1e21, "é\n"], "a": {"z": None, "y": True}}
    assert canonical.dumps(value) == '{"a":{"y":true,"z":null},"b":[1,2,1e+21,"é\\n"]}'.encode()
    assert canonical.storable({"n": 2**53, "t": (1, 2)}) == {"n": "9007199254740992", "t": [1, 2]}
    with pytest.raises(ValueError, match="no form"):
        canonical.storable(float("nan"))
    with pytest.raises(TypeError, match="bytes"):
        canonical.storable(b"x")


async def test_waiting_is_cancellable() -> None:
    task = asyncio.create_task(Backoff(60, 60).wait())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
