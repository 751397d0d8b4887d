"""What people read about hand-overs, in zh-CN and en."""

from __future__ import annotations

from services.management.texts import Text

OFFERED = Text(
    "{sender} 提请移交给 {receiver}；{receiver} 须在{due}前答复：{amount}工作时间，按“{calendar}”计时。"
    "答复前由 {sender} 负责",
    "{sender} offers it to {receiver}, which has to answer until {due}: {amount} of working time by the calendar "
    "“{calendar}”. Until then {sender} answers for it",
)
ACCEPTED = Text(
    "{receiver} 已接受移交，自此由其负责；业务时限不变",
    "{receiver} accepted and answers for it from now on; the business deadline stays",
)
REFUSED = Text("{receiver} 拒绝接收，仍由 {sender} 负责", "{receiver} refused; {sender} still answers for it")
WITHDRAWN = Text("{sender} 撤回移交，仍由其负责", "{sender} took it back and still answers for it")
LAPSED = Text(
    "{receiver} 未在{due}前答复，移交失效，仍由 {sender} 负责",
    "{receiver} did not answer until {due}: the offer lapsed; {sender} still answers for it",
)
DISPUTED = Text(
    "{sender} 提出争议，交{role}在{due}前裁定；裁定前由 {sender} 负责",
    "{sender} disputes it: {role} decides until {due}, and until then {sender} answers for it",
)
ESCALATED = Text(
    "{before}未在{due}前裁定，升级至{role}{next}",
    "{before} did not decide until {due}: it goes to {role}{next}",
)
NEXT_DUE = Text("，须在{due}前裁定", ", to be decided until {due}")
ORDERED = Text(
    "裁定由 {receiver} 接办，自此由其负责", "decided: {receiver} has to take it and answers for it from now on"
)
DISMISSED = Text("裁定仍由 {sender} 负责", "decided: {sender} keeps it and answers for it")
BY_DIRECTIVE = Text("上级节点 {node} 以指令 {directive} {said}", "the node {node}, by {directive}, {said}")
SUPERSEDED = Text("事件已结案或已转由他人处理，移交终止", "the event was closed or went elsewhere: the hand-over ended")

SUPERVISOR = Text("本区域督查员", "the supervisor of the zone")
LEADER = Text("本区域领导", "the leader of the zone")
LEADER_ABOVE = Text("上级领导", "the leader of the tier above")
