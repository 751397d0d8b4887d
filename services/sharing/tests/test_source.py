"""From facts to rows."""

from dataclasses import replace
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor

from libs.errors import Invalid
from quintet.management.v1.facts_pb2 import EventOpened
from quintet.perception.v1.facts_pb2 import DailyAggregateComputed, WarningRaised
from quintet.perception.v1.perception_pb2 import LEVEL_II
from quintet.perception.v1.perception_pb2 import Warning as Warning_
from services.sharing.facts import SOURCE_TYPES
from services.sharing.model import FieldType, Product, Source
from services.sharing.source import PathError, extraction, parse_path
from services.sharing.tests.conftest import aggregate, product
from services.sharing.wire import product_of

AGGREGATE = DailyAggregateComputed.DESCRIPTOR
WARNING = WarningRaised.DESCRIPTOR


def wanted(**changes: Any) -> Product:
    made = product_of(product(), "beijing")
    assert made.source is not None
    return replace(made, source=replace(made.source, **changes))


def test_a_row_is_made_of_the_facts_values() -> None:
    row = extraction(wanted(), SOURCE_TYPES).row(aggregate(day=3, mean=81.5))
    assert row == {
        "device": "zones/beijing/devices/dongsi",
        "day": "2017-01-03",
        "station": "Dongsi",
        "mean": 81.5,
        "readings": 24,
        "latitude": 39.929,
        "last_reading": "2017-01-01T00:00:00Z",
        "keeper": "organisations/keeper",
    }


def test_what_is_not_set_or_not_a_number_is_left_out() -> None:
    fact = aggregate(mean=float("nan"))
    fact.ClearField("point")
    fact.ClearField("last_reading")
    row = extraction(wanted(), SOURCE_TYPES).row(fact)
    assert row is not None
    assert row.keys() == {"device", "day", "station", "readings", "keeper"}


def test_only_facts_with_the_values_asked_for_make_rows() -> None:
    found = extraction(wanted(where={"indicator": "pm25", "count": "24", "title.en": "Dongsi"}), SOURCE_TYPES)
    assert found.row(aggregate()) is not None
    assert found.row(aggregate(indicator="o3")) is None
    assert found.row(aggregate(station="tiantan")) is None


def test_enums_give_their_names_and_truth_values_themselves() -> None:
    assert parse_path(WARNING, "warning.level").read(WarningRaised(warning=Warning_(level=LEVEL_II))) == "LEVEL_II"
    assert parse_path(WARNING, "warning.ended_at").read(WarningRaised(warning=Warning_())) is None
    assert parse_path(WARNING, "warning.ended_at").read(WarningRaised()) is None
    assert parse_path(WARNING, "warning.level").types == {FieldType.STRING}


@pytest.mark.parametrize(
    ("descriptor", "path", "fault"),
    [
        (AGGREGATE, "", "there is no"),
        (AGGREGATE, "nothing", "there is no nothing"),
        (AGGREGATE, "title.fr", "there is no fr"),
        (AGGREGATE, "day.year", "there is no year"),
        (AGGREGATE, "title", "is a LocalText, not a value"),
        (AGGREGATE, "last_reading.seconds.x", "there is no x"),
        (WARNING, "warning.reason.inputs", "leads through the list inputs"),
        (EventOpened.DESCRIPTOR, "event.flags", "leads through the list flags"),
    ],
)
def test_paths_that_lead_nowhere_say_where_they_end(descriptor: Descriptor, path: str, fault: str) -> None:
    with pytest.raises(PathError, match=fault):
        parse_path(descriptor, path)


def test_all_faults_of_a_source_are_named_at_once() -> None:
    columns = {"device": "device", "day": "mean", "station": "title.fr", "mean": "day"}
    with pytest.raises(Invalid) as caught:
        extraction(wanted(columns=columns, where={"indikator": "pm25"}), SOURCE_TYPES)
    assert caught.value.violations == (
        ("product.source.columns[station]",
         "title.fr is not a path in quintet.perception.v1.DailyAggregateComputed: there is no fr"),
        ("product.source.where[indikator]",
         "indikator is not a path in quintet.perception.v1.DailyAggregateComputed: there is no indikator"),
        ("product.source.columns[day]", "mean gives NUMBER, and the field is DATE"),
        ("product.source.columns[mean]", "day gives DATE or STRING or TIME, and the field is NUMBER"),
    )  # fmt: skip


def test_only_facts_that_sharing_listens_to_are_sources() -> None:
    source = Source("quintet.perception.v1.WarningRaised", {})
    with pytest.raises(Invalid, match=r"must be one of quintet\.perception\.v1\.DailyAggregateComputed"):
        extraction(replace(wanted(), source=source), SOURCE_TYPES)
