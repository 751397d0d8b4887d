import math
from typing import TYPE_CHECKING

import pytest

from libs.rows import columns, dumps, fault, loads

if TYPE_CHECKING:
    from libs.canonical import JsonValue


def test_rows_travel_as_arrays() -> None:
    rows: list[list[JsonValue]] = [["Dongsi 东四", 1.5, None], ["b", 2, True]]
    assert loads(dumps(rows), 3) == rows
    assert columns(rows, 3) == [("Dongsi 东四", "b"), (1.5, 2), (None, True)]
    assert columns([], 2) == [(), ()]


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b"[[1]]", b"[[1, 2], [1]]", b"[[1, NaN]]", b"\xff", b'["ab"]'])
def test_other_shapes_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        loads(data, 2)


def test_infinity_does_not_travel() -> None:
    with pytest.raises(ValueError, match=r"[Oo]ut of range"):
        dumps([[math.inf]])


def test_what_cannot_be_kept_is_told() -> None:
    assert fault(["a", 1, 2.5, None, True, "东四 😀"]) == ""
    assert "neither" in fault([["nested"]])
    assert "finite" in fault([1.0, math.inf])
    assert "exact" in fault([2**60])
    assert "stored" in fault(["a\0b"])
    assert "stored" in fault(["\ud800"])
