"""What people read of plans that software activated, in zh-CN and en. Values are filled in by name."""

from __future__ import annotations

from services.management.texts import Text

TRIGGERED = Text(
    "区域 {zone} 发布了{category}类{level}级预警，符合预案“{plan}”的启动条件",
    'a warning of level {level}, category {category}, was published for {zone}: plan "{plan}" answers those',
)
LEVELS = {1: Text("一", "I"), 2: Text("二", "II"), 3: Text("三", "III"), 4: Text("四", "IV")}
