"""Warnings and what is done with them, for the tests of the centre."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from google.protobuf import json_format

from quintet.management.v1 import indicators_pb2, warnings_pb2

if TYPE_CHECKING:
    from services.management.warnings.tests.conftest import Centre

CITY, D6, D10, POTRERO = "us-ca-sf", "us-ca-sf-d6", "us-ca-sf-d10", "us-ca-sf-d10-potrero-hill"
OFFICER, LEADER, ADMIN = "people/duty-officer", "people/leader", "people/admin"
WORKS, SEWERS = "organisations/public-works", "organisations/sewer-ops"


def content(centre: Centre, level: str = "LEVEL_III", **changes: Any) -> warnings_pb2.WarningContent:
    """Heavy rain in the tenth district, for six hours."""
    values = {
        "event": {"zh": "暴雨", "en": "Heavy rain"},
        "headline": {"zh": "暴雨预警", "en": "Heavy rain warning"},
        "description": {"zh": "未来三小时有暴雨", "en": "Heavy rain in the next three hours"},
        "instruction": {"zh": "请勿外出", "en": "Stay indoors"},
        "level": level,
        "category": "WARNING_CATEGORY_MET",
        "urgency": "WARNING_URGENCY_EXPECTED",
        "certainty": "WARNING_CERTAINTY_LIKELY",
        "audience": {"zones": [D10]},
    }
    found = json_format.ParseDict(values | changes, warnings_pb2.WarningContent())
    found.expires_at.FromDatetime(centre.clock.now() + timedelta(hours=6))
    return found


async def drafted(centre: Centre, level: str = "LEVEL_III", **changes: Any) -> warnings_pb2.PublicWarning:
    request = warnings_pb2.DraftPublicWarningRequest(
        parent=f"zones/{D10}", content=content(centre, level, **changes), source=f"zones/{D10}/warnings/w1"
    )
    warning: warnings_pb2.PublicWarning = (await centre.ask("DraftPublicWarning", request, OFFICER)).warning
    return warning


async def act(centre: Centre, verb: str, name: str, subject: str = OFFICER, **more: Any) -> warnings_pb2.PublicWarning:
    """Do one thing with a warning: Approve, Publish, Revise, End, Discard or Review."""
    method = f"{verb}PublicWarning"
    request = getattr(warnings_pb2, f"{method}Request")(name=name, **more)
    warning: warnings_pb2.PublicWarning = (await centre.ask(method, request, subject)).warning
    return warning


async def published(centre: Centre, level: str = "LEVEL_III", **changes: Any) -> warnings_pb2.PublicWarning:
    warning = await drafted(centre, level, **changes)
    return await act(centre, "Publish", warning.name)


async def in_force(centre: Centre, zone: str) -> list[warnings_pb2.WarningInForce]:
    """What somebody without any account sees."""
    request = warnings_pb2.ListWarningsInForceRequest(parent=f"zones/{zone}")
    return list((await centre.ask("ListWarningsInForce", request, "")).warnings)


async def put_indicator(centre: Centre, **changes: Any) -> indicators_pb2.Indicator:
    """Graffiti per hour, watched in the tenth district at 3 (yellow) and 6 (orange)."""
    texts = {
        "headline": {"zh": "涂鸦激增", "en": "Graffiti surge"},
        "instruction": {"zh": "请留意", "en": "Look out"},
        "category": "WARNING_CATEGORY_SAFETY",
        "comparator": "COMPARATOR_AT_LEAST",
        "zones": [D10],
    }
    values = {
        "name": "indicators/graffiti",
        "title": {"zh": "每小时涂鸦", "en": "Graffiti per hour"},
        "unit": {"zh": "件", "en": "events"},
        "facts": [{"type": "quintet.management.v1.EventOpened"}],
        "aggregation": "AGGREGATION_COUNT",
        "windowMinutes": 60,
        "thresholds": [
            texts | {"level": "LEVEL_III", "value": 3, "clearValue": 1, "minimumMinutes": 2},
            texts | {"level": "LEVEL_II", "value": 6, "clearValue": 4},
        ],
    }
    indicator = json_format.ParseDict(values | changes, indicators_pb2.Indicator())
    request = indicators_pb2.PutIndicatorRequest(indicator=indicator)
    stored: indicators_pb2.Indicator = (await centre.ask("PutIndicator", request, ADMIN)).indicator
    return stored
