"""What may be shown of the people to visit. Pure."""

from __future__ import annotations

MASK = "*"
# What stays readable of a name and of an address, in characters.
NAME_CHARS_SHOWN = 1
PLACE_CHARS_SHOWN = 6


def masked_name(who: str) -> str:
    """Return a name of which only the first character can be read; its length is not told."""
    return who[:NAME_CHARS_SHOWN] + MASK * 2


def masked_place(place: str) -> str:
    """Return an address without its numbers, which lead to the door, and cut after PLACE_CHARS_SHOWN characters."""
    return "".join(MASK if sign.isdigit() else sign for sign in place[:PLACE_CHARS_SHOWN]) + MASK * 2
