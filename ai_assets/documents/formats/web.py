"""HTML within other formats, as Markdown."""

import re

DATA_IMAGE = re.compile(r"!\[([^\]]*)\]\(data:[^)]*\)")


def markdown_of(html: str) -> str:
    from markitdown.converters import HtmlConverter

    return DATA_IMAGE.sub(r"\1", HtmlConverter().convert_string(html).markdown)
