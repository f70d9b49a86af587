"""The page in Markdown to one HTML file that opens by itself: its pictures are inside."""

import base64
import re
from html import escape
from pathlib import Path
from urllib.parse import unquote

STYLE = """
body { max-width: 64rem; margin: 2rem auto; padding: 0 1rem; font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; }
h2 { margin-top: 3rem; border-top: 1px solid #ccc; padding-top: 1rem; }
img { max-width: 100%; height: auto; }
table { border-collapse: collapse; font-size: 13px; display: block; overflow-x: auto; }
th, td { border: 1px solid #ddd; padding: .3rem .5rem; vertical-align: top; text-align: left; }
th { background: #f4f4f4; }
code { background: #f4f4f4; padding: 0 .2em; }
a { color: #0072B2; }
"""
_PICTURE = re.compile(r'<img src="([^":]+\.svg)"')


def page(text: str, folder: Path) -> str:
    """Return the HTML of a page whose pictures lie relative to `folder`."""
    from markdown_it import MarkdownIt

    # raw HTML is the page's own (<br>, anchors): text from records and files was escaped when the page was made
    body = MarkdownIt("commonmark").enable("table").render(text)
    body = _PICTURE.sub(lambda found: f'<img src="{_inside(folder / unquote(found.group(1)), found.group(1))}"', body)
    title = text.splitlines()[0].lstrip("# ")
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<meta name="viewport" content="width=device-width">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )


def _inside(picture: Path, link: str) -> str:
    """Return a picture as a data URL, or its link where it is not there."""
    if not picture.is_file():
        return link
    return "data:image/svg+xml;base64," + base64.b64encode(picture.read_bytes()).decode()
