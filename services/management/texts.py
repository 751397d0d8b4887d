"""What people read of management's own decisions, in zh-CN and en. Values are filled in by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


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
OWNED = Text(
    "“{component}”在区域 {owner_zone} 由 {organisation} 管护，先于类型 {type} 的派遣规则；{zone} 属于该区域，"
    "是覆盖它的权属规则中最细的一条",
    "“{component}” in {owner_zone} is looked after by {organisation}, which comes before the routes of {type}: "
    "the deepest owner that covers {zone}",
)
NOT_OWNED = Text("；“{component}”在 {zone} 没有登记权属单位", "; nobody is said to look after “{component}” in {zone}")
PASSED_OVER = Text("；{zone} 的 {organisation} 未采用：{why}", "; {organisation} of {zone} was passed over: {why}")
OFF_DUTY = Text("现在不在其工作时间", "it is not on duty now")
FULL = Text("在办事件已达上限 {most} 件", "it has {most} open events, the most that it takes")
ALL_PASSED_OVER = Text(
    "；各规则的条件均不满足，仍按首条规则", "; no route's conditions hold: the first one takes it all the same"
)
POST_ENDED = Text(
    "{person} 已不在 {organisation} 任职，事件退回待领",
    "{person} holds no post in {organisation} here any more: the event is free to be taken",
)
MERGED_NEAR = Text(
    "类型相同，相距 {distance_m} 米（上限 {radius_m} 米），时间相差 {hours} 小时（上限 {window_h} 小时），"
    "并入同一事件；相似度 {score}：{parts}",
    "merged: same type, {distance_m} m apart (at most {radius_m} m), {hours} h apart (at most {window_h} h); "
    "score {score}: {parts}",
)
MERGED_COMPONENT = Text(
    "类型相同，同为部件 {component}，时间相差 {hours} 小时（上限 {window_h} 小时），"
    "并入同一事件；相似度 {score}：{parts}",
    "merged: same type, same component {component}, {hours} h apart (at most {window_h} h); score {score}: {parts}",
)
MERGED_ADDRESS = Text(
    "类型相同，地址相同，时间相差 {hours} 小时（上限 {window_h} 小时），并入同一事件；相似度 {score}：{parts}",
    "merged: same type, same address, {hours} h apart (at most {window_h} h); score {score}: {parts}",
)
SUGGESTED = Text(
    "可能与 {event} 是同一件事：相似度 {score}（达到 {least} 即提示）：{parts}",
    "may be the same as {event}: score {score} (suggested from {least}): {parts}",
)
# The parts of a score by model_merge.Part, each with its value and its share of the whole.
PARTS = {
    "type": Text("类型 {value}×{weight}", "type {value} x {weight}"),
    "distance": Text("距离 {value}×{weight}", "distance {value} x {weight}"),
    "time": Text("时间 {value}×{weight}", "time {value} x {weight}"),
    "address": Text("地址 {value}×{weight}", "address {value} x {weight}"),
    "component": Text("部件 {value}×{weight}", "component {value} x {weight}"),
    "words": Text("文字 {value}×{weight}", "words {value} x {weight}"),
}


def scored(text: Text, parts: Iterable[tuple[str, float, float]], inputs: Mapping[str, str]) -> tuple[str, str]:
    """Fill a text about a score with its parts, given as name, value and weight."""
    both = [PARTS[part].fill(value=f"{value:.2f}", weight=f"{weight:.0%}") for part, value, weight in parts]
    zh, en = "、".join(zh for zh, _ in both), ", ".join(en for _, en in both)
    return text.zh.format(parts=zh, **inputs), text.en.format(parts=en, **inputs)
