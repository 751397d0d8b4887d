"""The thing that a report is about, as far as it was said. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from services.management.model_words import plain

_SEPARATORS = re.compile(r"[\W_]+")


@dataclass(frozen=True, slots=True)
class Component:
    """One component (部件): its type, and its own code as it was written down, "" when not known."""

    type: str
    code: str = ""


def component_key(component: Component | None) -> str:
    """Return a component in the form in which equal ones are equal, "" for one that cannot be told from its like."""
    code = _SEPARATORS.sub(" ", plain(component.code)).strip() if component else ""
    return f"{component.type} {code}" if component and code else ""
