"""PowerPoint: a heading for each slide, its texts, tables and notes."""

import io
from collections.abc import Iterable, Iterator
from typing import Any

from ai_assets.documents.formats.read import Read, blocks, opened, refuse_doctypes, table


def read(data: bytes) -> Read:
    from pptx import Presentation

    with opened(data, "PowerPoint presentation", ".pptx", "ppt/presentation.xml") as archive:
        refuse_doctypes(archive)
    shown = Presentation(io.BytesIO(data))
    parts: list[str] = []
    first = None
    for number, slide in enumerate(shown.slides, start=1):
        heading = slide.shapes.title
        title = " ".join(heading.text_frame.text.split()) if heading is not None and heading.has_text_frame else ""
        first = first or title or None
        parts.append(f"## Slide {number}{f': {title}' if title else ''}")
        parts += _texts(slide.shapes, heading.shape_id if heading is not None else None)
        if slide.has_notes_slide and (frame := slide.notes_slide.notes_text_frame) is not None and frame.text.strip():
            parts.append(f"Notes: {frame.text.strip()}")
    return Read(text=blocks(parts), title=first)


def _texts(shapes: Iterable[Any], title: int | None) -> Iterator[str]:
    """From top to bottom, as people read; a group where it stands."""
    for shape in sorted(shapes, key=lambda each: (each.top or 0, each.left or 0)):
        if shape.shape_id == title:
            continue
        if hasattr(shape, "shapes"):
            yield from _texts(shape.shapes, None)
        elif shape.has_text_frame:
            lines = [(paragraph.level, " ".join(paragraph.text.split())) for paragraph in shape.text_frame.paragraphs]
            several = len([1 for _, line in lines if line]) > 1
            yield "\n".join(f"{'  ' * level}- {line}" if several else line for level, line in lines if line)
        elif getattr(shape, "has_table", False):
            yield table([[cell.text for cell in row.cells] for row in shape.table.rows])
        elif getattr(shape, "has_chart", False) and shape.chart.has_title:
            yield f"Chart: {' '.join(shape.chart.chart_title.text_frame.text.split())}"
