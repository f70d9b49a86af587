"""Pages that are Markdown already, as HTML inside the site: their pictures copied, their links led to its own pages."""

import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any
from urllib.parse import unquote

from markdown_it import MarkdownIt

Find = Callable[[str], tuple[str, str] | None]

_HEADING_ID = re.compile(r"[^\w\- ]")


def html(text: str, links: Mapping[str, str], find: Find = lambda source: None) -> str:
    """Return the HTML of a page that stands at the site's root.

    `links` gives where a relative link leads on the site; one that leads nowhere there is text. `find` gives the paths
    of a picture for light and for dark. Raw HTML is the page's own (<br>, anchors): text from records was escaped in it.
    """
    parser = MarkdownIt("commonmark").enable("table")
    parser.add_render_rule("image", lambda _, tokens, i, options, env: _picture(tokens[i], find))
    parser.add_render_rule("table_open", lambda _, tokens, i, *rest: _table(tokens, i))
    parser.add_render_rule("table_close", lambda *_: "</table></div>\n")
    tokens = parser.parse(text)
    for place, token in enumerate(tokens):
        if token.type == "heading_open" and token.tag != "h1":
            token.attrSet("id", anchor(tokens[place + 1].content))
        if token.type == "th_open" and not tokens[place + 1].content:  # a head that says nothing is none
            token.tag = tokens[place + 2].tag = "td"
        _lead(token.children or (), links)
    return parser.renderer.render(tokens, parser.options, {})


def anchor(title: str) -> str:
    """Return the anchor of a heading, as Markdown viewers make it."""
    return _HEADING_ID.sub("", title.lower()).replace(" ", "-")


def _table(tokens: Sequence[Any], place: int) -> str:
    """Open a table in a region that scrolls by itself, under a name of its own."""
    number = sum(token.type == "table_open" for token in tokens[: place + 1])
    return f'<div class="scroll" tabindex="0" role="region" aria-label="Table {number} of this page"><table>\n'


def _lead(tokens: Sequence[Any], links: Mapping[str, str]) -> None:
    """Lead the relative links among the parts of a line to the site's pages; take away those that lead nowhere there."""
    for token in tokens:
        if token.type != "link_open":
            continue
        there, mark, part = str(token.attrGet("href")).partition("#")
        if there.startswith(("http://", "https://")) or (mark and not there):
            continue
        if (leads := links.get(posixpath.normpath(there))) is None:
            del token.attrs["href"]
        else:
            token.attrSet("href", leads + mark + part)


def _picture(token: Any, find: Find) -> str:
    alt = escape(token.content)
    paths = find(unquote(str(token.attrGet("src"))))
    if paths is None:
        return f'<span class="missing">{alt}</span>'
    grounds = ("light", "dark")
    return "".join(
        f'<img class="on-{ground}" src="{path}" alt="{alt}" loading="lazy">' for ground, path in zip(grounds, paths, strict=True)
    )
