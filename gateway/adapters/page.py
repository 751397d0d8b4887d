"""The status page: the report as HTML, in the reader's language and the node's own time."""

from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from gateway.adapters.report import Report, ZoneLine
from gateway.adapters.texts import LANGUAGES, Texts

TEMPLATES = Path(__file__).with_name("templates")
# The page asks for itself again this often, by a header: it has no script.
REFRESH_S = 10
# Steps of the loop in their order; a status that other loops know comes after them.
STATUSES = ("collected", "filed", "dispatched", "disposed", "fed_back", "closed", "evaluated", "voided")
_UNITS = (("days", 86_400), ("hours", 3_600), ("minutes", 60), ("seconds", 1))
# Up to here a smaller unit still says more: 90 minutes rather than 1 hour.
_UNIT_COUNT_MIN = 2
_SIZES = (("GB", 10**9), ("MB", 10**6), ("kB", 10**3), ("B", 1))


class StatusPage:
    def __init__(self, texts: Texts) -> None:
        self._texts = texts
        self._environment = Environment(
            loader=FileSystemLoader(TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )

    def render(self, report: Report, language: str) -> str:
        template = self._environment.get_template("status.html")
        return template.render(
            report=report,
            statuses=_statuses(report),
            words=_Words(self._texts, language, report),
            language=language,
            languages=LANGUAGES,
            refresh_s=REFRESH_S,
        )


class _Words:
    """What the template says, in one language."""

    def __init__(self, texts: Texts, language: str, report: Report) -> None:
        self._texts = texts
        self._language = language
        self._now = report.time
        self._timezone = ZoneInfo(report.node.timezone)

    def say(self, key: str, /, **values: object) -> str:
        return self._texts.say(self._language, key, **values)

    def term(self, section: str, word: str) -> str:
        return self._texts.term(self._language, section, word)

    def number(self, value: int) -> str:
        return f"{value:,}"

    def size(self, count: int) -> str:
        """A number of bytes, in the largest unit of which there is at least one, to a tenth."""
        unit, length = next((item for item in _SIZES if count >= item[1]), _SIZES[-1])
        return f"{count / length:,.1f} {unit}" if length > 1 else f"{count} {unit}"

    def moment(self, time: datetime) -> str:
        """The node's local time to the second."""
        return time.astimezone(self._timezone).strftime("%Y-%m-%d %H:%M:%S")

    def ago(self, time: datetime) -> str:
        return self.say("age.ago", age=self.lasting((self._now - time).total_seconds()))

    def until(self, time: datetime) -> str:
        left_s = (time - self._now).total_seconds()
        return self.say("age.left", age=self.lasting(left_s)) if left_s > 0 else self.say("age.over")

    def lasting(self, seconds: float) -> str:
        """A length of time, in the largest unit of which there are at least two."""
        unit, length = next((item for item in _UNITS if seconds >= _UNIT_COUNT_MIN * item[1]), _UNITS[-1])
        return self.say(f"age.{unit}", count=max(0, int(seconds // length)))


def _statuses(report: Report) -> list[str]:
    """The columns of the counters: only statuses that some event has."""
    if report.counters is None:
        return []
    lines: list[ZoneLine] = [*report.counters.zones, report.counters.total]
    found = {status for line in lines for status, count in line.by_status.items() if count}
    return [*(status for status in STATUSES if status in found), *sorted(found.difference(STATUSES))]
