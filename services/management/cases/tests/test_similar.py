"""What a case has in common with an event, in Chinese and English."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.management.cases.model_place import PlaceClass, told_from
from services.management.cases.model_similar import SCORE_MIN, Candidate, Library, Subject, ranked, suggestion
from services.management.model_words import TOKENS_MAX, spoken, tokens

LIBRARY = Library(10, {"漏水": 1, "管道": 2, "leak": 1, "pipe": 2, "the": 10})


def subject(**changes: Any) -> Subject:
    values: dict[str, Any] = {
        "type": "eventTypes/leak",
        "code": "0102",
        "words": {"漏水": "漏水", "管道": "管道"},
        "place": PlaceClass.RESIDENTIAL,
    }
    return Subject(**(values | changes))


def candidate(name: str = "c", **changes: Any) -> Candidate:
    values: dict[str, Any] = {
        "type": "eventTypes/leak",
        "code": "0102",
        "words": frozenset(),
        "place": PlaceClass.UNKNOWN,
        "helped": 0,
        "did_not_help": 0,
    }
    return Candidate(name, **(values | changes))


def score(**changes: Any) -> float:
    return suggestion(subject(), candidate(**changes), LIBRARY).score


def test_words_are_found_in_any_form() -> None:
    assert spoken("Leaking pipes", "the PIPE leaked") == {"leak": "leaking", "pip": "pipes"}
    assert tokens("poultices boxes bus glass") == tokens("poultice box bus glass")
    assert tokens("井盖破损") == ["井盖", "盖破", "破损"]
    assert set(tokens("破损的井盖")) & set(tokens("井盖破损")) == {"破损", "井盖"}
    assert tokens("ＤＮ300管道") == ["dn300", "管道"]
    assert tokens("漏") == ["漏"]


@given(st.text(max_size=2000))
def test_any_text_gives_bounded_words(text: str) -> None:
    found = tokens(text)
    assert len(found) == len(set(found)) <= TOKENS_MAX


def test_a_place_is_told_by_its_most_telling_word() -> None:
    assert told_from("公园路第三小学门口") == (PlaceClass.SCHOOL, "小学")
    assert told_from("朝阳区某小区3号楼") == (PlaceClass.RESIDENTIAL, "小区")
    assert told_from("12 Park Street, next to the bridges") == (PlaceClass.WATER, "bridge")
    assert told_from("100 Connecticut St", "a noise") == (PlaceClass.UNKNOWN, "")


def test_each_part_counts_as_stated() -> None:
    assert score(type="eventTypes/noise", code="0901") == 0.05
    assert score(type="eventTypes/burst", code="0109") == 0.25
    assert score() == 0.45
    assert score(words=frozenset(["漏水", "管道", "别的"])) == 0.85
    assert score(place=PlaceClass.RESIDENTIAL) == 0.55
    assert score(helped=8) == 0.49
    assert score(did_not_help=8) == 0.41
    # The rarer of two words counts for more.
    assert score(words=frozenset(["漏水"])) > score(words=frozenset(["管道"]))


def test_the_best_come_first_and_the_unlike_not_at_all() -> None:
    found = ranked(
        subject(),
        [
            candidate("same"),
            candidate("words", type="eventTypes/noise", code="", words=frozenset(["漏水", "管道"])),
            candidate("both", words=frozenset(["漏水"])),
            candidate("none", type="eventTypes/noise", code=""),
        ],
        LIBRARY,
        limit=5,
    )
    assert [each.name for each in found] == ["both", "same", "words"]
    assert all(each.score >= SCORE_MIN for each in found)
    assert len(ranked(subject(), [candidate(str(place)) for place in range(9)], LIBRARY, limit=5)) == 5


def test_the_reasons_are_said_in_both_languages() -> None:
    alike = candidate(words=frozenset(["漏水", "管道"]), place=PlaceClass.RESIDENTIAL, helped=2, did_not_help=1)
    why = suggestion(subject(), alike, LIBRARY).explanation
    assert why.zh == "类型相同；用词相近（100%）：漏水 管道；场所同为居住区；曾用于3件，2件有帮助"
    assert why.en == (
        "same type; 100% of its words in common: 漏水 管道; also at a residential place; "
        "used for 3 events and helped with 2"
    )
    assert why.inputs["words"] == "1.00"


@given(
    st.sets(st.sampled_from(["漏水", "管道", "leak", "pipe", "x"])),
    st.sets(st.sampled_from(["漏水", "管道", "leak", "pipe", "x"])),
    st.sampled_from(list(PlaceClass)),
    st.integers(0, 1000),
    st.integers(0, 1000),
)
def test_a_score_is_between_0_and_1(
    mine: set[str], theirs: set[str], place: PlaceClass, helped: int, did_not: int
) -> None:
    alike = candidate(words=frozenset(theirs), place=place, helped=helped, did_not_help=did_not)
    found = suggestion(subject(words={word: word for word in sorted(mine)}, place=place), alike, LIBRARY)
    assert 0 <= found.score <= 1
