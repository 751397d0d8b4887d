"""What people read about events that move between the tiers, in zh-CN and en."""

from __future__ import annotations

from services.management.texts import Text

GIVEN_UP = Text(
    "上级节点 {node} 提级办理，由 {organisation} 承办；自此由该节点办理，本节点只跟踪",
    "the upper node {node} takes it over for {organisation}: from now on that node handles it, and this one follows",
)
HANDED_OVER = Text(
    "移交至节点 {node} 的 {organisation}，对方已接受；自此由该节点办理，本节点只跟踪",
    "handed over to {organisation} of the node {node}, which accepted: from now on that node handles it, and this one "
    "follows",
)
TAKEN_UP = Text(
    "节点 {node} 接自 {before}，由 {organisation} 承办；业务时限不变",
    "the node {node} has it from {before}, and {organisation} deals with it; the business deadline stays",
)
SUPERVISED = Text(
    "上级节点 {node} 督办（{directive}）：{text}", "supervised by the upper node {node}, {directive}: {text}"
)

UNKNOWN = Text("本节点没有该事件", "this node does not know the event")
ELSEWHERE = Text("该事件现由节点 {node} 办理", "node {node} handles it by now")
CLOSED = Text("事件已结束，状态为 {status}", "the event has ended: it is {status}")
SHARES_OPEN = Text(
    "联合处置尚有 {open} 个子任务未完成，牵头单位须先办结",
    "{open} sub-orders of a joint disposal are not done: the lead answers for the whole",
)
LAPSED = Text("请求到达时已过答复期限", "the asking came when the time for an answer was over")
LOOP_LOST = Text("本节点缺少该事件的流程 {loop}", "this node does not have the loop {loop} by which the event goes")
