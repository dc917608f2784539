"""Boxes in tables (CSV) and in the XML of Pascal VOC: from text to objects, and whether they fit.

Coordinates are in pixels from the top left corner of the image and used as they are written.
(Pascal VOC counts pixels from 1, most programs that write its format from 0: they differ by a
pixel.)
"""

import csv
import io
import math
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from cnnjax import files
from cnnjax.data.spec import showable
from cnnjax.errors import UserError

EDGES = ("xmin", "ymin", "xmax", "ymax")
COLUMNS = ("filename", "label", *EDGES)
ROUNDING = 0.5
"""How many pixels a box may extend beyond the image."""


class Object(NamedTuple):
    """An object in an image.

    Attributes:
      label: the name of its class.
      corners: the left, top, right and bottom edge of its box in pixels.
      size: (width, height) of the image as the annotation has them; None if it does not.
      where: the annotation, for messages.
      error: why the annotation cannot be used for any image; None if it can.
    """

    label: str
    corners: tuple[float, float, float, float]
    size: tuple[float, float] | None
    where: str
    error: str | None

    @property
    def area(self) -> float:
        """In pixels."""
        x0, y0, x1, y1 = self.corners
        return (x1 - x0) * (y1 - y0)


class Row(NamedTuple):
    """A line of a table: the name of the image, its split if the table has that column, and an
    object in it."""

    filename: str
    split: str | None
    object: Object


def read_table(path: Path, text: str) -> Iterator[Row]:
    """The lines of a table with COLUMNS and maybe `width`, `height` and `split`; others are
    ignored. Raises UserError for a damaged one."""
    rows = csv.DictReader(io.StringIO(text), strict=True)
    try:
        columns = [column for column in rows.fieldnames or () if column]
        if missing := [column for column in COLUMNS if column not in columns]:
            raise UserError(
                f"{path}: has no column {missing[0]!r}; needs a first line with the columns "
                f"{','.join(COLUMNS)}."
            )
        for row in rows:
            where = f"{path}: line {rows.line_num}"
            values = {column: (row[column] or "").strip() for column in columns}
            if not values["filename"]:
                raise UserError(f"{where} lacks the name of a file.")
            each = _object(where, values["label"], values)
            yield Row(values["filename"], values.get("split"), each)
    except csv.Error as error:
        raise UserError(f"{path}: is no table ({files.reason(error)}).") from None


def read_voc(path: Path, text: str) -> list[Object]:
    """The objects in an annotation of Pascal VOC. Raises UserError for damaged XML and for XML with
    a document type: entities could refer to other files, or expand without end."""
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise UserError(f"{path}: has a document type (DOCTYPE), which annotations do not need.")
    try:
        tree = ET.fromstring(text)  # of text: in the encoding that was checked
    except (ET.ParseError, ValueError) as error:
        raise UserError(f"{path}: is not XML ({files.reason(error)}).") from None
    size = {side: tree.findtext(f"size/{side}", "") for side in ("width", "height")}
    objects = []
    for element in tree.iter("object"):
        label = element.findtext("name", "").strip()
        corners = {edge: element.findtext(f"bndbox/{edge}", "") for edge in EDGES}
        objects.append(_object(str(path), label, size | corners))
    return objects


def problem(each: Object, image: Path, height: int, width: int) -> str | None:
    """Why an object cannot be used for an image of this size, which messages name; None if it
    can."""
    if each.error:
        return each.error
    if each.size not in (None, (width, height)):
        return (
            f"{each.where}: is for an image of {each.size[1]:g}x{each.size[0]:g}, but {image} is "
            f"{height}x{width}."
        )
    x0, y0, x1, y1 = each.corners
    inside = min(x0, y0) >= -ROUNDING and x1 <= width + ROUNDING and y1 <= height + ROUNDING
    if inside and min(x1, width) > max(x0, 0) and min(y1, height) > max(y0, 0):
        return None
    reason = "outside the image" if x1 > x0 and y1 > y0 else "empty"
    box = ", ".join(f"{name} {edge:g}" for name, edge in zip(EDGES, each.corners, strict=True))
    return f"{each.where}: the box ({box}) is {reason}; {image} is {width} wide, {height} high."


def _object(where: str, label: str, values: Mapping[str, str]) -> Object:
    error = None
    if not label or not showable(label):
        error = f"{where}: an object lacks the name of its class."
    x0, y0, x1, y1 = (_number(values[edge]) for edge in EDGES)
    for name, edge in zip(EDGES, (x0, y0, x1, y1), strict=True):
        if not math.isfinite(edge):
            error = error or f"{where}: {name}: {values[name][:100]!r} is not a number."
    width, height = (_number(values.get(side, "")) for side in ("width", "height"))
    size = (width, height) if width > 0 and height > 0 else None
    return Object(label, (x0, y0, x1, y1), size, where, error)


def _number(text: str) -> float:
    """The number that a text is; NaN if it is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan
