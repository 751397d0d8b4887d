"""What the search looks at."""

from hypothesis import given, settings
from hypothesis import strategies as st

from services.delivery import search


def test_chinese_is_cut_into_pairs_and_characters() -> None:
    assert search.grams("残疾人证") == sorted(["残", "疾", "人", "证", "残疾", "疾人", "人证"])


def test_pairs_do_not_cross_words() -> None:
    assert "tp" not in search.grams("street performance")
    assert "tp" not in search.grams("street", "performance")


def test_width_case_and_spacing_do_not_matter() -> None:
    wide = "".join(chr(ord(letter) + 0xFEE0) for letter in "ABC")
    assert search.plain(f"  {wide}\t Permit ") == "abc permit"


def test_a_query_asks_for_half_of_its_pairs() -> None:
    query = search.query("残疾证")
    assert query is not None
    assert (query.grams, query.least) == (("残疾", "疾证"), 1)


def test_a_query_of_one_character_asks_for_it() -> None:
    query = search.query("水")
    assert query is not None
    assert query.grams == ("水",)


def test_a_query_without_letters_finds_nothing() -> None:
    assert search.query("!? -- 。") is None


def test_a_character_that_stands_for_many_does_not_ask_for_more_than_the_limit() -> None:
    query = search.query("".join(chr(number) for number in range(0x3358, 0x3358 + 100)) * 20)
    assert query is not None
    assert len(query.grams) <= search.QUERY_GRAMS_MAX < search.EXACT_BONUS


@settings(deadline=None)
@given(st.text(max_size=100))
def test_every_text_is_found_by_itself(text: str) -> None:
    query = search.query(text)
    assert query is None or set(query.grams) <= set(search.grams(text))
    assert query is None or 1 <= query.least <= len(query.grams) <= search.QUERY_GRAMS_MAX
