import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.errors import Invalid
from libs.zones import ZoneRecord, ZoneTree, parse_boundary

CITY, D6, D10, HILL, BEIJING = "us-ca-sf", "us-ca-sf-d6", "us-ca-sf-d10", "us-ca-sf-d10-potrero-hill", "cn-110000"


def square(west: float, south: float, east: float, north: float) -> str:
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return json.dumps({"type": "Polygon", "coordinates": [ring]})


TREE = ZoneTree(
    [
        ZoneRecord(CITY, boundary=parse_boundary(square(-123, 37, -122, 38))),
        ZoneRecord(
            D6, CITY, aliases=("6", "South of Market"), boundary=parse_boundary(square(-122.5, 37.75, -122.4, 37.8))
        ),
        ZoneRecord(
            D10,
            CITY,
            names=("第十区", "District 10"),
            aliases=("10", "old-d10"),
            boundary=parse_boundary(square(-122.4, 37.7, -122.3, 37.8)),
            delegated_to="sf-d10",
        ),
        ZoneRecord(
            HILL,
            D10,
            names=("波特雷罗山", "Potrero Hill"),
            boundary=parse_boundary(square(-122.4, 37.75, -122.38, 37.77)),
            delegated_to="sf-potrero-hill",
        ),
        ZoneRecord(f"{D10}-bayview", D10, names=("Bayview", "Hill")),
        ZoneRecord(f"{D6}-hill", D6, names=("Hill",)),
        ZoneRecord(BEIJING, names=("北京市", "Beijing")),
    ],
    root=CITY,
)


def flags(**given_values: object) -> set[str]:
    return {doubt.code for doubt in TREE.resolve(**given_values).flags}  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------------------ the tree


def test_the_hierarchy_is_data() -> None:
    assert TREE.covers(CITY, HILL)
    assert TREE.covers(HILL, HILL)
    assert not TREE.covers(HILL, D10)
    assert not TREE.covers(CITY, BEIJING)
    assert not TREE.covers(CITY, "us-ca-sf-d99"), "a code that begins alike proves nothing"
    assert TREE.path(HILL) == (CITY, D10, HILL)
    assert TREE.path("unknown") == ()
    assert TREE.descendants(D10) == (D10, f"{D10}-bayview", HILL)
    assert TREE.descendants("unknown") == ("unknown",)


def test_former_codes_keep_resolving() -> None:
    assert TREE.canonical("old-d10") == D10
    assert TREE.covers("old-d10", HILL)
    assert "old-d10" in TREE
    assert "old-d10" in TREE.codes(D10)
    assert TREE.canonical("hill") == "hill", "two zones bear the name: it is nobody's code"


def test_a_node_whose_file_names_its_zone_by_a_former_code_has_the_present_one() -> None:
    tree = ZoneTree([ZoneRecord("D-10", aliases=("d10",)), ZoneRecord("hill", "D-10")], root="D10")
    assert tree.root == "D-10"
    assert tree.covers("d10", "hill")
    assert tree.descendants("d10") == ("D-10", "hill")


def test_the_nearest_delegation_decides() -> None:
    assert TREE.authority(HILL) == "sf-potrero-hill"
    assert TREE.authority(f"{D10}-bayview") == "sf-d10"
    assert TREE.authority(D6) == ""
    assert TREE.is_delegated(HILL)
    assert not TREE.is_delegated("unknown")


def test_a_circle_is_refused() -> None:
    with pytest.raises(ValueError, match="circle"):
        ZoneTree([ZoneRecord("a", "b"), ZoneRecord("b", "a")], root="a")


def test_the_root_is_known_before_any_record() -> None:
    assert ZoneTree(root=CITY).path(CITY) == (CITY,)


# ---------------------------------------------------------------------------------------------------------- resolution


@pytest.mark.parametrize(
    ("values", "zone", "confidence"),
    [
        ({"zone_hint": D6}, D6, 1.0),
        ({"zone_hint": f"zones/{D6}"}, D6, 1.0),
        ({"zone_hint": "old-d10"}, D10, 1.0),
        ({"zone_hint": " potrero  HILL "}, HILL, 0.95),
        ({"zone_hint": "\uff11\uff10"}, D10, 0.95),  # full-width digits, as Chinese keyboards write them
        ({"neighbourhood": "Potrero Hill"}, HILL, 0.85),
        ({"zone_hint": "10", "neighbourhood": "Potrero Hill"}, HILL, 0.85),
        ({"zone_hint": "10", "neighbourhood": "Hill"}, f"{D10}-bayview", 0.85),
        ({"neighbourhood": "Hill"}, CITY, 0.85),
        ({"latitude": 37.76, "longitude": -122.39}, HILL, 0.9),
        ({"zone_hint": "10", "latitude": 37.76, "longitude": -122.39}, HILL, 0.9),
        ({"zone_hint": HILL, "latitude": 37.72, "longitude": -122.35}, HILL, 1.0),
        ({"address": "1 Texas St, Potrero Hill, San Francisco"}, HILL, 0.5),
        ({"address": "旧金山市波特雷罗山德克萨斯街1号"}, HILL, 0.5),
        ({"address": "10 Main St"}, CITY, 0.0),
        ({"address": "Potrero Hillside Road"}, CITY, 0.0),
        ({}, CITY, 0.0),
    ],
)
def test_the_deepest_zone_that_is_supported(values: dict[str, object], zone: str, confidence: float) -> None:
    found = TREE.resolve(**values)  # type: ignore[arg-type]
    assert (found.zone, found.confidence) == (zone, confidence)
    assert found.reason


def test_contradictions_are_flagged_and_believed_less() -> None:
    found = TREE.resolve(zone_hint="6", neighbourhood="Potrero Hill", latitude=37.76, longitude=-122.45)
    assert (found.zone, found.confidence) == (D6, 0.5)
    assert [(doubt.code, doubt.field) for doubt in found.flags] == [("ZONE_CONFLICT", "neighbourhood")]
    assert "us-ca-sf-d10-potrero-hill" in found.flags[0].reason


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"zone_hint": "-1"}, {"ZONE_UNKNOWN", "COORDINATES_MISSING"}),
        ({"zone_hint": "6", "latitude": 0.0, "longitude": 0.0}, {"COORDINATES_ZERO"}),
        ({"zone_hint": "6", "latitude": 91.0, "longitude": 0.0}, {"COORDINATES_INVALID"}),
        ({"zone_hint": "6", "latitude": math.nan, "longitude": 0.0}, {"COORDINATES_INVALID"}),
        ({"latitude": 40.0, "longitude": -100.0}, {"COORDINATES_OUTSIDE", "ZONE_UNKNOWN"}),
        ({"zone_hint": "Beijing", "latitude": 37.76, "longitude": -122.45}, {"ZONE_OUTSIDE"}),
        ({}, {"COORDINATES_MISSING", "ZONE_UNKNOWN"}),
    ],
)
def test_doubts(values: dict[str, object], expected: set[str]) -> None:
    assert flags(**values) == expected


@given(
    st.text(max_size=50),
    st.text(max_size=50),
    st.text(max_size=50),
    st.one_of(st.none(), st.floats()),
    st.one_of(st.none(), st.floats()),
)
def test_whatever_is_given_some_zone_of_the_node_answers(
    hint: str, neighbourhood: str, address: str, latitude: float | None, longitude: float | None
) -> None:
    found = TREE.resolve(
        zone_hint=hint, neighbourhood=neighbourhood, address=address, latitude=latitude, longitude=longitude
    )
    assert TREE.covers(CITY, found.zone)
    assert 0 <= found.confidence <= 1


# ---------------------------------------------------------------------------------------------------------- boundaries


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "null",
        "[" * 100_000,
        '{"type":"Point","coordinates":[1,2]}',
        '{"type":"Polygon","coordinates":[]}',
        '{"type":"Polygon","coordinates":[[[0,0],[1,0]]]}',
        '{"type":"Polygon","coordinates":[[[0,0],[1,1],[1,0],[0,1],[0,0]]]}',
        square(0, 0, 181, 1),
        square(0, -91, 1, 1),
    ],
)
def test_boundaries_that_are_none(text: str) -> None:
    with pytest.raises(Invalid):
        parse_boundary(text)


def test_no_boundary() -> None:
    assert parse_boundary("") is None
