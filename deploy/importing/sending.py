"""Rows of an export sent to a node in the order in which they occurred, and what became of each."""

from __future__ import annotations

import asyncio
import csv
import gzip
from collections import Counter
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING

from deploy.importing.mapping import RowRefused, read_mapping, read_table
from quintet.management.v1 import imports_pb2 as pb
from quintet_sdk import QuintetError, new_request_id

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from quintet_sdk import Client

BATCH_RECORDS = 200
ROWS_MAX = 2_000_000
ATTEMPTS_MAX = 8
RETRY_DELAY_FIRST_S = 0.25
RETRY_DELAY_MAX_S = 4.0
CALL_TIMEOUT_S = 120.0

OUTCOMES = {
    pb.IMPORT_OUTCOME_OPENED: "opened",
    pb.IMPORT_OUTCOME_MERGED: "merged",
    pb.IMPORT_OUTCOME_KNOWN: "known",
    pb.IMPORT_OUTCOME_REFUSED: "refused",
}


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """A row that was not taken in: its number in the table, the first after the header being 1, and why."""

    number: int
    row: dict[str, str]
    field: str
    rule: str


@dataclass(slots=True)
class ImportReport:
    """What became of an export: how many rows by outcome, how many events by doubt, and what was refused.

    `events` says by the id of each record which event stands for it, and the outcome.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    flags: Counter[str] = field(default_factory=Counter)
    refused: list[RefusedRow] = field(default_factory=list)
    events: dict[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        return self.outcomes.total()

    def __str__(self) -> str:
        counts = ", ".join(f"{self.outcomes[outcome]} {outcome}" for outcome in OUTCOMES.values())
        lines = [f"{self.rows} rows: {counts}"]
        lines += [f"  flagged {code}: {count}" for code, count in sorted(self.flags.items())]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Told:
    """What a row tells."""

    number: int
    row: dict[str, str]
    record: pb.PastEvent


@dataclass(frozen=True, slots=True)
class Export:
    """A table as it was read: what its rows tell, in the order in which it occurred, and what could not be read."""

    source: str
    told: list[Told]
    refused: list[RefusedRow]


def read_export(mapping_file: Path, path: Path) -> Export:
    """Read a table by a mapping file.

    Raises MappingError for the mapping file, OSError and ValueError for the table.
    """
    table = read_table(mapping_file)
    told: list[Told] = []
    refused: list[RefusedRow] = []
    with _open(path, table.encoding) as lines:
        reader = csv.DictReader(lines, delimiter=table.delimiter)
        mapping = read_mapping(mapping_file, reader.fieldnames or ())
        for number, raw in enumerate(reader, start=1):
            if number > ROWS_MAX:
                raise ValueError(f"has more than {ROWS_MAX} rows: divide it")
            row = table.clean(raw)
            try:
                told.append(Told(number, row, mapping.record(row)))
            except RowRefused as error:
                refused.append(RefusedRow(number, row, error.field, error.rule))
    told.sort(key=lambda each: (each.record.occurred_at.ToNanoseconds(), each.record.external_id))
    return Export(mapping.source, told, refused)


async def send(client: Client, zone: str, export: Export) -> ImportReport:
    """Take in an export below `zones/{zone}`. Safe to repeat: what was taken in before stays as it is.

    Raises QuintetError when the node cannot be asked or refuses a whole batch.
    """
    report = ImportReport(Counter(refused=len(export.refused)), refused=[*export.refused])
    for start in range(0, len(export.told), BATCH_RECORDS):
        batch = export.told[start : start + BATCH_RECORDS]
        request = pb.ImportEventsRequest(
            parent=f"zones/{zone}",
            source=export.source,
            events=[each.record for each in batch],
            request_id=new_request_id(),
        )
        response = await _patiently(client, request)
        for each, answer in zip(batch, response.events, strict=True):
            _count(report, each, answer)
    report.refused.sort(key=lambda each: each.number)
    return report


def _open(path: Path, encoding: str) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding=encoding, newline="")
    return path.open(encoding=encoding, newline="")


async def _patiently(client: Client, request: pb.ImportEventsRequest) -> pb.ImportEventsResponse:
    delay_s = RETRY_DELAY_FIRST_S
    for attempt in range(1, ATTEMPTS_MAX + 1):
        try:
            response: pb.ImportEventsResponse = await client.imports.ImportEvents(request, timeout=CALL_TIMEOUT_S)
        except QuintetError as error:
            if not error.retryable or attempt == ATTEMPTS_MAX:
                raise
        else:
            return response
        await asyncio.sleep(delay_s)
        delay_s = min(delay_s * 2, RETRY_DELAY_MAX_S)
    raise AssertionError("the last attempt returns or raises")


def _count(report: ImportReport, told: Told, answer: pb.ImportedEvent) -> None:
    outcome = OUTCOMES.get(answer.outcome, "refused")
    report.outcomes[outcome] += 1
    if outcome == "refused":
        report.refused.append(RefusedRow(told.number, told.row, answer.field, answer.rule))
    else:
        report.events[answer.external_id] = (answer.event, outcome)
    if outcome == "opened":
        report.flags.update(set(answer.flags))


def write_refused(path: Path, refused: list[RefusedRow]) -> None:
    """Write what was refused as a table like the export, with the field and the rule in front."""
    with path.open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, ["refused_row", "refused_field", "refused_rule", *refused[0].row])
        writer.writeheader()
        for each in refused:
            told = {"refused_row": str(each.number), "refused_field": each.field, "refused_rule": each.rule}
            writer.writerow({**told, **each.row})


def write_events(path: Path, events: Mapping[str, tuple[str, str]]) -> None:
    """Write which event stands for which record, as a table."""
    with path.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(("external_id", "event", "outcome"))
        writer.writerows((record, *answer) for record, answer in events.items())
