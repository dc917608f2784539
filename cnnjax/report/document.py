"""A report as a tree of a few kinds of element, which `html` and `markdown` write out.

Texts are plain: whatever they hold is escaped by the writers.
"""

from dataclasses import dataclass

from cnnjax.report.canvas import Drawing

NOTICE = ("<!-- notice -->", "<!-- end of notice -->")
"""The marks around the notice of a page. No text on a page can contain them: texts are escaped."""


@dataclass(frozen=True)
class Paragraph:
    """A paragraph; `lead` opens it in bold, `link` closes it with the title of a section of the
    page and leads there. kind: plain, note (small) or warning."""

    text: str
    lead: str = ""
    kind: str = "plain"
    link: str = ""


@dataclass(frozen=True)
class Definitions:
    """Terms and what is said about each; line breaks in a text are kept."""

    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Table:
    """A table. The first `labels` columns are text, the others numbers; `strong` rows are
    highlighted."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    labels: int = 1
    strong: tuple[int, ...] = ()


@dataclass(frozen=True)
class Figure:
    """A plot: its file name, drawing, alternative text and caption. `half` ones are shown in pairs,
    `wide` ones take the whole width and scroll if that is too narrow."""

    name: str
    drawing: Drawing
    alt: str
    caption: str
    half: bool = False
    wide: bool = False


@dataclass(frozen=True)
class Code:
    """Lines to be typed or read as they are."""

    text: str


Element = Paragraph | Definitions | Table | Figure | Code


@dataclass(frozen=True)
class Section:
    """A heading with its elements; level 2 is a part of the report, level 3 a part of a part. Of a
    `collapsed` one a page shows the heading, and the elements when that is pressed."""

    title: str
    elements: tuple[Element, ...]
    level: int = 2
    collapsed: bool = False


def anchor(title: str) -> str:
    """The anchor of a section, as GitHub makes it of a heading in Markdown."""
    return title.lower().replace(" ", "-")


@dataclass(frozen=True)
class Document:
    """A whole report. `notice` precedes all sections, between marks (`NOTICE`) by which it can be
    replaced; "" writes the marks alone, None nothing."""

    kicker: str
    title: str
    subtitle: str
    sections: tuple[Section, ...]
    notice: str | None = None

    @property
    def elements(self) -> list[Element]:
        """All elements, in order."""
        return [element for section in self.sections for element in section.elements]

    @property
    def linked(self) -> set[str]:
        """The titles of the sections that links lead to."""
        return {each.link for each in self.elements if isinstance(each, Paragraph) and each.link}

    @property
    def figures(self) -> list[Figure]:
        """All figures, in order."""
        return [each for each in self.elements if isinstance(each, Figure)]
