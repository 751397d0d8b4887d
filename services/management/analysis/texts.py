"""What people read about the analysis, in zh-CN and en."""

from __future__ import annotations

from services.management.texts import Text

RISE = Text(
    "{start}至{end}，{zone}及其下级区域发生“{type}”{observed}件；按此前{windows}个同星期同时段的{hours}小时窗口，预期{expected}件"
    "（季节系数{season}，离散系数{dispersion}）。负二项上尾检验p={p}；对{tested}个类型与区域作Benjamini-Hochberg校正后q={q}，"
    "不高于{rate}。{explained}",
    "{start} to {end}, {zone} with the zones below had {observed} of “{type}”; {windows} windows of {hours} h before, "
    "of the same weekdays and hours, let expect {expected} (season {season}, dispersion {dispersion}). Upper tail of "
    "the negative binomial: p = {p}; corrected for {tested} types and zones (Benjamini-Hochberg): q = {q}, not above "
    "{rate}.{explained}",
)
EXPLAINED = Text("上升来自下级区域：{zones}。", " The rise is that of the zones {zones}.")

REPEATED = Text(
    "同类事件在同一地点（地址相同或相距不超过{radius}米）结案后{days}天内再次发生，共{count}件。",
    "{count} events of one type at one place (equal address, or within {radius} m), each but the first within {days} "
    "days after an earlier one was closed.",
)
HOT = Text(
    "该{cell}米网格及相邻网格发生{observed}件，全区域同样数量的网格平均{expected}件：Gi*={score}，p={p}；"
    "对{cells}个网格作Benjamini-Hochberg校正后q={q}，不高于{rate}。",
    "The cell of {cell} m and those around it had {observed} events; so many cells of the area have {expected} on "
    "average: Gi* = {score}, p = {p}; corrected for {cells} cells (Benjamini-Hochberg): q = {q}, not above {rate}.",
)
FORECAST = Text(
    "由{weeks}周历史按班次的周内分布乘以指数平滑的周水平得出，区间的概率不低于80%。近{tested}个班次的回测平均误差为"
    "{error}件，照搬上周的预测为{naive}件。{verdict}",
    "From {weeks} weeks: each shift's share of the week times a smoothed weekly level; the interval holds at least "
    "80%. Tried on the last {tested} shifts it was wrong by {error} events on average, repeating the week before "
    "by {naive}. {verdict}",
)
BETTER = Text("优于照搬上周。", "It is the better of the two.")
NOT_BETTER = Text("不优于照搬上周，请谨慎使用。", "It is not the better of the two: use it with care.")


def number(value: float) -> str:
    """Return a figure with as many digits as a person reads."""
    return f"{value:.3g}"
