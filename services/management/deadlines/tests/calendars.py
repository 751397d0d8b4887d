"""Calendars for the tests of deadlines, the shipped ones among them."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import yaml
from google.protobuf.json_format import ParseDict

from quintet.management.v1 import calendars_pb2 as pb
from services.management.deadlines.convert_calendars import calendar_of
from services.management.deadlines.model_calendar import Calendar, Hours, SpecialDays, SpecialKind

SHIPPED = Path(__file__).parents[4] / "deploy/demo/common"
OFFICE = (Hours(9 * 60, 12 * 60), Hours(13 * 60, 18 * 60))
WEEK = (OFFICE,) * 5 + ((), ())


def shipped(country: str) -> pb.Calendar:
    """Return a calendar that is shipped, as its file says it."""
    content = yaml.safe_load((SHIPPED / f"calendar-{country}.yaml").read_text())["calendars"][0]
    content["name"] = f"calendars/{content.pop('id')}"
    for part in content["week"]:
        part["days"] = [f"WEEKDAY_{day.upper()}" for day in part["days"]]
    for special in content["special_days"]:
        special["kind"] = f"SPECIAL_DAY_KIND_{special['kind'].upper()}"
        if "hours_of" in special:
            special["hours_of"] = f"WEEKDAY_{special['hours_of'].upper()}"
    return ParseDict(content, pb.Calendar())


CHINA = calendar_of(shipped("cn"))
SAN_FRANCISCO = calendar_of(shipped("sf"))
NIGHTS = Calendar(
    "calendars/nights",
    "America/Los_Angeles",
    ((Hours(0, 2 * 60 + 30), Hours(22 * 60, 24 * 60)),) * 7,
    special_days=(
        SpecialDays(date(2026, 3, 10), date(2026, 3, 11), SpecialKind.HOLIDAY),
        SpecialDays(date(2026, 3, 14), date(2026, 3, 14), SpecialKind.WORKDAY, hours=(Hours(100, 200),)),
    ),
)
