"""The rules of terms about rows: filters, maskings, modes and counts, as far as they can be told without the product.

What depends on the product, its provider's sharing checks (CheckTerms).
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from libs import durations
from quintet.federation.v1 import federation_pb2 as pb
from quintet.sharing.v1 import sharing_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator

FREQUENCY_MIN = timedelta(minutes=1)


def faults(terms: pb.Terms) -> Iterator[tuple[str, str]]:
    """Yield what is wrong, as (field, rule)."""
    yield from _masking_faults(terms)
    yield from _filter_faults(terms)
    yield from _mode_faults(terms)
    yield from _count_faults(terms)


def _masking_faults(terms: pb.Terms) -> Iterator[tuple[str, str]]:
    for index, one in enumerate(terms.fields):
        coarse = one.masking == sharing_pb2.MASKING_GENERALISE
        if one.masking not in sharing_pb2.Masking.values():
            yield f"terms.fields[{index}].masking", "is not known to this node"
        if coarse != bool(one.step or one.unit):
            yield f"terms.fields[{index}]", "needs a step or a unit to be made coarser, and only then"
        if one.keep and one.masking != sharing_pb2.MASKING_TRUNCATE:
            yield f"terms.fields[{index}].keep", "is for MASKING_TRUNCATE only"


def _filter_faults(terms: pb.Terms) -> Iterator[tuple[str, str]]:
    wanted = terms.filter
    timed = wanted.HasField("not_before") or wanted.HasField("before")
    if timed != bool(wanted.time_field):
        yield "terms.filter.timeField", "must be set together with a limit"
    both = wanted.HasField("not_before") and wanted.HasField("before")
    if both and wanted.not_before.ToDatetime() >= wanted.before.ToDatetime():
        yield "terms.filter.before", "must be after terms.filter.notBefore"


def _mode_faults(terms: pb.Terms) -> Iterator[tuple[str, str]]:
    if terms.mode not in pb.DeliveryMode.values():
        yield "terms.mode", "is not known to this node"
    if terms.mode != pb.DELIVERY_MODE_PUSH_ON_SCHEDULE:
        if terms.frequency:
            yield "terms.frequency", "is for DELIVERY_MODE_PUSH_ON_SCHEDULE only"
        return
    try:
        if durations.parse(terms.frequency).shortest < FREQUENCY_MIN:
            yield "terms.frequency", "must be at least a minute"
    except ValueError:
        yield "terms.frequency", "must be an ISO 8601 duration of whole numbers, for example PT1H"


def _count_faults(terms: pb.Terms) -> Iterator[tuple[str, str]]:
    if not terms.HasField("aggregation"):
        return
    # The difference between two counts that are a change apart is that one change.
    if terms.mode in {pb.DELIVERY_MODE_UNSPECIFIED, pb.DELIVERY_MODE_PUSH_ON_CHANGE}:
        yield "terms.mode", "must not be on change for counts: what changed could be told"
    if terms.aggregation.count_field in {one.field for one in terms.fields}:
        yield "terms.aggregation.countField", "must not be the name of a field"
