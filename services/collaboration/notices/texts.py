"""What notices say, in zh-CN and en."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quintet.management.v1.management_pb2 import ClockKind

if TYPE_CHECKING:
    from datetime import datetime
    from zoneinfo import ZoneInfo

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
_UNHELD = ("（本应告知角色 {role}，但无人任职。）", " (Meant for the role {role}, which nobody holds here.)")


def reminder(
    title: str, clock: ClockKind.ValueType, due_at: datetime, timezone: ZoneInfo, *, passed: bool
) -> tuple[str, str]:
    """Return what is said around a deadline, in both languages."""
    return _filled(_PASSED if passed else _NEAR, title, clock, due_at, timezone)


def escalation(title: str, clock: ClockKind.ValueType, due_at: datetime, timezone: ZoneInfo) -> tuple[str, str]:
    """Return what is said of a late event, in both languages."""
    return _filled(_ESCALATED, title, clock, due_at, timezone)


def unheld(role: str) -> tuple[str, str]:
    """Return what is added where nobody holds the role that is meant."""
    zh, en = _UNHELD
    return zh.format(role=role), en.format(role=role)


def _filled(
    texts: tuple[str, str], title: str, clock: ClockKind.ValueType, due_at: datetime, timezone: ZoneInfo
) -> tuple[str, str]:
    due = due_at.astimezone(timezone)
    moments = f"{due:%Y年%m月%d日 %H:%M}", f"{due:%Y-%m-%d %H:%M}"
    zh, en = (
        text.format(title=title, clock=word, due=moment)
        for text, word, moment in zip(texts, _CLOCKS.get(clock, _ANY), moments, strict=True)
    )
    return zh, en
