"""What people read of management's own decisions, in zh-CN and en. Values are filled in by name."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Text:
    """One message in two languages, with {placeholders}."""

    zh: str
    en: str

    def fill(self, **values: str) -> tuple[str, str]:
        """Return the Chinese and the English text with all placeholders filled."""
        return self.zh.format(**values), self.en.format(**values)


ROUTED = Text(
    "类型 {type} 在区域 {route_zone} 由 {organisation} 处置；{zone} 属于该区域，是覆盖它的规则中最细的一条",
    "{organisation} handles {type} in {route_zone}: the deepest route that covers {zone}",
)
NOT_ROUTED = Text("类型 {type} 没有覆盖区域 {zone} 的派遣规则", "no route of {type} covers {zone}")
POST_ENDED = Text(
    "{person} 已不在 {organisation} 任职，事件退回待领",
    "{person} holds no post in {organisation} here any more: the event is free to be taken",
)
MERGED_NEAR = Text(
    "类型相同，相距 {distance_m} 米（上限 {radius_m} 米），时间相差 {hours} 小时（上限 {window_h} 小时），并入同一事件",
    "merged: same type, {distance_m} m apart (at most {radius_m} m), {hours} h apart (at most {window_h} h)",
)
MERGED_ADDRESS = Text(
    "类型相同，地址相同，时间相差 {hours} 小时（上限 {window_h} 小时），并入同一事件",
    "merged: same type, same address, {hours} h apart (at most {window_h} h)",
)
