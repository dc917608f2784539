"""Pictures drawn by hand as SVG: a document and the shapes in it, in the colours of `canvas`."""

import xml.etree.ElementTree as ElementTree

from cnnjax.report.canvas import INK

Element = ElementTree.Element


def document(width: float, height: float) -> Element:
    """An empty picture, in units of about a pixel."""
    return Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "viewBox": f"0 0 {width} {height}",
            "font-family": "sans-serif",
            "font-size": "10.5",
        },
    )


def to_string(root: Element) -> str:
    """The picture as text."""
    return ElementTree.tostring(root, encoding="unicode")


def element(root: Element, tag: str, **attributes: object) -> Element:
    """Adds an element. An underscore in the name of an attribute stands for a hyphen; numbers are
    rounded to a tenth, except opacities."""
    texts = {}
    for name, value in attributes.items():
        rounded = isinstance(value, float) and name != "fill_opacity"
        texts[name.replace("_", "-")] = f"{value:.1f}" if rounded else str(value)
    return ElementTree.SubElement(root, tag, texts)


def line(
    root: Element, x: float, y: float, to_x: float, to_y: float, stroke: str, width: float = 0.7
) -> None:
    """Adds a line."""
    element(root, "line", x1=x, y1=y, x2=to_x, y2=to_y, stroke=stroke, stroke_width=width)


def text(
    root: Element,
    x: float,
    y: float,
    words: str,
    *,
    fill: str = INK,
    anchor: str = "start",
    weight: str = "400",
    size: float = 10.5,
) -> Element:
    """Adds text at (x, y), its baseline."""
    added = element(
        root, "text", x=x, y=y, fill=fill, text_anchor=anchor, font_weight=weight, font_size=size
    )
    added.text = words
    return added


def short(words: str, most: int = 24) -> str:
    """Text of at most so many characters."""
    return words if len(words) <= most else f"{words[: most - 2]}.."
