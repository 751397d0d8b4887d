"""What is masked in free text, and what stays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.personal_text import mask_text


@pytest.mark.parametrize(
    ("text", "masked", "kinds"),
    [
        ("联系人电话13812345678，下午在家", "联系人电话[电话 phone]，下午在家", ("phone",)),
        ("打+86 138-1234-5678", "打[电话 phone]", ("phone",)),
        ("座机010-62345678转8", "座机[电话 phone]转8", ("phone",)),
        ("Call (415) 555-0132 or 415.555.0199.", "Call [电话 phone] or [电话 phone].", ("phone",)),
        ("身份证11010519491231002X", "身份证[证件号 identity number]", ("identity",)),
        ("SSN 078-05-1120", "SSN [证件号 identity number]", ("identity",)),
        ("卡 4111 1111 1111 1111", "卡 [卡号 card number]", ("card",)),
        ("write to a.b@example.org", "write to [邮箱 e-mail]", ("email",)),
        ("车牌京A12345堵门", "车牌[车牌 number plate]堵门", ("plate",)),
        ("13812345678 and x@example.org", "[电话 phone] and [邮箱 e-mail]", ("email", "phone")),
    ],
)
def test_what_says_who_somebody_is_goes(text: str, masked: str, kinds: tuple[str, ...]) -> None:
    assert mask_text(text) == (masked, kinds)


@pytest.mark.parametrize(
    "text",
    [
        "编号110105194912310021的井盖",  # the check digit is wrong: a number of something else
        "DN300 pipe, 2026-01-05, 501 Twin Peaks Blvd, San Francisco CA 94114",
        "朝阳区建国路88号院3号楼2单元501",
        "4111 1111 1111 1112 is no card",
    ],
)
def test_what_is_no_persons_number_stays(text: str) -> None:
    assert mask_text(text) == (text, ())


@given(st.text(max_size=200))
def test_what_was_masked_once_stays_as_it_is(text: str) -> None:
    once = mask_text(text).text
    assert mask_text(once).text == once
