"""Rows under a contract, at both ends: the provider filters, projects and masks; the consumer takes no more than that.

Blocks of rows are worked on by column. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from libs import masking, rowfilter
from libs import rows as blocks
from libs.errors import Reason
from quintet.fact.v1.fact_pb2 import Fact
from quintet.federation.v1 import federation_pb2 as pb
from quintet.sharing.v1 import sharing_pb2
from quintet.sharing.v1.facts_pb2 import ProductRowsWritten

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from libs.canonical import JsonValue
    from libs.zones import ZoneTree
    from services.federation.terms import ActiveContract

ROWS_FACT = ProductRowsWritten.DESCRIPTOR.full_name
_ON_CHANGE = {pb.DELIVERY_MODE_UNSPECIFIED, pb.DELIVERY_MODE_PUSH_ON_CHANGE}

Refusal = tuple[str, str]


@dataclass(frozen=True)
class Given:
    """What leaves the node of a block of rows."""

    fact: Fact
    rows: int
    # Which persons the rows are about, in this node's own words.
    subjects: tuple[str, ...] = ()


def is_about(contract: ActiveContract, fact: Fact, node: str) -> bool:
    """Say whether `fact` states rows that this provider owes under the contract. Raises DecodeError."""
    # Rows that came from a partner are not ours to pass on.
    if fact.type != ROWS_FACT or fact.received_from or contract.provider != node:
        return False
    terms = contract.terms
    written = ProductRowsWritten.FromString(fact.data)
    for_all = not written.only_contract and terms.mode in _ON_CHANGE and not terms.HasField("aggregation")
    return (
        written.product == terms.product
        and (for_all or written.only_contract == contract.name)
        and terms.mode != pb.DELIVERY_MODE_PULL
        # A newer version needs a new contract.
        and written.version == terms.product_version
    )


def give(contract: ActiveContract, zones: ZoneTree, fact: Fact) -> Given | Refusal | None:
    """Return what the consumer is given of the rows, why nothing of them, or None when no row passes the filter."""
    written = ProductRowsWritten.FromString(fact.data)
    if not _in_zones(contract, zones, fact.zone):
        return None
    counted = contract.terms.HasField("aggregation")
    try:
        if counted:
            given = _counts(contract, written)
            subjects: tuple[str, ...] = ()  # counts are about nobody in particular
        else:
            given, subjects = _masked(contract, written)
    except _RefusedError as error:
        return error.reason, error.text
    if not (given.count or counted):  # no counts at all replace those given before, too
        return None
    answer = Fact()
    answer.CopyFrom(fact)
    answer.data = given.SerializeToString()
    return Given(answer, given.count, subjects)


def take(contract: ActiveContract, zones: ZoneTree, sender: str, fact: Fact) -> int | Refusal:
    """Return the number of rows, or why they are refused: the consumer does not take more than was agreed."""
    try:
        written = _written(contract, zones, sender, fact)
        _check_block(contract, written)
    except _RefusedError as error:
        return error.reason, error.text
    return written.count


def answered(contract: ActiveContract, rows: Sequence[Mapping[str, JsonValue]]) -> Refusal | None:
    """Return why rows, or counts, that were asked for are refused; None when the contract gives them."""
    names = sorted({name for row in rows for name in row})
    try:
        _check_rows(contract, names, [[row.get(name) for name in names] for row in rows])
    except _RefusedError as error:
        return error.reason, error.text
    return None


def check_terms(terms: pb.Terms) -> sharing_pb2.CheckTermsRequest:
    """Return the question to sharing whether the product may be given so."""
    return sharing_pb2.CheckTermsRequest(
        product=terms.product,
        version=terms.product_version,
        fields=terms.fields,
        zone=terms.zone,
        filter=terms.filter if terms.HasField("filter") else None,
        aggregation=terms.aggregation if terms.HasField("aggregation") else None,
    )


def reading(terms: pb.Terms, asked: pb.QueryContractRequest, page_size: int) -> sharing_pb2.ReadForContractRequest:
    """Return the question to sharing for the rows that a consumer asks for."""
    return sharing_pb2.ReadForContractRequest(
        product=terms.product,
        version=terms.product_version,
        # Of counts all fields are given: fewer would be other groups, in which too small ones could be told apart.
        fields=[
            one
            for one in terms.fields
            if terms.HasField("aggregation") or not asked.fields or one.field in asked.fields
        ],
        salt=terms.salt,
        where=asked.where,
        page_size=page_size,
        page_token=asked.page_token,
        zone=terms.zone,
        filter=terms.filter if terms.HasField("filter") else None,
        aggregation=terms.aggregation if terms.HasField("aggregation") else None,
    )


@dataclass
class _RefusedError(Exception):
    reason: str
    text: str


def _outside(text: str) -> _RefusedError:
    return _RefusedError(Reason.FIELD_NOT_IN_CONTRACT, text)


def _invalid(text: str) -> _RefusedError:
    return _RefusedError(Reason.FIELD_INVALID, text)


def _masked(contract: ActiveContract, written: ProductRowsWritten) -> tuple[ProductRowsWritten, tuple[str, ...]]:
    """Return the rows that the contract gives, and which persons they are about."""
    names, terms = list(written.fields), contract.terms
    try:
        rows = rowfilter.chosen(names, blocks.loads(written.rows, len(names)), terms.filter)
    except KeyError as error:
        raise _invalid(f"the rows lack {error}, by which the contract chooses them") from error
    except ValueError as error:
        raise _invalid(f"the rows cannot be read: {error}") from error
    fields, projected = masking.project_block(names, rows, terms.fields, terms.salt)
    given = ProductRowsWritten(
        product=written.product,
        version=written.version,
        fields=fields,
        rows=blocks.dumps(projected),
        count=len(projected),
        key_fields=[name for name in written.key_fields if name in fields],
    )
    return given, _subjects(written, names, rows)


def _subjects(written: ProductRowsWritten, names: list[str], rows: Sequence[blocks.Row]) -> tuple[str, ...]:
    columns = [blocks.columns(rows, len(names))[names.index(name)] for name in written.subject_fields if name in names]
    return tuple(masking.subject(value) for column in columns for value in column if value is not None and value != "")


def _counts(contract: ActiveContract, written: ProductRowsWritten) -> ProductRowsWritten:
    """Return counts as they are: what they are of cannot be seen any more, what they show is checked."""
    _check_block(contract, written)
    given = ProductRowsWritten()
    given.CopyFrom(written)
    given.ClearField("only_contract")
    return given


def _written(contract: ActiveContract, zones: ZoneTree, sender: str, fact: Fact) -> ProductRowsWritten:
    """Return what the fact states, when it is about the product, version and zone of the contract."""
    if sender != contract.provider or fact.type != ROWS_FACT or fact.node != sender:
        raise _outside("only rows of the product, from its provider, are in the contract")
    try:
        written = ProductRowsWritten.FromString(fact.data)
    except DecodeError as error:
        raise _invalid("the rows cannot be read") from error
    if (written.product, written.version) != (contract.terms.product, contract.terms.product_version):
        raise _outside(f"{written.product} version {written.version} is not in the contract")
    if contract.terms.mode == pb.DELIVERY_MODE_PULL:
        raise _outside("rows are given on demand only")
    # How the provider divides its own zones this node need not know; what it knows must fit.
    if fact.zone in zones and not _in_zones(contract, zones, fact.zone):
        raise _outside(f"zone {fact.zone} is not in the contract")
    return written


def _check_block(contract: ActiveContract, written: ProductRowsWritten) -> None:
    names, counted = list(written.fields), contract.terms.HasField("aggregation")
    if len(set(names)) != len(names) or not set(written.key_fields) <= set(names):
        raise _invalid("the columns do not have a name each, or lack a key")
    if counted != (not written.key_fields) or counted != written.HasField("snapshot"):
        raise _outside("rows have a key, counts are a part of a whole" if not counted else "only counts are given")
    try:
        rows = blocks.loads(written.rows, len(names))
    except ValueError as error:
        raise _invalid(f"the rows cannot be read: {error}") from error
    if len(rows) != written.count:
        raise _invalid(f"there are {len(rows)} rows, not {written.count}")
    _check_rows(contract, names, rows)


def _check_rows(contract: ActiveContract, names: Sequence[str], rows: Sequence[blocks.Row]) -> None:
    terms = masking.given(contract.terms.fields)
    aggregation = contract.terms.aggregation
    columns = dict(zip(names, blocks.columns(rows, len(names)), strict=True))
    counted = contract.terms.HasField("aggregation")
    numbers = columns.pop(aggregation.count_field, ()) if counted else ()
    if not all(_is_count(number, aggregation.k) for number in numbers):
        raise _outside(f"a count is below {aggregation.k}")
    extra = sorted(set(columns) - set(terms))
    if extra:
        raise _outside(f"field {extra[0]} is not in the contract")
    for name, column in columns.items():
        if fault := blocks.fault(column):
            raise _invalid(f"field {name}: {fault}")
        if masking.impossible(column, terms[name]):
            raise _outside(f"field {name} is not masked as the contract says")
    if len(rowfilter.chosen(names, rows, _shown(contract, names))) != len(rows):
        raise _outside("a row is outside of what the contract chooses")
    if counted and len(numbers) != len(rows):
        raise _outside("the counts are missing")


def _is_count(number: object, k: int) -> bool:
    return isinstance(number, int | float) and not isinstance(number, bool) and number >= k and number == int(number)


def _shown(contract: ActiveContract, names: Sequence[str]) -> sharing_pb2.RowFilter:
    """Return the filter as far as the rows show what it is about: left out and masked values do not."""
    plain = {name for name, terms in masking.given(contract.terms.fields).items() if not terms.masking} & set(names)
    shown = sharing_pb2.RowFilter()
    shown.CopyFrom(contract.terms.filter)
    for name in rowfilter.fields_of(contract.terms.filter):
        if name not in plain:
            shown.where.pop(name, None)
    if shown.time_field not in plain:
        shown.ClearField("not_before")
        shown.ClearField("before")
    return shown


def _in_zones(contract: ActiveContract, zones: ZoneTree, zone: str) -> bool:
    """Say whether rows about `zone` are in the contract: in its zone, and in one of its filter's."""
    terms = contract.terms
    within = not terms.filter.zones or any(zones.covers(one, zone) for one in terms.filter.zones)
    return within and (not terms.zone or zones.covers(terms.zone, zone))
