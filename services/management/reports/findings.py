"""What rises and where it is hot, in words: tables with their statistics, and how they were come by. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from services.management.analysis.texts import number
from services.management.reports import texts
from services.management.reports.parts import Heading, Note, Part, Table

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.management.reports.model_findings import Emerging, HotSpots, Title
    from services.management.reports.model_report import Content
    from services.management.texts import Text


class Say(Protocol):
    """Fills a text in the report's language."""

    def __call__(self, text: Text, **values: str) -> str: ...


def found_in(content: Content, say: Say, name: Callable[[Title], str]) -> list[Part]:
    """Return the parts of a report that looked for findings, none of one that did not."""
    if content.emerging is None:
        return []
    return [*_emerging(content.emerging, say, name), *_hot_spots(content.hot_spots, say, name)]


def _emerging(found: Emerging, say: Say, name: Callable[[Title], str]) -> list[Part]:
    heading = Heading(say(texts.EMERGING))
    how = {
        "windows": str(found.windows),
        "hours": str(found.hours),
        "tested": str(found.tested),
        "found": str(found.found),
        "shown": str(len(found.issues)),
        "rate": number(found.rate),
    }
    if not found.tested:
        return [heading, Note(say(texts.NO_HISTORY, **how))]
    if not found.issues:
        return [heading, Note(say(texts.NONE_RISES, **how))]
    heads = (texts.NAME, texts.OBSERVED, texts.EXPECTED, texts.SEASON, texts.DISPERSION, texts.P_VALUE, texts.Q_VALUE)
    cells = [
        (
            say(texts.TYPE_AND_ZONE, type=name(issue.type), zone=name(issue.zone)),
            str(issue.observed),
            *map(number, (issue.expected, issue.season, issue.dispersion, issue.p_value, issue.q_value)),
        )
        for issue in found.issues
    ]
    return [heading, Table((tuple(map(say, heads)), *cells)), Note(say(texts.RISES, **how), small=True)]


def _hot_spots(found: HotSpots | None, say: Say, name: Callable[[Title], str]) -> list[Part]:
    heading = Heading(say(texts.HOT_SPOTS))
    if found is None:
        return [heading, Note(say(texts.TOO_MANY_CELLS))]
    how = {
        "cells": str(found.cells),
        "cell": number(found.cell_m),
        "least": str(found.cells_min),
        "located": str(found.located),
        "hot": str(found.hot),
        "shown": str(len(found.spots)),
        "rate": number(found.rate),
    }
    if not found.spots:
        return [heading, Note(say(texts.NONE_HOT if found.cells >= found.cells_min else texts.TOO_FEW_CELLS, **how))]
    heads = (texts.PLACE, texts.OBSERVED, texts.EXPECTED, texts.SCORE, texts.P_VALUE, texts.Q_VALUE)
    cells = [
        (
            say(texts.AT, zone=name(spot.zone), latitude=f"{spot.latitude:.4f}", longitude=f"{spot.longitude:.4f}"),
            str(spot.observed),
            *map(number, (spot.expected, spot.score, spot.p_value, spot.q_value)),
        )
        for spot in found.spots
    ]
    return [heading, Table((tuple(map(say, heads)), *cells)), Note(say(texts.HOT, **how), small=True)]
