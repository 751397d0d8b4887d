"""A report as a PDF for A4. Chinese is set in STSong-Light, which readers bring: nothing is embedded.

The library is loaded with the first document: it takes a while, and most processes never make one.
"""

from __future__ import annotations

from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING, Any

from services.management.reports.model_chart import LEFT
from services.management.reports.parts import Figure, Heading, Note

if TYPE_CHECKING:
    from services.management.reports.document import Document
    from services.management.reports.model_chart import Chart
    from services.management.reports.parts import Part, Table

FONT = "STSong-Light"
COLOURS = ("#1f6fb2", "#e39b2d")
GREY, INK = "#cfd6dd", "#1c2733"
MARGIN_MM = 18


def pdf(document: Document) -> bytes:
    """Return the document."""
    from reportlab.lib.pagesizes import A4
    from reportlab.lib.units import mm
    from reportlab.platypus import SimpleDocTemplate

    _register()
    out = BytesIO()
    margin = MARGIN_MM * mm
    template = SimpleDocTemplate(
        out, pagesize=A4, title=document.title, author="Quintet", lang=document.language, invariant=1,
        leftMargin=margin, rightMargin=margin, topMargin=margin, bottomMargin=margin,
    )  # fmt: skip

    def number(canvas: Any, made: Any) -> None:
        canvas.setFont(FONT, 8)
        canvas.drawRightString(A4[0] - margin, margin / 2, document.page.format(page=made.page))

    story = [_paragraph(document.title, 17, after=4)]
    story += [_paragraph(line, 9) for line in document.lines]
    for part in document.parts:
        story += _flowables(part)
    story.append(_paragraph(document.foot, 8, before=14))
    template.build(story, onFirstPage=number, onLaterPages=number)
    return out.getvalue()


@cache
def _register() -> None:
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.cidfonts import UnicodeCIDFont

    pdfmetrics.registerFont(UnicodeCIDFont(FONT))


def _paragraph(text: str, size: float, *, before: float = 0, after: float = 0, joined: bool = False) -> Any:
    """Return a paragraph; a `joined` one stays on the page of what follows."""
    from xml.sax.saxutils import escape

    from reportlab.lib.styles import ParagraphStyle
    from reportlab.platypus import Paragraph

    style = ParagraphStyle(
        "text", fontName=FONT, fontSize=size, leading=size * 1.4, wordWrap="CJK", textColor=INK, spaceBefore=before,
        spaceAfter=after, keepWithNext=joined,
    )  # fmt: skip
    return Paragraph(escape(text), style)


def _flowables(part: Part) -> list[Any]:
    from reportlab.platypus import KeepTogether

    if isinstance(part, Heading):
        return [_paragraph(part.text, 12.5, before=12, after=4, joined=True)]
    if isinstance(part, Note) and part.small:
        return [_paragraph(part.text, 8, before=3)]
    if isinstance(part, Note):
        return [_paragraph(part.text, 9.5, after=3, joined=True)]
    if isinstance(part, Figure):
        return [KeepTogether([_legend(part), _drawing(part.chart)])]
    return [_table(part)]


def _table(part: Table) -> Any:
    from reportlab.platypus import Table as Cells
    from reportlab.platypus import TableStyle

    names = 130.0
    others = (490.0 - names) / max(len(part.cells[0]) - 1, 1)
    cells = [[_paragraph(cell, 8) if not place else cell for place, cell in enumerate(row)] for row in part.cells]
    found = Cells(cells, colWidths=[names, *[others] * (len(part.cells[0]) - 1)], repeatRows=1)
    found.setStyle(
        TableStyle(
            [
                ("FONT", (0, 0), (-1, -1), FONT, 8),
                ("VALIGN", (0, 0), (-1, -1), "MIDDLE"),
                ("TEXTCOLOR", (0, 0), (-1, -1), INK),
                ("ALIGN", (1, 0), (-1, -1), "RIGHT"),
                ("LINEBELOW", (0, 0), (-1, 0), 0.8, INK),
                ("LINEBELOW", (0, 1), (-1, -1), 0.3, GREY),
            ]
        )
    )
    return found


def _legend(part: Figure) -> Any:
    from reportlab.graphics.shapes import Drawing, Rect, String

    drawing = Drawing(480, 14)
    x = LEFT
    for name, colour in zip(part.legend, COLOURS, strict=False):
        drawing.add(Rect(x, 3, 7, 7, fillColor=_colour(colour), strokeColor=None))
        drawing.add(String(x + 11, 3, name, fontName=FONT, fontSize=8))
        x += 30 + 8 * len(name)
    return drawing


def _drawing(chart: Chart) -> Any:
    """Draw a chart; PDF counts heights from below."""
    from reportlab.graphics.shapes import Drawing, Line, Rect, String

    drawing = Drawing(chart.width, chart.height)
    for rule in chart.rules:
        y = chart.height - rule
        drawing.add(Line(LEFT, y, chart.width, y, strokeColor=_colour(GREY), strokeWidth=0.4))
    for bar in chart.bars:
        y = chart.height - bar.y - bar.height
        drawing.add(Rect(bar.x, y, bar.width, bar.height, fillColor=_colour(COLOURS[bar.colour]), strokeColor=None))
    for word in chart.words:
        y = chart.height - word.y
        drawing.add(String(word.x, y, word.text, fontName=FONT, fontSize=8, textAnchor=word.anchor))
    return drawing


def _colour(code: str) -> Any:
    from reportlab.lib.colors import HexColor

    return HexColor(code)
