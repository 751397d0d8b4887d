"""Personal data in free text: what people write down without thinking of it. Pure.

Masked are telephone numbers, numbers of identity papers and bank cards, addresses of electronic mail and number plates,
of China and of North America. Numbers that carry a check digit are masked only when it is right, so that a file number
stays; what looks like a telephone number is masked always, as nothing tells it from another. Names of people are not
found: a list of names would mask half of the streets.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

# GB 11643: the weights of the first 17 digits of an identity number, and its check digits by the sum modulo 11.
_ID_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_ID_CHECKS = "10X98765432"
_ID_WEIGHTED_DIGITS = 17
_LUHN_DOUBLE_MAX = 9

_PROVINCES = "京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼"


class Masked(NamedTuple):
    """A text without personal data, and the kinds of what was masked in it, sorted."""

    text: str
    kinds: tuple[str, ...]


class _Kind(NamedTuple):
    name: str
    shown: str
    pattern: re.Pattern[str]
    holds: Callable[[str], bool]


def mask_text(text: str) -> Masked:
    """Replace each piece of personal data by the name of its kind in both languages, for example "[电话 phone]"."""
    found: set[str] = set()
    for kind in _KINDS:

        def replaced(match: re.Match[str], kind: _Kind = kind) -> str:
            if not kind.holds(match[0]):
                return match[0]
            found.add(kind.name)
            return kind.shown

        text = kind.pattern.sub(replaced, text)
    return Masked(text, tuple(sorted(found)))


def _always(_text: str) -> bool:
    return True


def _is_identity(text: str) -> bool:
    total = sum(
        weight * int(digit) for weight, digit in zip(_ID_WEIGHTS, text[:_ID_WEIGHTED_DIGITS], strict=True)
    )  # fmt: skip
    return _ID_CHECKS[total % len(_ID_CHECKS)] == text[-1].upper()


def _is_card(text: str) -> bool:
    """Tell whether the digits pass the check of ISO/IEC 7812 (Luhn)."""
    total = 0
    for place, char in enumerate(reversed([char for char in text if char.isdigit()])):
        value = int(char) * (1 + place % 2)
        total += value - _LUHN_DOUBLE_MAX if value > _LUHN_DOUBLE_MAX else value
    return total % 10 == 0


_EMAIL = r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"
_IDENTITY_CN = r"(?<!\d)[1-9]\d{16}[\dXx](?![\dXx])"
_IDENTITY_US = r"(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])"
_CARD = r"(?<!\d)\d(?:[ -]?\d){12,18}(?!\d)"
_MOBILE_CN = r"(?<!\d)(?:\+?86[ -]?)?1[3-9]\d[ -]?\d{4}[ -]?\d{4}(?!\d)"
_LANDLINE_CN = r"(?<!\d)0\d{2,3}[ -]?\d{7,8}(?!\d)"
_PHONE_US = r"(?<![\d+])(?:\+?1[ .-]?)?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}(?!\d)"
_PLATE = rf"[{_PROVINCES}][A-HJ-NP-Z][ ·•]?[A-HJ-NP-Z0-9]{{5,6}}(?![A-Za-z0-9])"

# A mobile number goes before a card's: one of ten, with its country code, has the right check digit of a card.
_KINDS = (
    _Kind("email", "[邮箱 e-mail]", re.compile(_EMAIL, re.ASCII), _always),
    _Kind("identity", "[证件号 identity number]", re.compile(_IDENTITY_CN, re.ASCII), _is_identity),
    _Kind("identity", "[证件号 identity number]", re.compile(_IDENTITY_US, re.ASCII), _always),
    _Kind("phone", "[电话 phone]", re.compile(_MOBILE_CN, re.ASCII), _always),
    _Kind("card", "[卡号 card number]", re.compile(_CARD, re.ASCII), _is_card),
    _Kind("phone", "[电话 phone]", re.compile(_LANDLINE_CN, re.ASCII), _always),
    _Kind("phone", "[电话 phone]", re.compile(_PHONE_US, re.ASCII), _always),
    _Kind("plate", "[车牌 number plate]", re.compile(_PLATE), _always),
)
