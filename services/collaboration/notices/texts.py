"""What notices say, in zh-CN and en."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quintet.management.v1.handovers_pb2 import HandoverState
from quintet.management.v1.management_pb2 import ClockKind

if TYPE_CHECKING:
    from datetime import datetime
    from zoneinfo import ZoneInfo

    from quintet.management.v1.handovers_pb2 import Handover

_CLOCKS = {
    ClockKind.CLOCK_KIND_BUSINESS: ("业务时限", "deadline"),
    ClockKind.CLOCK_KIND_STEP: ("环节时限", "deadline of the present step"),
}
_ANY = ("时限", "deadline")
_NEAR = ("“{title}”的{clock}将于{due}到期。", "The {clock} of “{title}” is {due}.")
_PASSED = ("“{title}”的{clock}已于{due}到期，尚未完成。", "The {clock} of “{title}” was {due}; it is late.")
_ESCALATED = (
    "“{title}”的{clock}已于{due}到期，按类型的升级规则提请处理。",
    "The {clock} of “{title}” was {due}; by the ladder of its type it is brought before you.",
)
_WHISTLE_NEAR = (
    "{zone} 吹哨，请于{due}前到场报到。",
    "{zone} has blown the whistle: report in on site by {due}.",
)
_WHISTLE_PASSED = (
    "{zone} 吹哨，贵单位未于{due}前到场报到。",
    "{zone} has blown the whistle, and your organisation has not reported in by {due}.",
)
# Of the states of a hand-over those that somebody is told of.
HANDOVERS = {
    HandoverState.HANDOVER_STATE_OFFERED: (
        "{from_}拟将“{title}”移交贵单位，请于{due}前答复。",
        "{from_} offers you “{title}”: answer by {due}.",
    ),
    HandoverState.HANDOVER_STATE_ACCEPTED: (
        "{to}已接收“{title}”。",
        "{to} has accepted “{title}”.",
    ),
    HandoverState.HANDOVER_STATE_REFUSED: (
        "{to}未接收“{title}”，仍由贵单位负责；可申请裁决。",
        "{to} has refused “{title}”: you still answer for it, and may dispute that.",
    ),
    HandoverState.HANDOVER_STATE_LAPSED: (
        "{to}逾期未答复“{title}”的移交，仍由贵单位负责；可申请裁决。",
        "{to} has not answered for “{title}” in time: you still answer for it, and may dispute that.",
    ),
    HandoverState.HANDOVER_STATE_DISPUTED: (
        "{from_}与{to}就“{title}”的移交有争议，提请裁决{by_zh}。",
        "{from_} and {to} dispute who answers for “{title}”: it is brought before you{by_en}.",
    ),
    HandoverState.HANDOVER_STATE_ORDERED: (
        "经裁决，“{title}”由贵单位负责。",
        "It was decided that you answer for “{title}”.",
    ),
    HandoverState.HANDOVER_STATE_DISMISSED: (
        "经裁决，“{title}”仍由贵单位负责。",
        "It was decided that you go on answering for “{title}”.",
    ),
}
_UNHELD = ("（本应告知角色 {role}，但无人任职。）", " (Meant for the role {role}, which nobody holds here.)")


def reminder(
    title: str, clock: ClockKind.ValueType, due_at: datetime, timezone: ZoneInfo, *, passed: bool
) -> tuple[str, str]:
    """Return what is said around a deadline, in both languages."""
    return _filled(_PASSED if passed else _NEAR, title, clock, due_at, timezone)


def escalation(title: str, clock: ClockKind.ValueType, due_at: datetime, timezone: ZoneInfo) -> tuple[str, str]:
    """Return what is said of a late event, in both languages."""
    return _filled(_ESCALATED, title, clock, due_at, timezone)


def handover(told: Handover, due_at: datetime | None, timezone: ZoneInfo) -> tuple[str, str]:
    """Return what is said of a hand-over in one of the states of HANDOVERS, in both languages."""
    due_zh, due_en = _moments(due_at, timezone) if due_at else ("", "")
    by = {"by_zh": f"，请于{due_zh}前裁决" if due_zh else "", "by_en": f", to be decided by {due_en}" if due_en else ""}
    zh, en = HANDOVERS[told.state]
    names = {"title": told.title, "from_": _short(told.from_organisation), "to": _short(told.to_organisation)}
    return zh.format(**names, **by, due=due_zh), en.format(**names, **by, due=due_en)


def whistle(zone: str, due_at: datetime, timezone: ZoneInfo, *, passed: bool) -> tuple[str, str]:
    """Return what is said to an organisation that has not reported in, in both languages."""
    due_zh, due_en = _moments(due_at, timezone)
    zh, en = _WHISTLE_PASSED if passed else _WHISTLE_NEAR
    return zh.format(zone=zone, due=due_zh), en.format(zone=zone, due=due_en)


def unheld(role: str) -> tuple[str, str]:
    """Return what is added where nobody holds the role that is meant."""
    zh, en = _UNHELD
    return zh.format(role=role), en.format(role=role)


def _filled(
    texts: tuple[str, str], title: str, clock: ClockKind.ValueType, due_at: datetime, timezone: ZoneInfo
) -> tuple[str, str]:
    moments = _moments(due_at, timezone)
    zh, en = (
        text.format(title=title, clock=word, due=moment)
        for text, word, moment in zip(texts, _CLOCKS.get(clock, _ANY), moments, strict=True)
    )
    return zh, en


def _moments(time: datetime, timezone: ZoneInfo) -> tuple[str, str]:
    there = time.astimezone(timezone)
    return f"{there:%Y年%m月%d日 %H:%M}", f"{there:%Y-%m-%d %H:%M}"


def _short(organisation: str) -> str:
    return organisation.removeprefix("organisations/")
