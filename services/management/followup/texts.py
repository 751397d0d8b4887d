"""What people read of why somebody is followed up, in zh-CN and en. Values are filled in by name."""

from __future__ import annotations

from services.management.texts import Text

DRAWN = Text(
    "{period} 抽签号 {number} 小于抽样比例 {share}，列入回访；本月种子的承诺值为 {commitment}",
    "the number {number} in the draw of {period} is below the share {share}; the month's seed was committed to by "
    "{commitment}",
)
NOT_DRAWN = Text(
    "{period} 抽签号 {number} 不小于抽样比例 {share}，不回访；本月种子的承诺值为 {commitment}",
    "the number {number} in the draw of {period} is not below the share {share}; the month's seed was committed to by "
    "{commitment}",
)
AGAIN = Text(
    "该诉求上次回访为“未解决”，再次办结后必须回访（{period} 抽签号 {number}，抽样比例 {share}）",
    "its reporter called it not solved before, and is asked again whatever the draw ({period}: {number}, share "
    "{share})",
)
