"""Stand-ins of the same shape for real data that is not there. The same every time; labelled wherever shown."""

import math
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

LABEL = "GENERATED SAMPLE"
ROWS = 10_000
SEED = 20_180_124
FIRST = datetime(2016, 1, 1, tzinfo=UTC)
SPAN_DAYS = 730
SHARE_WITHOUT_PLACE = 0.42
SHARE_OPEN = 0.04
SHARE_REVERSED = 0.002
SHARE_POTRERO = 0.25
SITES_PER_DISTRICT = 60

_KINDS = (
    ("Sewer Issues", "Flooding", 25),
    ("Sewer Issues", "Odor", 4),
    ("MUNI Feedback", "MUNI  -", 14),
    ("311 External Request", "Graffiti", 10),
    ("311 External Request", "Garbage", 3),
    ("SFHA Requests", "Glazier", 6),
    ("SFHA Requests", "Laborer", 5),
    ("General Request - MTA", "other", 8),
    ("General Request - CITY ATTORNEY", "other", 4),
    ("Noise Report", "traffic", 1),
    ("Street Defects", "other", 1),
)
_WEIGHTS = {"10": 20, "5": 12, "3": 11, "6": 11, "1": 10, "8": 9, "2": 8, "9": 8, "7": 6, "4": 5, "11": 3}
_ITEM_WORDS = ("登记", "变更", "注销", "核准", "备案", "补办", "延续", "年度报告")
_ITEM_SUBJECTS = (
    "社会保障卡",
    "食品经营许可",
    "残疾人证",
    "道路运输证",
    "户外广告",
    "民办学校",
    "劳务派遣",
    "植物检疫",
)


def generated_rows(count: int = ROWS) -> Iterator[dict[str, str]]:
    """Rows with the columns of the 311 cases, in no order of time, with the kinds of dirt that the real ones have."""
    chance = random.Random(SEED)  # noqa: S311 - must be the same every time
    for number in range(count):
        row = _row(chance, number)
        if number % 5_000 == 17:  # noqa: PLR2004 - as rare as in the real data
            row["supervisor_district"] = "-1"
        yield row


def _row(chance: random.Random, number: int) -> dict[str, str]:
    category, kind, _ = chance.choices(_KINDS, weights=[weight for *_, weight in _KINDS])[0]
    created = FIRST + timedelta(seconds=chance.randrange(SPAN_DAYS * 86_400))
    closed = created + timedelta(hours=chance.expovariate(1 / 96))
    if chance.random() < SHARE_REVERSED:
        closed = created - timedelta(hours=chance.uniform(1, 12))
    is_open = chance.random() < SHARE_OPEN
    return {
        "unique_key": f"G{number:06}",
        "created_date": f"{created:%Y-%m-%d %H:%M:%S}+00:00",
        "closed_date": "" if is_open else f"{closed:%Y-%m-%d %H:%M:%S}+00:00",
        "status_notes": "" if is_open else "Completed",
        "category": category,
        "complaint_type": kind,
        "descriptor": LABEL,
        "source": chance.choice(("Phone", "Web", "Mobile/Open311")),
        **_place(chance),
    }


def _place(chance: random.Random) -> dict[str, str]:
    if chance.random() < SHARE_WITHOUT_PLACE:
        return {
            "incident_address": "Not associated with a specific address",
            "supervisor_district": "",
            "neighborhood": "",
            "latitude": "0.0",
            "longitude": "0.0",
        }
    district = chance.choices(list(_WEIGHTS), weights=list(_WEIGHTS.values()))[0]
    # A few sites come up again and again, so that reports of the same thing meet.
    site = min(int(chance.expovariate(0.08)), SITES_PER_DISTRICT)
    potrero = district == "10" and chance.random() < SHARE_POTRERO
    offset = int(district) * 0.007 + site * 0.0009
    return {
        "incident_address": f"{100 + site} GENERATED ST {district}",
        "supervisor_district": district,
        "neighborhood": "Potrero Hill" if potrero else "",
        "latitude": f"{37.70 + offset:.5f}",
        "longitude": f"{-122.51 + offset:.5f}",
    }


def generated_hours(station: int, hours: int) -> list[float | None]:
    """Hourly PM2.5 in ug/m3 with episodes of some days, and a gap now and then (None)."""
    chance = random.Random(SEED + station)  # noqa: S311
    values: list[float | None] = []
    for hour in range(hours):
        episode = max(0.0, math.sin(2 * math.pi * hour / (24 * 9))) ** 3
        value = 40 + 280 * episode + chance.gauss(0, 12) + station
        values.append(None if chance.random() < 0.01 else round(max(3.0, value), 1))  # noqa: PLR2004 - one in a hundred
    return values


def generated_items() -> list[dict[str, str]]:
    """Service items with the columns of the real table."""
    return [
        {
            "department": f"示例部门{subject:02}",
            "main_item": "未分类",
            "name": f"{name}{word}（生成样本）",
            "item_code": f"GEN-{subject:02}-{number:02}",
            "task_type": "1",
        }
        for subject, name in enumerate(_ITEM_SUBJECTS)
        for number, word in enumerate(_ITEM_WORDS)
    ]
