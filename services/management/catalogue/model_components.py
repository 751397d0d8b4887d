"""Kinds of components. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from services.management.model import MajorClass


@dataclass(frozen=True, slots=True)
class Owner:
    """Who looks after components of a type in a zone and those below it."""

    zone: str
    organisation: str


@dataclass(frozen=True, slots=True)
class ComponentType:
    """One version of a kind of thing that stands in the city. `owners` look after it, the deepest zone first."""

    name: str
    major: MajorClass
    title_zh: str = ""
    title_en: str = ""
    code: str = ""
    owners: tuple[Owner, ...] = ()
    event_types: tuple[str, ...] = ()
    version: int = 0
    retired: bool = False
