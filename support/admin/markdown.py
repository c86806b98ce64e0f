"""Turns an assistant's Markdown into HTML for the admin.

A user can make a model write any text, so we treat the text as hostile. Two libraries protect staff:
markdown-it-py turns HTML into text, and nh3 removes every tag and attribute that is not listed here.
"""

from functools import cache
from typing import Any

from django.utils.safestring import SafeString

# Limit rows times columns: the parser needs a second for a table of 60 columns and 10,000 rows.
MAX_TABLE_CELLS = 5_000

WITH = ["table", "strikethrough"]
# An image's server would learn when staff read the conversation. Without this rule, an image becomes a link.
WITHOUT = ["image"]

TAGS = {"p", "br", "hr", "blockquote", "h4", "h5", "h6", "ul", "ol", "li", "em", "strong", "s", "code", "pre"}
TAGS |= {"a", "table", "thead", "tbody", "tr", "th", "td"}
ATTRIBUTES = {"a": {"href", "target"}, "ol": {"start"}}
SCHEMES = {"http", "https", "mailto"}

# The page itself has headings of levels 1 to 3.
LOWER_HEADINGS = {"h1": "h4", "h2": "h5", "h3": "h6", "h4": "h6", "h5": "h6", "h6": "h6"}


def is_short(text: str) -> bool:
    """Whether the text can be rendered fast. Show any other text unchanged."""
    lines = text.split("\n")
    return len(lines) * max(line.count("|") for line in lines) <= MAX_TABLE_CELLS


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
