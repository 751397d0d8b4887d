"""What reports say, in zh-CN and en."""

from __future__ import annotations

from services.management.reports.model_report import Kind
from services.management.texts import Text

TITLES = {
    Kind.DAILY: Text("{zone} 事件日报", "Daily report: {zone}"),
    Kind.WEEKLY: Text("{zone} 事件周报", "Weekly report: {zone}"),
    Kind.TOPICAL: Text("{zone} 专题报告：{topic}", "Topical report: {topic}, {zone}"),
}
PERIOD = Text("周期：{start} 至 {end}（{timezone}）", "Period: {start} to {end} ({timezone})")
MADE = Text("统计时间：{at}，制作：{by}", "As of {at}, made by {by}")
OF_ORGANISATION = Text("仅限承办组织 {organisation}", "What {organisation} has, alone")

OPENED = Text("立案", "Opened")
CLOSED = Text("结案", "Closed")
ON_TIME = Text("按期结案率", "Closed on time")
WAITING = Text("期末在办", "Open at the end")
LATE = Text("期末超期", "Late at the end")
BEFORE = Text("上一周期", "Period before")
OPENED_BEFORE = Text("上期立案", "Opened before")
NOW = Text("本周期", "This period")

SUMMARY = Text("总体情况", "In all")
COURSE = Text("立案与结案走势", "Opened and closed over time")
TYPES = Text("事件类型（立案最多的{most}类）", "Types (the {most} with most events opened)")
ZONES = Text("下级区域", "Zones below")
ORGANISATIONS = Text("承办组织（立案最多的{most}个）", "Organisations (the {most} with most events opened)")
MARKS = Text("最近公布的记分卡：{title}（第{version}版）", "Latest published scorecard: {title} (version {version})")
MARKS_OF = Text("周期 {start} 至 {end}，内容哈希 {hash}", "Period {start} to {end}, content hash {hash}")
SUBJECT = Text("对象", "Subject")
POINTS = Text("得分", "Points")
# Kinds of zones, as scorecards name tiers.
TIERS = {
    "city": Text("市", "City"),
    "district": Text("区县", "District"),
    "street": Text("街道", "Street"),
    "community": Text("社区", "Community"),
}
# Where the kinds of zones are not known, scorecards count levels from the top.
LEVEL_TIER = "level-"
LEVEL = Text("第{level}级", "Level {level}")
EMERGING = Text("新出现的问题", "Emerging issues")
TYPE_AND_ZONE = Text("{type}（{zone}）", "{type}, {zone}")
OBSERVED = Text("发生", "Occurred")
EXPECTED = Text("预期", "Expected")
SEASON = Text("季节系数", "Season")
DISPERSION = Text("离散系数", "Dispersion")
P_VALUE = Text("p", "p")
Q_VALUE = Text("q", "q")
SCORE = Text("Gi*", "Gi*")
PLACE = Text("地点（网格中心的纬度、经度）", "Place (middle of the cell: latitude, longitude)")
AT = Text("{zone} {latitude}, {longitude}", "{zone} {latitude}, {longitude}")
NONE_RISES = Text(
    "没有类型显著上升：{tested}个类型与区域与此前{windows}个同星期的{hours}小时窗口相比。",
    "Nothing rises: {tested} types and zones were compared with {windows} windows of {hours} h before, of the same "
    "weekdays.",
)
NO_HISTORY = Text(
    "历史不足，无法判断：至少要有此前4个同星期的{hours}小时窗口。",
    "There is too little history to tell: 4 windows of {hours} h before, of the same weekdays, are needed.",
)
RISES = Text(
    "按发生时间计（作废的也计入），与此前{windows}个同星期的{hours}小时窗口的均值乘以季节系数相比；p为负二项上尾概率，"
    "q为对{tested}个类型与区域作Benjamini-Hochberg校正后的值。q不高于{rate}的共{found}项，列出最显著的{shown}项。"
    "由下级区域引起的上升只列在下级区域。",
    "By when events occurred, voided ones too, against the mean of {windows} windows of {hours} h before, of the same "
    "weekdays, times the season. p is the upper tail of the negative binomial, q is p corrected for {tested} types and "
    "zones (Benjamini-Hochberg). {found} have q not above {rate}, of which the {shown} least likely are listed. A rise "
    "that is that of a zone below stands under that zone alone.",
)
HOT_SPOTS = Text("热点", "Hot spots")
TOO_MANY_CELLS = Text("网格过多，未作分析。", "There are too many cells to look at.")
TOO_FEW_CELLS = Text(
    "有事件的{cell}米网格只有{cells}个，少于{least}个，无法判断。",
    "Only {cells} cells of {cell} m have events; with fewer than {least} there is no telling.",
)
NONE_HOT = Text(
    "没有热点：{cells}个有事件的{cell}米网格（共{located}件有坐标的事件）中没有显著高于其余的。",
    "There are none: of {cells} cells of {cell} m with events ({located} events have coordinates) none stands out.",
)
HOT = Text(
    "按发生时间计，共{located}件有坐标的事件，{cells}个有事件的{cell}米网格；每个网格连同相邻网格计算Gi*（Ord与Getis），"
    "p为负二项上尾概率，q为Benjamini-Hochberg校正后的值。q不高于{rate}的有{hot}个网格，其中相互重叠的只列最热的一处，共{shown}处。",
    "By when events occurred: {located} have coordinates, in {cells} cells of {cell} m. Gi* (Ord and Getis) of each "
    "cell with those around it; p is the upper tail of the negative binomial, q is p corrected for all cells "
    "(Benjamini-Hochberg). {hot} cells have q not above {rate}; of those that overlap the hottest is listed, {shown} "
    "in all.",
)
NAME = Text("名称", "Name")
NOBODY = Text("尚未派遣", "Not dispatched yet")
NOTHING = Text("无", "None")
FOOT = Text(
    "按事件而非上报次数计；作废的不计入；期末在办与超期按统计时已知的情况推算。",
    "Events are counted, not the reports of them; what was voided is left out; what was open or late at the end is "
    "told from what is known as of the count.",
)
PAGE = Text("第{page}页", "Page {page}")
