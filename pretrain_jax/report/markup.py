"""Pieces of the page: escaped text, tables with headers, embedded pictures, one style sheet."""

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape

__all__ = ["document", "embedded", "listing", "number", "paragraph", "section", "spread", "table"]

NONE = "\N{EN DASH}"

STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --paper: #ffffff; --soft: #666666;
  --line: #c8c8c8; --shade: #f3f3f3; --warn: #8a3b00; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e6e6; --paper: #16181b; --soft: #a8a8a8; --line: #4a4d52; --shade: #202327;
    --warn: #ffb27a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem; max-width: 76rem; color: var(--ink);
  background: var(--paper); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.2; } h2 { margin-top: 2.5rem; font-size: 1.3rem; }
h3 { font-size: 1.05rem; } p, li { max-width: 50rem; }
a { color: inherit; }
nav ul { display: flex; flex-wrap: wrap; gap: .2rem 1rem; padding: 0; list-style: none; }
.warning { border-left: 4px solid var(--warn); padding: .6rem 1rem; background: var(--shade);
  font-weight: 600; max-width: 50rem; }
.note { color: var(--soft); font-size: .9rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: 1rem 0; min-width: 26rem; font-size: .85rem;
  font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: .4rem; font-weight: 600; }
th, td { padding: .2rem .55rem; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap; }
th { font-weight: 600; vertical-align: bottom; } thead th { background: var(--shade); }
tbody th, thead th:first-child, .text td { text-align: left; }
.text td { white-space: normal; overflow-wrap: anywhere; }
th.group { text-align: center; border-left: 2px solid var(--line); }
figure { margin: 1.2rem 0; } figcaption { color: var(--soft); font-size: .9rem; max-width: 50rem; }
img { max-width: 100%; height: auto; }
@page { margin: 12mm; }
@media print { nav { display: none; }
  :root { --ink: #000; --paper: #fff; --soft: #444; --line: #999; --shade: #eee; }
  body { max-width: none; padding: 0; font-size: 9pt; } .wide { overflow: visible; }
  table { font-size: 6.5pt; } figcaption { font-size: 7.5pt; } th, td { padding: 1pt 2pt; }
  h2, h3, caption { break-after: avoid; } tr, figure { break-inside: avoid; } }
"""


def document(title: str, links: Mapping[str, str], body: Iterable[str]) -> str:
    """A whole page that needs no other file.

    Args:
        title: of the page.
        links: text of the links on top by name of the section.
        body: sections.
    """
    entries = "".join(
        f'<li><a href="#{escape(name)}">{escape(text)}</a></li>' for name, text in links.items()
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f'<nav aria-label="Sections"><ul>{entries}</ul></nav>\n<main>\n'
        + "\n".join(body)
        + "\n</main>\n</body>\n</html>\n"
    )


def section(name: str, heading: str, body: Iterable[str], level: int = 2) -> str:
    """A section with a heading, under a name that links can point to."""
    inner = "\n".join(body)
    title = f"<h{level}>{escape(heading)}</h{level}>"
    return f'<section id="{escape(name)}">\n{title}\n{inner}\n</section>'


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph of the class `kind`."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def listing(lines: Iterable[str]) -> str:
    """A list of sentences."""
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>"


def table(
    caption: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    groups: Sequence[tuple[str, int]] = (),
    text: bool = False,
) -> str:
    """A table whose first column heads the rows.

    Args:
        caption: what it shows.
        columns: headings.
        rows: cells.
        groups: headings over the columns after the first, each with how many it spans.
        text: cells are text, to the left and wrapped.
    """
    head = "".join(f'<th scope="col">{escape(one)}</th>' for one in columns)
    if groups:
        over = "".join(
            f'<th scope="colgroup" class="group" colspan="{span}">{escape(one)}</th>'
            for one, span in groups
        )
        head = f"<td></td>{over}</tr>\n<tr>{head}"
    body = "\n".join(
        f'<tr><th scope="row">{escape(first)}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in rest)
        + "</tr>"
        for first, *rest in rows
    )
    kind = ' class="text"' if text else ""
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{escape(caption)}">'
        f"<table{kind}>\n<caption>{escape(caption)}</caption>\n<thead>\n<tr>{head}</tr>\n</thead>\n"
        f"<tbody>\n{body}\n</tbody>\n</table></div>"
    )


def embedded(data: bytes, media: str, alt: str, caption: str) -> str:
    """A picture in the page itself.

    Args:
        data: the file's content.
        media: its type, such as "image/png".
        alt: what it shows, for those who do not see it.
        caption: below it.
    """
    source = f"data:{media};base64,{base64.b64encode(data).decode()}"
    return (
        f'<figure><img src="{source}" alt="{escape(alt)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def number(value: float, digits: int = 2) -> str:
    """A number with a fixed number of decimals; a dash where there is none."""
    return f"{value:.{digits}f}" if math.isfinite(value) else NONE


def spread(value: float, deviation: float, digits: int = 2, *, sign: bool = False) -> str:
    """A number with what follows a plus-minus sign, where that is known."""
    if not math.isfinite(value):
        return NONE
    text = f"{value:{'+' if sign else ''}.{digits}f}"
    return f"{text} ± {deviation:.{digits}f}" if math.isfinite(deviation) else text
