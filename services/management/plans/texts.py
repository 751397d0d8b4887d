"""What people read of plans that software activated, in zh-CN and en. Values are filled in by name."""

from __future__ import annotations

from services.management.texts import Text

TRIGGERED = Text(
    "区域 {zone} 发布了{category}类{level}级预警，符合预案“{plan}”的启动条件",
    'a warning of level {level}, category {category}, was published for {zone}: plan "{plan}" answers those',
)
LEVELS = {1: Text("一", "I"), 2: Text("二", "II"), 3: Text("三", "III"), 4: Text("四", "IV")}

# Of steps that other nodes have.
PART_OF = Text("预案“{zh_plan}”（{level}级），区域 {zone}", 'plan "{en_plan}", level {level}, zone {zone}')
TAKEN_BACK = Text("无需再执行：{why}", "nobody has to act upon it any more: {why}")
NOT_GIVEN = Text(
    "指令无法下达（{reason}），由本级处理", "the directive cannot be given ({reason}): it is for this node to see to"
)
EXPIRED = Text("指令到期无人答复，由本级处理", "nobody answered the directive in time: it is for this node to see to")
CANCELLED = Text(
    "指令已撤回（{reason}），由本级处理", "the directive was taken back ({reason}): it is for this node to see to"
)
LATE = Text("指令超时", "the directive is late")
ESCALATED = {
    "NOT_ACKNOWLEDGED": Text("指令逾期无人签收，已升级", "nobody acknowledged the directive in time: escalated"),
    "NOT_ANSWERED": Text("指令逾期无人答复，已升级", "nobody answered the directive in time: escalated"),
}


def both(text: Text, **values: str) -> str:
    """Return a text in both languages, one a line."""
    return "\n".join(text.fill(**values))
