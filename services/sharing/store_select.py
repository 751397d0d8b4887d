"""SQL that chooses rows of an own product as a contract's filter says, and that masks and counts groups of them.

What it chooses and how it masks is what libs.rowfilter and libs.masking say; the tests hold one against the other.
Values, names of fields included, go as parameters, never into the text.
"""

from __future__ import annotations

import json
from datetime import UTC
from typing import TYPE_CHECKING

from libs.rowfilter import fields_of
from quintet.sharing.v1.sharing_pb2 import MASKING_GENERALISE, MASKING_TRUNCATE, MASKING_UNSPECIFIED
from services.sharing.model import FieldType, condition

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from google.protobuf.timestamp_pb2 import Timestamp

    from libs.canonical import JsonValue
    from quintet.sharing.v1.sharing_pb2 import FieldTerms, RowFilter

_DATE = r"^\d{4}-\d{2}-\d{2}$"
_TIME = r"^\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})$"
_COARSE = (
    r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"
    r"([Tt ]([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d+)?([Zz]|[+-]\d\d:\d\d))?$"
)
# How many characters of "2017-03-09T23" a unit keeps, and what follows them.
_UNITS = {"year": (4, "-01-01"), "month": (7, "-01"), "day": (10, ""), "hour": (10, "")}


class Parameters:
    """The values of a statement, numbered as they are added."""

    def __init__(self, *values: object) -> None:
        self.values: list[object] = list(values)

    def add(self, value: object, kind: str) -> str:
        """Return what stands for the value in the text."""
        self.values.append(value)
        return f"${len(self.values)}::{kind}"


def chosen(
    parameters: Parameters,
    row_filter: RowFilter,
    types: Mapping[str, FieldType],
    zones: Sequence[str] | None,
    where: Mapping[str, str] | None = None,
) -> str:
    """Return the condition on `rows` for a filter, the codes of its zones (None for all), and further values.

    Raises Invalid for a text that no value of its field's type is equal to, and KeyError for a field that is not there.
    """
    parts = ["true"]
    if zones is not None:
        parts.append(f"zone = ANY({parameters.add(list(zones), 'text[]')})")
    for texts in (row_filter.where, where or {}):
        if texts:
            wanted: dict[str, JsonValue] = condition(texts, types)
            parts.append(f"row @> {parameters.add(json.dumps(wanted), 'jsonb')}")
    if row_filter.time_field in fields_of(row_filter):
        time = _time(f"row->>{parameters.add(row_filter.time_field, 'text')}", types[row_filter.time_field])
        for name, comparison in (("not_before", ">="), ("before", "<")):
            if row_filter.HasField(name):  # type: ignore[arg-type]
                limit: Timestamp = getattr(row_filter, name)
                parts.append(f"{time} {comparison} {parameters.add(limit.ToDatetime(UTC), 'timestamptz')}")
    return " AND ".join(parts)


def _time(text: str, kind: FieldType) -> str:
    """Return the time that a text says; null when it says none."""
    if kind is FieldType.DATE:
        valid = f"{text} ~ '{_DATE}' AND pg_input_is_valid({text}, 'date')"
        return f"CASE WHEN {valid} THEN ({text} || 'T00:00:00Z')::timestamptz END"
    valid = f"{text} ~ '{_TIME}' AND pg_input_is_valid({text}, 'timestamptz')"
    return f"CASE WHEN {valid} THEN ({text})::timestamptz END"


def masked(parameters: Parameters, terms: FieldTerms) -> str:
    """Return the masked value of a field as jsonb. Hashes are not made here: counts do not need pseudonyms."""
    name = parameters.add(terms.field, "text")
    if terms.masking == MASKING_UNSPECIFIED:
        return f"row->{name}"
    cases = ["WHEN 'object' THEN NULL::jsonb"]  # as does what is not named below
    if terms.masking == MASKING_TRUNCATE:
        keep = parameters.add(terms.keep, "integer")
        cases.append(f"WHEN 'string' THEN to_jsonb(left(row->>{name}, {keep}))")
    if terms.masking == MASKING_GENERALISE and terms.step > 0:
        step = parameters.add(repr(terms.step), "numeric")
        value = f"(row->>{name})::numeric"
        cases.append(f"WHEN 'number' THEN to_jsonb(trim_scale({value} - (({value} % {step}) + {step}) % {step}))")
    if terms.masking == MASKING_GENERALISE and terms.unit in _UNITS:
        cases.append(f"WHEN 'string' THEN {_beginning(f'(row->>{name})', terms.unit)}")
    return f"CASE jsonb_typeof(row->{name}) {' '.join(cases)} END"


def _beginning(text: str, unit: str) -> str:
    characters, rest = _UNITS[unit]
    date = f"left({text}, {characters}) || '{rest}'"
    hour = f"substr({text}, 12, 2)" if unit == "hour" else "'00'"
    offset = f"upper(substring({text} from '([Zz]|[+-][0-9]{{2}}:[0-9]{{2}})$'))"
    time = f"CASE WHEN length({text}) > 10 THEN 'T' || {hour} || ':00:00' || {offset} ELSE '' END"
    return f"CASE WHEN {text} ~ '{_COARSE}' THEN to_jsonb({date} || {time}) END"


def counts(parameters: Parameters, fields: Sequence[FieldTerms], where: str, product: str, k: int) -> str:
    """Return a query of (text, count): groups of the masked fields as JSON arrays with the number of rows in each.

    Groups of fewer than `k` rows are left out.
    """
    values = ", ".join(f"coalesce({masked(parameters, terms)}, 'null')" for terms in fields)
    return f"""SELECT jsonb_build_array({values}) AS grouped, count(*) AS count FROM rows
        WHERE product = {parameters.add(product, "text")} AND contract = '' AND {where}
        GROUP BY 1 HAVING count(*) >= {parameters.add(k, "bigint")}"""
