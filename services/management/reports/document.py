"""A report in words: headings, tables and charts in one language, before it becomes a page or a PDF. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING
from unicodedata import east_asian_width

from services.management.reports import texts
from services.management.reports.findings import found_in
from services.management.reports.model_chart import columns, rows
from services.management.reports.model_report import HOURLY_MAX
from services.management.reports.parts import Figure, Heading, Note, Part, Table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from zoneinfo import ZoneInfo

    from services.management.reports.model_findings import Title
    from services.management.reports.model_report import Content, Line, Report, Tally
    from services.management.texts import Text

LINES_SHOWN_MAX = 10
# As wide as Latin letters; Chinese characters are two of them wide.
CHART_NAME_WIDTH_MAX = 34


@dataclass(frozen=True, slots=True)
class Document:
    """A report in one language ("zh-CN" or "en")."""

    language: str
    title: str
    lines: tuple[str, ...]
    parts: tuple[Part, ...]
    foot: str
    page: str


def document(report: Report, zone: ZoneInfo, *, chinese: bool) -> Document:
    """Return a report in words; `zone` is the city's time zone."""
    return _Writer(report, zone, chinese=chinese).written()


class _Writer:
    def __init__(self, report: Report, zone: ZoneInfo, *, chinese: bool) -> None:
        self._report = report
        self._zone = zone
        self._chinese = chinese

    def say(self, text: Text, **values: str) -> str:
        return text.fill(**values)[0 if self._chinese else 1]

    def name(self, title: Title) -> str:
        return title.zh if self._chinese else title.en

    def time(self, at: datetime, form: str = "%Y-%m-%d %H:%M") -> str:
        return at.astimezone(self._zone).strftime(form)

    def written(self) -> Document:
        report, content = self._report, self._report.content
        start, end = map(self.time, report.period)
        lines = [
            self.say(texts.PERIOD, start=start, end=end, timezone=str(self._zone)),
            self.say(texts.MADE, at=self.time(report.made_at), by=report.made_by),
        ]
        if report.organisation:
            lines.append(self.say(texts.OF_ORGANISATION, organisation=self.name(content.about.organisation)))
        most = str(LINES_SHOWN_MAX)
        return Document(
            language="zh-CN" if self._chinese else "en",
            title=self.say(
                texts.TITLES[report.kind],
                zone=self.name(content.about.zone),
                topic=self.name(content.about.type),
            ),
            lines=tuple(lines),
            parts=(
                *self._summary(content),
                *self._course(content),
                *found_in(content, self.say, self.name),
                *self._lines(self.say(texts.TYPES, most=most), content.types, compared=True),
                *self._lines(self.say(texts.ZONES), content.zones),
                *self._lines(self.say(texts.ORGANISATIONS, most=most), content.organisations),
                *self._marks(content),
            ),
            foot=self.say(texts.FOOT),
            page=texts.PAGE.zh if self._chinese else texts.PAGE.en,
        )

    def _heads(self) -> tuple[str, ...]:
        heads = (texts.OPENED, texts.CLOSED, texts.ON_TIME, texts.WAITING, texts.LATE)
        return tuple(self.say(head) for head in heads)

    def _summary(self, content: Content) -> list[Part]:
        return [
            Heading(self.say(texts.SUMMARY)),
            Table(
                (
                    ("", *self._heads()),
                    (self.say(texts.NOW), *_cells(content.now)),
                    (self.say(texts.BEFORE), *_cells(content.before)),
                )
            ),
        ]

    def _course(self, content: Content) -> list[Part]:
        hourly = self._report.period.end - self._report.period.start <= HOURLY_MAX
        labels = [self.time(bucket.start, "%H:%M" if hourly else "%m-%d") for bucket in content.buckets]
        series = [[bucket.opened for bucket in content.buckets], [bucket.closed for bucket in content.buckets]]
        legend = (self.say(texts.OPENED), self.say(texts.CLOSED))
        return [Heading(self.say(texts.COURSE)), Figure(columns(labels, series), legend)]

    def _lines(self, title: str, lines: Sequence[Line], *, compared: bool = False) -> list[Part]:
        if not lines:
            return [Heading(title), Note(self.say(texts.NOTHING))]
        names = [self.name(line.title) for line in lines]
        heads = (self.say(texts.NAME), *self._heads())
        cells = [(name, *_cells(line.now)) for name, line in zip(names, lines, strict=True)]
        if not compared:
            return [Heading(title), Table((heads, *cells))]
        before = [str(line.before.opened) for line in lines]
        cells = [(*row, opened) for row, opened in zip(cells, before, strict=True)]
        chart = rows([_short(name) for name in names], [line.now.opened for line in lines])
        return [
            Heading(title),
            Figure(chart, (self.say(texts.OPENED),)),
            Table(((*heads, self.say(texts.OPENED_BEFORE)), *cells)),
        ]

    def _marks(self, content: Content) -> list[Part]:
        marks = content.marks
        if marks is None:
            return []
        title = marks.zh if self._chinese else marks.en
        start, end = map(self.time, marks.period)
        cells = [
            (self.name(mark.subject), "–" if mark.points is None else f"{mark.points:.2f}") for mark in marks.marks
        ]
        return [
            Heading(self.say(texts.MARKS, title=title, version=str(marks.version))),
            Note(self.say(texts.MARKS_OF, start=start, end=end, hash=marks.content_hash[:16])),
            Table(((self.say(texts.SUBJECT), self.say(texts.POINTS)), *cells)),
        ]


def _short(name: str) -> str:
    """Return as much of a name as a chart has room for."""
    widths = accumulate(2 if east_asian_width(each) in "WF" else 1 for each in name)
    kept = sum(width <= CHART_NAME_WIDTH_MAX for width in widths)
    return name if kept == len(name) else f"{name[: kept - 1]}…"


def _cells(tally: Tally) -> tuple[str, ...]:
    rate = tally.on_time_rate
    return (
        str(tally.opened),
        str(tally.closed),
        "–" if rate is None else f"{100 * rate:.1f}%",
        str(tally.waiting),
        str(tally.late),
    )
