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
NAME = Text("名称", "Name")
NOBODY = Text("尚未派遣", "Not dispatched yet")
NOTHING = Text("无", "None")
FOOT = Text(
    "按事件而非上报次数计；作废的不计入；期末在办与超期按统计时已知的情况推算。",
    "Events are counted, not the reports of them; what was voided is left out; what was open or late at the end is "
    "told from what is known as of the count.",
)
PAGE = Text("第{page}页", "Page {page}")
