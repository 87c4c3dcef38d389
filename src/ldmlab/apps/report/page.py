"""The page: sections, tables and pictures in one file that needs no other."""

from __future__ import annotations

import base64
from collections.abc import Sequence

from ldmlab.apps.report.elements import Markup, element, joined

STYLE = """
:root { color-scheme: light dark; --back: #fff; --text: #1c1e21; --soft: #667; --rule: #ddd;
  --warn: #fff4d6; --c0: #1f6fb4; --c1: #c9541a; --c2: #2b8a3e; --c3: #9c36b5; --c4: #b08900;
  --c5: #0b7285; }
@media (prefers-color-scheme: dark) { :root { --back: #15171a; --text: #e4e6ea; --soft: #9aa;
  --rule: #3a3d42; --warn: #43370f; --c0: #6cb2f0; --c1: #f0915c; --c2: #69c97d; --c3: #d58ae8;
  --c4: #e3c14b; --c5: #5cc7d6; } }
body { margin: 0 auto; padding: 1rem; max-width: 70rem; background: var(--back);
  color: var(--text); font: 1rem/1.45 system-ui, sans-serif; }
h1 { font-size: 1.5rem; overflow-wrap: anywhere; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .9rem; }
th, td { padding: .25rem .7rem .25rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--rule); overflow-wrap: anywhere; }
.row { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 21rem), 1fr));
  gap: 1rem; }
figure { margin: 0; min-width: 0; } figcaption { font-size: .85rem; color: var(--soft); }
svg { width: 100%; height: auto; } svg text { font-size: 12px; fill: var(--soft); }
img { max-width: 100%; height: auto; } .grid { stroke: var(--rule); }
.line { fill: none; stroke: currentColor; stroke-width: 1.6; } .dot { fill: currentColor; }
.key::before { content: "\\25A0 "; } .key { margin-right: .7em; white-space: nowrap; }
.c0 { color: var(--c0); } .c1 { color: var(--c1); } .c2 { color: var(--c2); }
.c3 { color: var(--c3); } .c4 { color: var(--c4); } .c5 { color: var(--c5); }
.warnings li { background: var(--warn); padding: .3rem .6rem; margin: .3rem 0; }
.soft { color: var(--soft); }
"""


def page(title: str, sections: Sequence[Markup]) -> str:
    """A whole document.

    Args:
        title: Its heading.
        sections: What stands below.
    """
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", Markup(STYLE)),
    )
    body = element("body", element("h1", title), *sections)
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def section(title: str, *parts: Markup, missing: str = "") -> Markup:
    """A heading with what stands below it, or with the word that nothing does.

    Args:
        title: The heading.
        *parts: What there is.
        missing: What to say where there is nothing.
    """
    shown = parts or (element("p", missing, class_="soft"),)
    return element("section", element("h2", title), *shown)


def table(rows: Sequence[Sequence[str]], head: Sequence[str] = ()) -> Markup:
    """Cells in rows, below names of the columns where there are any."""
    lines = [element("tr", *(element("td", cell) for cell in row)) for row in rows]
    if head:
        lines.insert(0, element("tr", *(element("th", name) for name in head)))
    return element("div", element("table", *lines), class_="scroll")


def paragraph(text: str) -> Markup:
    """A line of text."""
    return element("p", text)


def warnings(lines: Sequence[str]) -> Markup:
    """What the reader should look at."""
    return element("ul", *(element("li", line) for line in lines), class_="warnings")


def folded(summary: str, content: Markup) -> Markup:
    """What is shown when it is asked for."""
    return element("details", element("summary", summary), content)


def row(figures: Sequence[Markup]) -> Markup:
    """Figures side by side where the screen is wide enough."""
    return element("div", *figures, class_="row")


def picture(png: bytes, caption: str) -> Markup:
    """A PNG inside the page."""
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    shown = element("img", src=source, alt=caption)
    return element("figure", joined(element("figcaption", caption), shown))
