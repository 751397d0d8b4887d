"""What people read about merging and splitting by hand, in zh-CN and en."""

from __future__ import annotations

from services.management.texts import Text

BY_HAND = Text("由 {person} 从 {event} 并案而来", "merged by hand from {event} by {person}")
MERGED_INTO = Text(
    "由 {person} 并入 {into}，此后由该事件承办", "merged by {person} into {into}, which stands for it now"
)
SPLIT_OFF = Text("由 {person} 拆出一件报告，另立事件 {opened}", "{person} split a report off, which is {opened} now")
OPENED_BY_SPLIT = Text(
    "该报告于 {merged_at} 并入 {event}（{why_zh}），现由 {person} 拆出单独立案",
    "this report was merged into {event} at {merged_at} ({why_en}); {person} gave it an event of its own",
)
