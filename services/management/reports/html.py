"""A report as one HTML page that holds all that it needs: nothing is fetched, and it prints on A4."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined

if TYPE_CHECKING:
    from services.management.reports.document import Document

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def html(document: Document) -> bytes:
    """Return the page in UTF-8."""
    parts = [(type(part).__name__, part) for part in document.parts]
    return _TEMPLATES.get_template("report.html").render(document=document, parts=parts).encode()
