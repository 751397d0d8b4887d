from datetime import UTC, datetime, timedelta

import pytest

from libs.durations import Duration, parse

JANUARY = datetime(2026, 1, 31, 8, tzinfo=UTC)


def test_durations_are_read() -> None:
    assert parse("P1D") == Duration(0, timedelta(days=1))
    assert parse("P1Y2M1W3DT4H5M6S") == Duration(14, timedelta(days=10, hours=4, minutes=5, seconds=6))
    assert parse("P1M").after(JANUARY) == datetime(2026, 2, 28, 8, tzinfo=UTC)
    assert parse("P1M").after(JANUARY, 2) == datetime(2026, 3, 31, 8, tzinfo=UTC)
    assert parse("PT90M").after(JANUARY) == JANUARY + timedelta(minutes=90)
    assert parse("P1M").shortest == timedelta(days=28)


@pytest.mark.parametrize("text", ["", "P", "PT", "P1", "1D", "P1.5D", "P0D", "P1D ", "P-1D", "PT1D", "P1H"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"duration|length"):
        parse(text)


def test_what_is_too_far_away_is_refused() -> None:
    with pytest.raises(OverflowError):
        parse("P9999Y").after(JANUARY)
