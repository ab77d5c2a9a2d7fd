"""Markdown that a model wrote, as HTML that is safe to show: no HTML of its own, no picture, no address but http(s) and
mail. Two libraries have to fail before anything else gets through, and then the content security policy holds."""

import functools
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

LONGEST = 100_000
"""Characters; a longer text is shown as it is."""
TAGS = frozenset({
    "p", "br", "hr", "em", "strong", "s", "code", "pre", "blockquote", "ul", "ol", "li", "a", "table", "thead",
    "tbody", "tr", "th", "td",
})  # fmt: skip
HEADING = "heading"
_ADDRESS = re.compile(r"https?://|mailto:", re.IGNORECASE)
"""No answer leads to a page of the desk."""


def markdown(text: str) -> Markup:
    """Of a longer text, the text itself."""
    if len(text) > LONGEST:
        return Markup("<pre>{}</pre>").format(text)
    import nh3

    cleaned = nh3.clean(
        _parser().render(text),
        tags=set(TAGS),
        attributes={"a": {"href"}, "ol": {"start"}},
        set_tag_attribute_values={"table": {"tabindex": "0"}},  # a wide one scrolls, by keys too
        allowed_classes={"p": {HEADING}},
        url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer nofollow",
    )
    return Markup(cleaned)


@functools.cache
def _parser() -> "MarkdownIt":
    from markdown_it import MarkdownIt

    made = MarkdownIt("commonmark", {"html": False, "linkify": False}).enable(["table", "strikethrough"])
    made.disable("image")
    made.validateLink = lambda url: _ADDRESS.match(url) is not None  # type: ignore[method-assign]
    made.core.ruler.push("headings", lambda state: _lowered(state.tokens))
    return made


def _lowered(tokens: "Sequence[Token]") -> None:
    """A heading in an answer is none of the page."""
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = "p"
            if token.nesting == 1:
                token.attrSet("class", HEADING)
        elif token.type in ("th_open", "td_open"):
            token.attrs.pop("style", None)
