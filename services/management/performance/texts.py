"""What people read about scorecards, in zh-CN and en."""

from __future__ import annotations

from services.management.model import Doubt
from services.management.performance.model_scorecard import APPEAL
from services.management.texts import Text

EXCLUSIONS = {
    Doubt.TIME_REVERSED: Text(
        "步骤时间前后矛盾，无法据以计时", "a step is said to have happened before the one before it"
    ),
    Doubt.TIME_IN_FUTURE: Text("上报时间晚于受理时间", "it is said to have been later than it was taken in"),
    Doubt.HISTORY_MISSING: Text(
        "其他节点的事件，本节点未收到其立案之初的记录", "another node's event whose opening this node was not told of"
    ),
    "STATUS_CONFLICT": Text("状态与时间自相矛盾", "its status contradicts its times"),
    APPEAL: Text("申诉成立，不计入", "kept out because an appeal was granted"),
}
DOUBTED = Text("记录存疑（{code}）", "a doubt about the record ({code})")

NO_EVENTS = Text("本期没有可计入的事件", "no event counts in this period")
SAMPLE_SMALL = Text(
    "可计入的事件只有{events}件，少于{least}件，不计分", "{events} events count, fewer than {least}: no points"
)
MIRRORED = Text(
    "其中{events}件由其他节点办理，按其上报的事实计入；其时限由办理节点按自己的日历算出，本节点不能另行计算工作时间；是否作废按本节点已知流程的状态判断",
    "{events} events are handled by other nodes and count as their facts tell; their deadlines are those that their "
    "nodes reckoned by their own calendars, working time cannot be reckoned here; what was voided is told by the "
    "states of the loops that this node knows",
)
UNKNOWN = Text(
    "指标“{title}”有{events}件从已知事实无法判定，既不计入分子也不计入分母",
    "{title}: of {events} events the known facts do not say; they count in neither part of the rate",
)
RULED = Text("申诉成立，按裁定重新计入", "counts otherwise by an appeal that was granted")
READ_ANEW = Text("上一版之后获知新的事实", "facts that became known after the version before")


def exclusion(code: str) -> tuple[str, str]:
    """Return why events of a code are kept out, in Chinese and English."""
    return EXCLUSIONS.get(code, DOUBTED).fill(code=code)
