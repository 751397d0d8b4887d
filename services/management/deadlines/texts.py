"""What people read about deadlines, in zh-CN and en: the sentences, and how moments and durations are written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.management.deadlines.model_reading import Skipped, SkippedKind
from services.management.texts import Text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta
    from zoneinfo import ZoneInfo

_HOUR_MIN = 60

DUE = Text(
    "截止时间为{due}：自{since}起计{amount}，按“{calendar}”第{version}版计时{skipped}{pauses}{extensions}。",
    "Due {due} because {amount} count from {since} by the calendar “{calendar}”, version {version}"
    "{skipped}{pauses}{extensions}.",
)
DUE_AROUND_THE_CLOCK = Text(
    "截止时间为{due}：自{since}起计{amount}，全天候计时{pauses}{extensions}。",
    "Due {due} because {amount} count from {since} around the clock{pauses}{extensions}.",
)
DUE_PROMISED = Text(
    "截止时间为{due}：原系统自{since}起承诺{amount}，全天候计时{pauses}{extensions}。",
    "Due {due} because {amount} from {since} were promised where it was handled before{pauses}{extensions}.",
)
DUE_ELSEWHERE = Text(
    "截止时间为{due}，由节点 {node} 计算，依据在该节点查询。",
    "Due {due}, as reckoned by the node {node}, which can explain it.",
)
SKIPPED = Text("；跳过{parts}", "; skipped: {parts}")
PAUSES = Text("；暂停{count}次，共{amount}", "; paused {count} times, {amount} in all")
EXTENDED = Text("；延期{amount}（{by} 批准）", "; extended by {amount} (approved by {by})")
CHANGED = Text("截止时间由{before}改为{after}：{cause}。", "The deadline moved from {before} to {after}: {cause}.")
BY_EXTENSION = Text("已批准延期{amount}", "an extension of {amount} was approved")
BY_SUSPENSION = Text("挂账至{until}，其间不计时", "it is suspended until {until}, and no time counts until then")
BY_RESUMPTION = Text("挂账提前结束，恢复计时", "its suspension ended early, and time counts again")
BY_REOPENING = Text("事件重开，结案期间不计时", "it was reopened, and the time while it was closed does not count")
BY_CALENDAR = Text("工作日历“{calendar}”改为第{version}版", "the calendar “{calendar}” changed to version {version}")
ONE_PAUSE = Text("；暂停1次，共{amount}", "; paused once, {amount} in all")
LATE = Text("超时{minutes}分钟，按类型的升级规则上报", "{minutes} minutes late: the type's ladder")
WORKING = Text("工作时间{amount}", "{amount} of working time")
NIGHTS = Text("{days}个夜间", "{days} nights")
WEEKLY = Text("休息日{days}天", "{days} rest days")
HOLIDAY = Text("{title}{days}天", "{title} ({days} days)")
ONE_NIGHT = Text("{days}个夜间", "{days} night")
ONE_WEEKLY = Text("休息日{days}天", "{days} rest day")
ONE_HOLIDAY = Text("{title}{days}天", "{title} ({days} day)")
UNNAMED = Text("节假日", "a holiday")

_WEEKDAYS_ZH = "一二三四五六日"
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip

_SKIPPED: dict[SkippedKind, tuple[Text, Text]] = {
    SkippedKind.NIGHTS: (ONE_NIGHT, NIGHTS),
    SkippedKind.WEEKLY: (ONE_WEEKLY, WEEKLY),
    SkippedKind.HOLIDAY: (ONE_HOLIDAY, HOLIDAY),
}


def moment(at: datetime, zone: ZoneInfo) -> tuple[str, str]:
    """Return an instant as people of a time zone write it, in both languages."""
    local = at.astimezone(zone)
    zh = f"{local.year}年{local.month}月{local.day}日（星期{_WEEKDAYS_ZH[local.weekday()]}）{local:%H:%M}"
    en = f"{_WEEKDAYS[local.weekday()]} {local.day} {_MONTHS[local.month - 1]} {local.year} {local:%H:%M}"
    return zh, en


def duration(amount: timedelta) -> tuple[str, str]:
    """Return a duration in hours and minutes, in both languages."""
    hours, minutes = divmod(int(amount.total_seconds() // 60), _HOUR_MIN)
    zh = (f"{hours}小时" if hours else "") + (f"{minutes}分钟" if minutes or not hours else "")
    parts = ([f"{hours} h"] if hours else []) + ([f"{minutes} min"] if minutes or not hours else [])
    return zh, " ".join(parts)


def skipped(found: Sequence[Skipped]) -> tuple[str, str]:
    """Return the clause about what a clock did not count; empty for nothing."""
    if not found:
        return "", ""
    parts = [_part(each) for each in found]
    return SKIPPED.zh.format(parts="、".join(zh for zh, _ in parts)), SKIPPED.en.format(
        parts=", ".join(en for _, en in parts)
    )


def _part(each: Skipped) -> tuple[str, str]:
    text = _SKIPPED[each.kind][each.days > 1]
    zh = text.zh.format(days=each.days, title=each.title_zh or each.title_en or UNNAMED.zh)
    return zh, text.en.format(days=each.days, title=each.title_en or each.title_zh or UNNAMED.en)


def both(text: Text, **values: tuple[str, str]) -> tuple[str, str]:
    """Fill a text with values that are themselves in both languages."""
    zh, en = ({name: value[side] for name, value in values.items()} for side in (0, 1))
    return text.zh.format(**zh), text.en.format(**en)


def plain(value: object) -> tuple[str, str]:
    """Return a value that reads the same in both languages."""
    return str(value), str(value)
