"""What people read of the centre's own decisions, in zh-CN and en. Values are filled in by name."""

from __future__ import annotations

from services.management.texts import Text

RAISED = Text(
    "{title}在区域 {zone} 为 {value} {unit}，{side} {limit} {unit}已持续 {minutes} 分钟（要求 {minimum} 分钟），"
    "触发{level}级（{colour}）预警；{back} {clear} {unit}时解除",
    "{title} in {zone} was {value} {unit}, {side} {limit} {unit}, for {minutes} min (at least {minimum} min): "
    "level {level} ({colour}); it clears when it {back} {clear} {unit}",
)
BACK = Text(
    "{title}在区域 {zone} 已恢复至 {value} {unit}，预警解除",
    "{title} in {zone} is back at {value} {unit}; the warning has ended",
)
EXPIRED = Text("预警已到期，自动解除", "The warning has expired")

AT_LEAST = Text("不低于", "at or above")
AT_MOST = Text("不高于", "at or below")
FALLS = Text("回落至", "falls to")
RISES = Text("回升至", "rises to")
LEVELS = {1: Text("一", "I"), 2: Text("二", "II"), 3: Text("三", "III"), 4: Text("四", "IV")}
COLOURS = {1: Text("红色", "red"), 2: Text("橙色", "orange"), 3: Text("黄色", "yellow"), 4: Text("蓝色", "blue")}
