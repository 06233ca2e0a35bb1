"""One self-contained page: style, scripts and data inside, nothing else allowed by its own policy."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from functools import cache
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).parent
STYLES: Final = ("uPlot.min.css", "page.css")
SHARED: Final = ("uPlot.min.js", "text.js", "plots.js")
SCRIPTS: Final = {"run": (*SHARED, "figures.js", "run.js"), "compare": (*SHARED, "compare.js")}
"""The scripts of each kind of page; the last one fills it."""


def page(title: str, kind: str, data: Any, live: bool = False) -> str:
    """Return a page of a kind that shows `data`; a `live` one may ask where it came from for news.

    Whatever stands in the data is text: it goes in as JSON in which no tag can end, and scripts put it on the page as text.
    """
    styles = [_file(name) for name in STYLES]
    scripts = [_file(name) for name in SCRIPTS[kind]]
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy(kind, live)}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            '<link rel="icon" href="data:,">',
            f"<title>{html.escape(title)}</title>",
            f"<!-- uPlot, which draws the plots:\n{_file('uPlot.LICENSE')}\n-->",
            *(f"<style>{style}</style>" for style in styles),
            "</head>",
            f'<body data-live="{"yes" if live else "no"}">',
            '<main id="page"><noscript>This page draws its plots with a script, which is part of it.</noscript></main>',
            f'<script type="application/json" id="data">{as_json(data)}</script>',
            *(f"<script>{script}</script>" for script in scripts),
            "</body>",
            "</html>",
            "",
        ]
    )


def policy(kind: str, live: bool = False) -> str:
    """Return the content security policy of a page: its own styles and scripts by their hashes, nothing from anywhere."""
    styles = " ".join(_hash(_file(name)) for name in STYLES)
    scripts = " ".join(_hash(_file(name)) for name in SCRIPTS[kind])
    news = "; connect-src 'self'" if live else ""
    return (
        f"default-src 'none'; script-src {scripts}; style-src {styles}; img-src data:{news}; "
        "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )


def as_json(data: Any) -> str:
    """Return JSON that may stand inside a script element: nothing in it looks like a tag, or a comment, or the end of a line."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


@cache
def _file(name: str) -> str:
    return (HERE / name).read_text(encoding="utf8").strip()


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
