"""A picture of a network: its feature maps as slabs, its blocks with their branches, and their
costs."""

import math
from collections.abc import Sequence

from cnnjax.report import svg
from cnnjax.report.canvas import ACCENT, ALARM, GRID, INK, MUTED, PAPER
from cnnjax.report.graph import Row, Unit
from cnnjax.report.svg import Element

WIDTH = 760
_SLAB, _TEXT, _FLOW, _FLOW_END, _BARS = 8, 100, 262, 540, 566
_BAR, _TRACK, _BOX = 86, 21, 15
_LANES, _LANES_END = 546, 560
_FILL = {"convolution": ACCENT, "dense": INK, "pooling": MUTED, "upsampling": PAPER}


def draw(rows: Sequence[Row], image_shape: tuple[int, int, int]) -> str:
    """The network as an SVG document, from the image at the top to the logits at the bottom.

    Args:
      rows: see `cnnjax.report.graph.rows`.
      image_shape: (height, width, channels).
    """
    heights = [max(54, _TRACK * row.tracks + 16) for row in rows]
    root = svg.document(WIDTH, 84 + sum(heights))
    middles = [78 + sum(heights[:i]) + height / 2 for i, height in enumerate(heights)]
    svg.line(root, _FLOW, 52, _FLOW, middles[-1], GRID, 1.5)  # behind everything
    for x, text in ((_BARS, "parameters"), (_BARS + _BAR + 14, "multiply-adds")):
        svg.text(root, x, 14, text, fill=MUTED)
    _slab(root, 52, image_shape, image_shape)
    svg.text(root, _TEXT, 47, "image", weight="600")
    svg.text(root, _TEXT, 61, _shape(image_shape), fill=MUTED)
    most = [max(row.parameters for row in rows), max(row.multiply_adds for row in rows)]
    for row, height, middle in zip(rows, heights, middles, strict=True):
        top = middle - height / 2
        svg.line(root, 0, top, WIDTH, top, GRID)
        _row(root, row, middle, image_shape, most)
    _skips(root, rows, middles)
    return svg.to_string(root)


def _row(
    root: Element,
    row: Row,
    middle: float,
    image_shape: tuple[int, int, int],
    most: Sequence[int],
) -> None:
    _slab(root, middle, row.last.output_shape, image_shape)
    times = f" ({len(row.names)} alike)" if len(row.names) > 1 else ""
    svg.text(root, _TEXT, middle - 9, svg.short(row.title), weight="600")
    svg.text(root, _TEXT, middle + 5, f"{_shape(row.last.output_shape)}{times}", fill=MUTED)
    if row.last.sees:
        sees = "x".join(map(str, sorted(set(row.last.sees), reverse=True)))
        svg.text(root, _TEXT, middle + 19, f"sees {sees} pixels", fill=MUTED)
    _flow(root, row, middle)
    for i, count in enumerate((row.parameters, row.multiply_adds)):
        x = _BARS + i * (_BAR + 14)
        share = count / most[i] if most[i] else 0
        if count:
            bar = {"width": max(1.0, share * _BAR), "height": 7}
            svg.element(root, "rect", x=x, y=middle - 8, **bar, fill=ACCENT, rx=0)
            svg.text(root, x, middle + 13, three_digits(count), fill=MUTED)


def _flow(root: Element, row: Row, middle: float) -> None:
    """The units of a row from left to right, and the lines between them."""
    box = _box(row)
    entry = (float(_FLOW), middle)
    svg.element(root, "circle", cx=entry[0], cy=entry[1], r=2.6, fill=MUTED)
    by_name = {unit.name: unit for unit in row.units}
    around = middle - _TRACK * (row.tracks - 1) / 2 - 15  # a shortcut passes above the others
    for unit in row.units:
        x, y = _centre(row, unit, middle)
        sources = [by_name[name] for name in unit.inputs if name in by_name]
        half = max((_width(source, box) for source in sources), default=0)
        for source in sources:
            start_x, start_y = _centre(row, source, middle)
            _curve(root, start_x + half, start_y, x - _width(unit, box), y)
        if len(sources) + len(row.skips.get(unit.name, ())) < len(unit.inputs):
            if sources and unit.column > 0:
                path = f"M{entry[0]:.1f} {entry[1]:.1f} C{entry[0] + 8:.1f} {around:.1f} "
                path += f"{entry[0] + 14:.1f} {around:.1f} {entry[0] + 30:.1f} {around:.1f} "
                path += f"L{x - 24:.1f} {around:.1f} C{x - 6:.1f} {around:.1f} "
                path += f"{x:.1f} {around + 2:.1f} {x:.1f} {y - 8:.1f}"
                svg.element(root, "path", d=path, fill="none", stroke=ALARM, stroke_width=1.3)
            else:
                _curve(root, *entry, x - _width(unit, box), y)
    for unit in row.units:
        _unit(root, unit, *_centre(row, unit, middle), box)


def _pitch(row: Row) -> float:
    """The distance of the columns of a row."""
    columns = 1 + max(unit.column for unit in row.units)
    return min(70.0, (_FLOW_END - _FLOW - 16) / columns)


def _box(row: Row) -> float:
    """The width of the boxes of a row."""
    return min(52.0, _pitch(row) - 9)


def _centre(row: Row, unit: Unit, middle: float) -> tuple[float, float]:
    x = _FLOW + 18 + _pitch(row) * unit.column + _box(row) / 2
    track = unit.track - (row.tracks - 1) / 2
    return x, middle + (0 if unit is row.last else _TRACK * track)


def _skips(root: Element, rows: Sequence[Row], middles: Sequence[float]) -> None:
    """Lines from a row to a later one, on their right, in a lane for each two rows."""
    pairs = [
        (source, target, unit)
        for target, row in enumerate(rows)
        for unit in row.units
        for source in row.skips.get(unit.name, ())
    ]
    lanes = list(dict.fromkeys((source, target) for source, target, _ in pairs))
    for source, target, unit in pairs:
        row, lane = rows[source], lanes.index((source, target))
        start_x, start_y = _centre(row, row.last, middles[source])
        x, y = _centre(rows[target], unit, middles[target])
        right = _LANES + (_LANES_END - _LANES) * lane / max(1, len(lanes) - 1)
        above = middles[target] - _TRACK * (rows[target].tracks - 1) / 2 - 18
        path = f"M{start_x + _width(row.last, _box(row)):.1f} {start_y:.1f} L{right:.1f} "
        path += f"{start_y:.1f} L{right:.1f} {above:.1f} L{x:.1f} {above:.1f} L{x:.1f} {y - 8:.1f}"
        svg.element(root, "path", d=path, fill="none", stroke=ALARM, stroke_width=1.1)


def _width(unit: Unit, box: float) -> float:
    """Half the width of what is drawn for a unit."""
    return box / 2 if unit.kind in _FILL else 8


def _unit(root: Element, unit: Unit, x: float, y: float, box: float) -> None:
    group = svg.element(root, "g")
    title = svg.element(group, "title")
    title.text = (
        f"{unit.name}: {_shape(unit.output_shape)}, {unit.parameters:,} parameters, "
        f"{unit.multiply_adds:,} multiply-adds"
    )
    if unit.kind in _FILL:
        fill = _FILL[unit.kind]
        style = {"stroke": ACCENT, "stroke_width": 1} if fill == PAPER else {}
        corner = {"x": x - box / 2, "y": y - _BOX / 2}
        svg.element(group, "rect", **corner, width=box, height=_BOX, fill=fill, rx=3, **style)
        size = 9.5 if len(unit.label) * 5.3 < box else 9.5 * box / (len(unit.label) * 5.3)
        ink = ACCENT if fill == PAPER else PAPER
        svg.text(group, x, y + 3.4, unit.label, fill=ink, anchor="middle", size=size)
        return
    svg.element(group, "circle", cx=x, cy=y, r=8, fill=PAPER, stroke=INK, stroke_width=1)
    if unit.kind == "concatenation":
        for offset in (-3.4, 0, 3.4):
            svg.line(group, x - 3.6, y + offset, x + 3.6, y + offset, INK, 1.4)
    else:
        sign = "+" if unit.kind == "sum" else "f"
        svg.text(group, x, y + 3.6, sign, anchor="middle", weight="600")


def _slab(
    root: Element, middle: float, shape: tuple[int, ...], image_shape: tuple[int, int, int]
) -> None:
    """Feature maps: their height is their share of the image's side, their width the logarithm of
    their channels; a vector is a bar."""
    if len(shape) < 3:
        long = 8 + 3.2 * math.log2(1 + shape[-1])
        bar = {"x": _SLAB + 8, "y": middle - long / 2, "width": 5, "height": long}
        svg.element(root, "rect", **bar, fill=INK, rx=1)
        return
    side = 4 + 30 * math.sqrt(shape[0] / image_shape[0])
    wide = 2 + 4.2 * math.log2(1 + shape[2])
    slant = 0.35 * side
    left, top = float(_SLAB), middle - (side - slant) / 2
    right = left + wide
    far_left, far_right, far_top = left + slant, right + slant, top - slant
    style = {"stroke": ACCENT, "stroke_width": 0.9, "stroke_linejoin": "round"}
    faces = (
        ((left, top), (far_left, far_top), (far_right, far_top), (right, top)),
        ((right, top), (far_right, far_top), (far_right, far_top + side), (right, top + side)),
        ((left, top), (right, top), (right, top + side), (left, top + side)),
    )
    for face, opacity in zip(faces, (0.12, 0.34, 0.22), strict=True):
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in face)
        svg.element(root, "polygon", points=points, fill=ACCENT, fill_opacity=opacity, **style)


def _curve(root: Element, x: float, y: float, to_x: float, to_y: float) -> None:
    """A line that is straight except for its last pixels, so that it avoids what is beside it."""
    straight = max(x, to_x - 26)
    bend = (to_x - straight) / 2
    path = f"M{x:.1f} {y:.1f} L{straight:.1f} {y:.1f} C{straight + bend:.1f} {y:.1f} "
    path += f"{to_x - bend:.1f} {to_y:.1f} {to_x:.1f} {to_y:.1f}"
    svg.element(root, "path", d=path, fill="none", stroke=MUTED, stroke_width=1)


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(f"{length:,}" for length in shape)


def three_digits(count: int, units: Sequence[str] = ("G", "M", "k")) -> str:
    """A count in three digits: 1.23 M."""
    for size, unit in zip((1e9, 1e6, 1e3), units, strict=True):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return str(count)
