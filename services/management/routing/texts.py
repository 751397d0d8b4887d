"""What people read about suggestions, in zh-CN and en."""

from __future__ import annotations

from services.management.texts import Text

HISTORY = Text(
    "近{sample}件已办结的“{type}”中，{zone}有{all_here}件，其中{here}件由 {organisation} 办结"
    "（全部区域{everywhere}件），占比{share}%{corrections}{words}",
    "of the last {sample} closed events of “{type}”, {all_here} were in {zone}; {organisation} ended {here} of them "
    "({everywhere} in all zones): {share}%{corrections}{words}",
)
CORRECTIONS = Text(
    "；该区域有{count}次退回或移交，每次按{weight}件扣减",
    "; {count} of its events there were returned or handed over, each counts against it as {weight} events",
)
WORDS = Text("；描述中的{words}支持该建议", "; the words {words} speak for it")
MEASURED_RULES = Text(
    "按类型的派遣规则：{suggested}件有建议，{right}件与最终办结单位一致，准确率{share}%",
    "by the routes of the types: {suggested} suggested, {right} ended with that organisation: {share}%",
)
MEASURED_HISTORY = Text(
    "按历史办结情况：逐件只用该事件发生前已知的信息回测，{suggested}件有建议，"
    "{right}件的首选与最终办结单位一致，准确率{share}%",
    "by history, each event tried with what was known before it occurred: {suggested} suggested, {right} ended with "
    "the organisation suggested first: {share}%",
)
