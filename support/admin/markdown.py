"""Turns an assistant's Markdown into HTML for the admin.

A user can make a model write any text, so we treat the text as hostile. Two libraries protect staff:
markdown-it-py turns HTML into text, and nh3 removes every tag and attribute that is not listed here.
"""

from functools import cache
from typing import Any

from django.utils.safestring import SafeString

WITH = ["table", "strikethrough"]
# An image's server would learn when staff read the conversation. Without this rule, an image becomes a link.
WITHOUT = ["image"]

TAGS = {"p", "br", "hr", "blockquote", "h4", "h5", "h6", "ul", "ol", "li", "em", "strong", "s", "code", "pre"}
TAGS |= {"a", "table", "thead", "tbody", "tr", "th", "td"}
ATTRIBUTES = {"a": {"href", "target"}, "ol": {"start"}}
SCHEMES = {"http", "https", "mailto"}

# The page itself has headings of levels 1 to 3.
LOWER_HEADINGS = {"h1": "h4", "h2": "h5", "h3": "h6", "h4": "h6", "h5": "h6", "h6": "h6"}


def most_table_cells(text: str) -> int:
    """Return a number of cells that no table in the text can exceed. Cells are what takes the parser long.

    The parser fills each row up to the number of columns. For it, a carriage return ends a line too.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return len(lines) * max(line.count("|") for line in lines)


def to_html(text: str) -> SafeString:
    import nh3  # imported here, like the parser: only the admin needs them

    # nh3 adds rel="noopener noreferrer" to each link.
    html = nh3.clean(_parser().render(text), tags=TAGS, attributes=ATTRIBUTES, url_schemes=SCHEMES)
    return SafeString(html)


@cache
def _parser() -> Any:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False}).enable(WITH).disable(WITHOUT)
    parser.core.ruler.push("for_the_admin", _adapt)
    return parser


def _adapt(state: Any) -> None:
    """Lower the headings, and open each link in a new tab."""
    for token in state.tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = LOWER_HEADINGS[token.tag]
        for child in token.children or ():
            if child.type == "link_open":
                child.attrSet("target", "_blank")
