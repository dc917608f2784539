"""A document as one HTML page: style and plots inside, nothing loaded, everything escaped."""

import xml.etree.ElementTree as ElementTree
from base64 import b64encode
from hashlib import sha256
from html import escape

from cnnjax.report import canvas
from cnnjax.report.document import (
    NOTICE,
    Code,
    Definitions,
    Document,
    Element,
    Figure,
    Paragraph,
    Section,
    Table,
    anchor,
)
from cnnjax.report.script import SCRIPT
from cnnjax.report.style import CSS

_COLOURS = {
    canvas.INK: "var(--ink)",
    canvas.MUTED: "var(--muted)",
    canvas.GRID: "var(--rule)",
    canvas.PAPER: "var(--paper)",
    canvas.ACCENT: "var(--accent)",
    canvas.ALARM: "var(--alarm)",
}

_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    f"script-src 'sha256-{b64encode(sha256(SCRIPT.encode()).digest()).decode()}'"
)
"""Nothing is loaded (images are in the page), and only the page's own script runs."""


def write(document: Document) -> str:
    """The document as the text of a self-contained page."""
    title = escape(document.title)
    subtitle = f'<p class="subtitle">{escape(document.subtitle)}</p>' if document.subtitle else ""
    parts = [] if document.notice is None else [notice(document.notice)]
    parts += [_section(part, part.title in document.linked) for part in document.sections]
    sections = "\n".join(parts)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{title}</title>
<style>
{CSS}</style>
</head>
<body>
<main>
<header>
<p class="kicker">{escape(document.kicker)}</p>
<h1>{title}</h1>
{subtitle}
</header>
{sections}
</main>
<script>{SCRIPT}</script>
</body>
</html>
"""


def notice(text: str) -> str:
    """A notice between its marks (`NOTICE`); the marks alone for ""."""
    element = _element(Paragraph(text, kind="warning")) if text else ""
    return f"{NOTICE[0]}{element}{NOTICE[1]}"


def _section(section: Section, linked: bool) -> str:
    tag, title = f"h{section.level}", escape(section.title)
    name = f' id="{escape(anchor(section.title))}"' if linked else ""
    heading, end = f"<{tag}>{title}</{tag}>", "</section>"
    if section.collapsed:
        heading, end = f"<details><summary>{heading}</summary>", "</details></section>"
    parts = [f'<section class="level{section.level}"{name}>', heading]
    halves: list[str] = []
    for element in section.elements:
        half = isinstance(element, Figure) and element.half
        (halves if half else parts).append(_element(element))
    if halves:
        parts += ['<div class="pair">', *halves, "</div>"]
    return "\n".join([*parts, end])


def _element(element: Element) -> str:
    match element:
        case Paragraph(text, lead, kind, link):
            opening = f"<strong>{escape(lead)}</strong> " if lead else ""
            closing = f' <a href="#{escape(anchor(link))}">{escape(link)}</a>' if link else ""
            return f'<p class="{escape(kind)}">{opening}{escape(text)}{closing}</p>'
        case Definitions(pairs):
            items = "".join(
                f"<dt>{escape(term)}</dt><dd>{escape(text)}</dd>" for term, text in pairs
            )
            return f"<dl>{items}</dl>"
        case Table():
            return _table(element)
        case Figure():
            kind, scrolls = ("wide", ' scroll" tabindex="0') if element.wide else ("", "")
            return (
                f'<figure class="{kind}"><div class="plot{scrolls}">{inline(element)}</div>'
                f"<figcaption>{escape(element.caption)}</figcaption></figure>"
            )
        case Code(text):
            return f'<pre tabindex="0"><code>{escape(text)}</code></pre>'


def _table(table: Table) -> str:
    def cell(tag: str, column: int, text: str) -> str:
        kind = "" if column < table.labels else ' class="number"'
        scope = ' scope="col"' if tag == "th" else ""
        inner = f"<div>{escape(text)}</div>" if column < table.labels else escape(text)
        return f"<{tag}{scope}{kind}>{inner}</{tag}>"

    head = "".join(cell("th", column, text) for column, text in enumerate(table.head))
    rows = []
    for index, row in enumerate(table.rows):
        kind = ' class="strong"' if index in table.strong else ""
        cells = "".join(cell("td", column, text) for column, text in enumerate(row))
        rows.append(f"<tr{kind}>{cells}</tr>")
    name = escape(table.caption)
    return (
        f'<p class="caption">{name}</p>'
        f'<div class="scroll" tabindex="0" role="region" aria-label="{name}"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def inline(figure: Figure) -> str:
    """A figure's SVG for use inside a page: the page's colours, ids of its own, no addresses."""
    root = ElementTree.fromstring(figure.drawing.svg)
    for node in root.iter():
        node.tag = _local(node.tag)
        node.attrib = {
            _local(name): _attribute(_local(name), value, figure.name)
            for name, value in node.attrib.items()
        }
    for name in ("version", "width", "height"):
        root.attrib.pop(name, None)
    root.attrib |= {"role": "img", "aria-label": figure.alt}
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=False)


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _attribute(name: str, value: str, prefix: str) -> str:
    if name == "id":
        return f"{prefix}-{value}"
    if name == "href":
        return value.replace("#", f"#{prefix}-", 1)
    value = value.replace("url(#", f"url(#{prefix}-")
    for colour, variable in _COLOURS.items():
        value = value.replace(colour, variable)
    return value
