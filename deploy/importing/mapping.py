"""Mapping files: which columns of another system's export say what about an event of the past. docs/importing.md."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from deploy.importing.document import MappingError, Part, read_document
from deploy.importing.values import Value, read_value
from quintet.common.v1.common_pb2 import Flag
from quintet.management.v1.imports_pb2 import PastEvent, PastStep

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from deploy.importing.values import Row

SOURCE = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
TABLE_KEYS = ("delimiter", "encoding", "timezone", "times", "empty")
RECORD_KEYS = (
    "id", "zone", "type", "occurred_at", "promised_at", "description", "address", "neighbourhood", "latitude",
    "longitude",
)  # fmt: skip
REQUIRED = ("id", "zone", "type", "occurred_at")
STEP_TEXTS = ("organisation", "reason", "answer")
STEP_KEYS = ("action", "at", "when", *STEP_TEXTS)
DOUBT_KEYS = ("code", "field", "reason", "when")
WHEN_KEYS = ("value", "is", "is_not")
DESCRIPTION_CHARS_MAX = 4000
REASON_CHARS_MAX = 2000
ANSWER_CHARS_MAX = 4000


class RowRefused(ValueError):
    """A row cannot be read: `column` is the field of the mapping, `rule` what it should hold."""

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(f"{field}: {rule}")
        self.field = field
        self.rule = rule


@dataclass(frozen=True, slots=True)
class Table:
    """How the export is written."""

    delimiter: str
    encoding: str
    zone: ZoneInfo
    times: tuple[str, ...]
    empty: frozenset[str]

    def clean(self, row: Mapping[str, str | None]) -> dict[str, str]:
        """Return a row without blanks around its cells, and with what stands for nothing as ""."""
        cells = {column: (cell or "").strip() for column, cell in row.items()}
        return {column: "" if cell in self.empty else cell for column, cell in cells.items()}

    def time(self, text: str, field: str) -> datetime:
        """Read a time; one without an offset is by the clocks of the table's zone. Raises RowRefused."""
        try:
            found = datetime.fromisoformat(text)
        except ValueError:
            found = self._by_format(text, field)
        return (found if found.tzinfo else found.replace(tzinfo=self.zone)).astimezone(UTC)

    def _by_format(self, text: str, field: str) -> datetime:
        for form in self.times:
            try:
                return datetime.strptime(text, form)  # noqa: DTZ007 - the zone is that of the table
            except ValueError:
                continue
        raise RowRefused(
            field, f"{text!r} is not a time of ISO 8601" + (f" or {', '.join(self.times)}" if self.times else "")
        )


@dataclass(frozen=True, slots=True)
class When:
    """Whether something holds for a row: a value is one of some, or is none of some; without either, it has one."""

    value: Value
    among: frozenset[str] = frozenset()
    not_among: frozenset[str] = frozenset()

    def holds(self, row: Row) -> bool:
        found = self.value.of(row)
        if self.among:
            return found in self.among
        return found not in self.not_among if self.not_among else bool(found)


@dataclass(frozen=True, slots=True)
class Step:
    """A step of the loop that a row tells of: taken if it has a time, and if all of `when` holds."""

    action: str
    at: Value
    when: tuple[When, ...]
    texts: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Doubt:
    """A flag for rows that contradict themselves."""

    flag: Flag
    when: tuple[When, ...]


@dataclass(frozen=True, slots=True)
class HistoryMapping:
    """What a mapping file says. `fields` are the expressions of RECORD_KEYS that it gives."""

    source: str
    table: Table
    fields: Mapping[str, Value]
    steps: tuple[Step, ...]
    doubts: tuple[Doubt, ...]

    def record(self, row: Row) -> PastEvent:
        """Return what a cleaned row tells. Raises RowRefused for one that cannot be told."""
        record = PastEvent(
            external_id=self._required(row, "id"),
            zone=self._required(row, "zone"),
            type=f"eventTypes/{self._required(row, 'type')}",
            description=self._text(row, "description")[:DESCRIPTION_CHARS_MAX],
        )
        occurred_at = self.table.time(self._required(row, "occurred_at"), "occurred_at")
        record.occurred_at.FromDatetime(occurred_at)
        if promised := self._text(row, "promised_at"):
            record.promised_at.FromDatetime(self.table.time(promised, "promised_at"))
        record.place.address = self._text(row, "address")
        record.place.neighbourhood = self._text(row, "neighbourhood")
        self._locate(row, record)
        record.steps.extend(step for each in self.steps if (step := self._step(each, row)) is not None)
        record.flags.extend(doubt.flag for doubt in self.doubts if all(when.holds(row) for when in doubt.when))
        return record

    def _locate(self, row: Row, record: PastEvent) -> None:
        latitude, longitude = self._text(row, "latitude"), self._text(row, "longitude")
        if not latitude and not longitude:
            return
        try:
            record.place.point.latitude, record.place.point.longitude = float(latitude), float(longitude)
        except ValueError as error:
            raise RowRefused("latitude", f"{latitude!r}, {longitude!r} are not degrees") from error

    def _step(self, step: Step, row: Row) -> PastStep | None:
        at = step.at.of(row)
        if not at or not all(when.holds(row) for when in step.when):
            return None
        texts = {name: value.of(row) for name, value in step.texts.items()}
        organisation = texts.get("organisation", "")
        taken = PastStep(
            action=step.action,
            organisation=f"organisations/{organisation}" if organisation else "",
            reason=texts.get("reason", "")[:REASON_CHARS_MAX],
            answer=texts.get("answer", "")[:ANSWER_CHARS_MAX],
        )
        taken.occurred_at.FromDatetime(self.table.time(at, f"steps {step.action}"))
        return taken

    def _text(self, row: Row, field: str) -> str:
        return self.fields[field].of(row) if field in self.fields else ""

    def _required(self, row: Row, field: str) -> str:
        found = self._text(row, field)
        if not found:
            raise RowRefused(field, "has no value in this row")
        return found


def read_mapping(path: Path, columns: Collection[str] | None = None) -> HistoryMapping:
    """Read a mapping file, for a table with these columns if they are known. Raises MappingError."""
    document = read_document(path)
    found = document.keys(("source", "table", *RECORD_KEYS, "steps", "doubts"))
    for key in ("source", *REQUIRED):
        if key not in found:
            raise document.place.wrong(f"needs {key}")
    source = found["source"].text()
    if not SOURCE.fullmatch(source):
        raise found["source"].place.wrong(f"must match {SOURCE.pattern}")
    return HistoryMapping(
        source,
        _table(found.get("table")),
        {key: read_value(found[key], columns) for key in RECORD_KEYS if key in found},
        tuple(_step(item, columns) for item in (found["steps"].items() if "steps" in found else ())),
        tuple(_doubt(item, columns) for item in (found["doubts"].items() if "doubts" in found else ())),
    )


def read_table(path: Path) -> Table:
    """Read only how the table is written, to be able to read the names of its columns. Raises MappingError."""
    document = read_document(path)
    return _table(document.keys().get("table"))


def _table(part: Part | None) -> Table:
    found = part.keys(TABLE_KEYS) if part is not None else {}
    delimiter = found["delimiter"].text() if "delimiter" in found else ","
    if len(delimiter) != 1:
        raise found["delimiter"].place.wrong("must be one character")
    encoding = found["encoding"].text() if "encoding" in found else "utf-8-sig"
    try:
        "".encode(encoding)
    except LookupError as error:
        raise found["encoding"].place.wrong(f"{encoding!r} is not an encoding that Python knows") from error
    return Table(
        delimiter,
        encoding,
        _zone(found.get("timezone")),
        tuple(item.text() for item in found["times"].items()) if "times" in found else (),
        frozenset(item.text() for item in found["empty"].items()) if "empty" in found else frozenset(),
    )


def _zone(part: Part | None) -> ZoneInfo:
    if part is None:
        return ZoneInfo("UTC")
    try:
        return ZoneInfo(part.text())
    except (KeyError, ValueError, OSError) as error:
        raise part.place.wrong(f"{part.text()!r} is not a name of the IANA time zones") from error


def _step(part: Part, columns: Collection[str] | None) -> Step:
    found = part.keys(STEP_KEYS)
    for key in ("action", "at"):
        if key not in found:
            raise part.place.wrong(f"needs {key}")
    texts: dict[str, Value] = {key: read_value(found[key], columns) for key in STEP_TEXTS if key in found}
    return Step(found["action"].text(), read_value(found["at"], columns), _whens(found.get("when"), columns), texts)


def _doubt(part: Part, columns: Collection[str] | None) -> Doubt:
    found = part.keys(DOUBT_KEYS)
    for key in ("code", "reason", "when"):
        if key not in found:
            raise part.place.wrong(f"needs {key}")
    field = found["field"].text() if "field" in found else ""
    flag = Flag(code=found["code"].text(), field=field, reason=found["reason"].text())
    return Doubt(flag, _whens(found["when"], columns))


def _whens(part: Part | None, columns: Collection[str] | None) -> tuple[When, ...]:
    if part is None:
        return ()
    return tuple(_when(item, columns) for item in (part.items() if part.is_list else [part]))


def _when(part: Part, columns: Collection[str] | None) -> When:
    found = part.keys(WHEN_KEYS)
    if "value" not in found:
        raise part.place.wrong("needs value")
    if "is" in found and "is_not" in found:
        raise part.place.wrong("takes one of is and is_not")
    lists = {key: frozenset(item.text() for item in found[key].items()) for key in ("is", "is_not") if key in found}
    return When(read_value(found["value"], columns), lists.get("is", frozenset()), lists.get("is_not", frozenset()))


__all__ = ["HistoryMapping", "MappingError", "RowRefused", "Table", "read_mapping", "read_table"]
