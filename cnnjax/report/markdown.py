"""A document as Markdown (GitHub's), with its figures as files beside it."""

import re

from cnnjax.report.document import (
    NOTICE,
    Code,
    Definitions,
    Document,
    Element,
    Figure,
    Paragraph,
    Table,
    anchor,
)


def write(document: Document, figures: str = "figures") -> str:
    """The document as Markdown text; figures are linked as `figures/NAME.svg`."""
    parts = [f"*{_escape(document.kicker)}*", f"# {_escape(document.title)}"]
    parts += [_escape(document.subtitle)] if document.subtitle else []
    parts += [] if document.notice is None else [notice(document.notice)]
    for section in document.sections:
        parts.append("#" * section.level + " " + _escape(section.title))
        parts += [_element(element, figures) for element in section.elements]
    return "\n\n".join(part for part in parts if part) + "\n"


def notice(text: str) -> str:
    """A notice between its marks (`NOTICE`); the marks alone for ""."""
    element = [_element(Paragraph(text, kind="warning"), "")] if text else []
    return "\n\n".join([NOTICE[0], *element, NOTICE[1]])


def _element(element: Element, figures: str) -> str:
    match element:
        case Paragraph(text, lead, kind, link):
            opening = f"**{_escape(lead)}** " if lead else ""
            closing = f" [{_escape(link)}](#{anchor(link)})" if link else ""
            return ("> " if kind == "warning" else "") + opening + _escape(text) + closing
        case Definitions(pairs):
            return "\n".join(
                f"- **{_escape(term)}**: {_escape('; '.join(filter(None, text.splitlines())))}"
                for term, text in pairs
            )
        case Table():
            return _table(element)
        case Figure():
            link = f"![{_escape(element.alt)}]({figures}/{element.name}.svg)"
            return f"{link}\n\n*{_escape(element.caption)}*"
        case Code(text):
            return "\n".join("    " + line for line in text.splitlines())


def _table(table: Table) -> str:
    head = "| " + " | ".join(map(_escape, table.head)) + " |"
    columns = len(table.head)
    rule = "|" + "|".join(["---"] * table.labels + ["---:"] * (columns - table.labels)) + "|"
    rows = []
    for index, row in enumerate(table.rows):
        cells = [_escape(cell) for cell in row]
        if index in table.strong:
            cells = [f"**{cell}**" if cell else "" for cell in cells]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join([f"*{_escape(table.caption)}*", "", head, rule, *rows])


def _escape(text: str) -> str:
    """Text that Markdown, and HTML inside Markdown, shows as it is, on one line."""
    text = " ".join(text.splitlines())
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*|\[\]#~$])", r"\\\1", text)
    text = re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", text)
    # An address must not become a link by itself.
    text = re.sub(r"(?i)\b(https?|ftp)(?=://)", r"\1&#8203;", text)
    return re.sub(r"^(\s*)([-+]|\d+[.)])(?=\s)", r"\1\\\2", text)
