"""What markitdown makes of a file, and HTML as Markdown: by itself, and within other formats."""

import io
import re
from typing import Any

_DATA_IMAGE = re.compile(r"!\[([^\]]*)\]\(data:[^)]*\)")


def converted(converter: Any, data: bytes) -> tuple[str, str | None]:
    """Markdown and title. Of pictures within the text only their captions stay."""
    from markitdown import StreamInfo

    found = converter.convert(io.BytesIO(data), StreamInfo(charset="utf-8"))
    return _DATA_IMAGE.sub(r"\1", found.markdown), found.title


def html_converted(data: bytes) -> tuple[str, str | None]:
    """Of a page in UTF-8; `parse_encodings.py` has made it that."""
    from markitdown.converters import HtmlConverter

    return converted(HtmlConverter(), data)
