"""The best, median and worst examples of a run beside truth, from its examples_<split>.npz.

For classification the image with its class and the one predicted, for segmentation the masks over
the image, for localization the boxes; for a task of the user's own the image alone.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cnnjax.ablation import arrays
from cnnjax.data import boxes
from cnnjax.data.targets import IGNORE
from cnnjax.errors import UserError
from cnnjax.metric import Metric
from cnnjax.report import canvas, formatting, palette, svg

WIDTH = 704
_SIDE, _GAP, _LINE = 104, 14, 12
_LEFT = 62  # names of the rows of a segmentation
_SMALL, _THUMB = 64, 160  # pixels: up to here images are kept as they are; larger ones are shrunk
_MOST, _MOST_PIXELS = 64, 2**24
_KINDS = {
    "best": "Best",
    "median": "Median",
    "worst": "Worst",
    "mistake": "Most confident mistakes",
}


@dataclass(frozen=True)
class Examples:
    """Examples of one run.

    Attributes:
      kinds: `best`, `median`, `worst` or `mistake`, of each.
      images: uint8 [n, H, W, C].
      targets, predictions: arrays [n, ...] by name.
      metrics: float [n] by the name of a metric.
      class_names, mask_names: those of labels and of pixels.
    """

    kinds: tuple[str, ...]
    images: np.ndarray
    targets: Mapping[str, np.ndarray]
    predictions: Mapping[str, np.ndarray]
    metrics: Mapping[str, np.ndarray]
    class_names: tuple[str, ...]
    mask_names: tuple[str, ...]


def read(path: Path, task: str) -> Examples:
    """The examples in a file. Raises UserError, naming it, if it is absent or damaged, or lacks
    what is drawn for the task."""
    loaded = arrays.read(path)
    try:
        return _checked(loaded, task)
    except (KeyError, ValueError) as error:
        reason = f"{error.args[0]} is missing" if isinstance(error, KeyError) else error
        raise UserError(f"{path}: cannot be read ({reason}).") from None


def _checked(loaded: Mapping[str, np.ndarray], task: str) -> Examples:
    images, kinds = loaded["images"], loaded["kind"]
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3):
        raise ValueError("images are not uint8 [n, H, W, 1 or 3]")
    count, height, width = images.shape[:3]
    if not 1 <= count <= _MOST or not 1 <= height * width <= _MOST_PIXELS:
        raise ValueError(f"{count} images of {height} x {width} pixels")
    if kinds.shape != (count,) or not set(kinds.tolist()) <= _KINDS.keys():
        raise ValueError("kind does not fit the images")
    names = {}
    for name in ("class_names", "mask_names"):
        if loaded[name].dtype.kind != "U" or loaded[name].ndim != 1:
            raise ValueError(f"{name} are not texts")
        names[name] = tuple(loaded[name].tolist())
    groups: dict[str, dict[str, np.ndarray]] = {"target": {}, "prediction": {}, "metric": {}}
    for key, values in loaded.items():
        group, dot, name = key.partition(".")
        if dot and group in groups:
            if values.dtype.kind not in "biuf" or values.shape[:1] != (count,):
                raise ValueError(f"{key} does not fit the images")
            groups[group][name] = values
    if not groups["metric"] or any(values.ndim != 1 for values in groups["metric"].values()):
        raise ValueError("no metrics with a value for each image")
    sizes = {"H": height, "W": width, "K": None}
    for key, (dtypes, shape) in _DRAWN.get(task, {}).items():
        values, expected = loaded[key], (count, *(sizes.get(str(n), n) for n in shape))
        fits = values.ndim == len(expected) and all(
            size in (own, None) for own, size in zip(values.shape, expected, strict=True)
        )
        if values.dtype.kind not in dtypes or not fits or not values.size:
            raise ValueError(f"{key} is {values.dtype} {list(values.shape)}")
        if key.endswith("box") and not np.isfinite(values).all():
            raise ValueError(f"{key} is not finite")
    return Examples(
        tuple(kinds.tolist()), images, groups["target"], groups["prediction"], groups["metric"],
        **names,
    )  # fmt: skip


_CLASS = {"target.label": ("iu", ()), "prediction.logits": ("f", ("K",))}
_DRAWN: Mapping[str, Mapping[str, tuple[str, tuple[Any, ...]]]] = {
    "classification": _CLASS,
    "segmentation": {
        "target.mask": ("u", ("H", "W")),
        "prediction.predicted_mask": ("u", ("H", "W")),
    },
    "localization": {
        **_CLASS,
        "target.box": ("f", (4,)),
        "prediction.predicted_box": ("f", (4,)),
    },
}
"""What is drawn for a task: {array: (kinds of its dtype, shape without the first axis)}, where K
is any number."""


def draw(examples: Examples, task: str, metrics: Sequence[Metric]) -> str:
    """The examples as an SVG document.

    Args:
      examples: the examples.
      task: the name of the task, which decides what is drawn.
      metrics: those of the task.
    """
    ranked = [i for i, kind in enumerate(examples.kinds) if kind != "mistake"]
    mistakes = [i for i, kind in enumerate(examples.kinds) if kind == "mistake"]
    rows = [row for row in (ranked, mistakes) if row]
    masks = task == "segmentation"
    left, panels = (_LEFT, 3) if masks else (0, 1)
    columns = max(map(len, rows))
    side = min(_SIDE, (WIDTH - left - (columns - 1) * _GAP) / columns)
    texts = [_lines(examples, i, task, metrics) for i in range(len(examples.kinds))]
    high = side * min(1.0, examples.images.shape[1] / examples.images.shape[2])
    row_height = 20 + panels * (high + 6) + max(map(len, texts)) * _LINE + 14
    used = _classes(examples) if masks else []
    names = [_name(examples.mask_names, number) for number in used]
    legend, legend_height = _legend_positions(names)
    below = len(rows) * row_height
    total = below + {"segmentation": legend_height, "localization": 20}.get(task, 0)
    root = svg.document(WIDTH, round(total))
    for index, row in enumerate(rows):
        top = index * row_height
        for column, i in enumerate(row):
            x = left + column * (side + _GAP)
            if column == 0 or examples.kinds[row[column - 1]] != examples.kinds[i]:
                svg.text(root, x, top + 12.0, _KINDS[examples.kinds[i]], weight="600")
            _example(root, examples, i, task, (x, top + 20.0), (side, high))
            bottom = top + 20 + panels * (high + 6) + 8
            for number, words in enumerate(texts[i]):
                _label(root, x, bottom + number * _LINE, words, side)
        if masks:
            for number, name in enumerate(("image", "truth", "prediction")):
                y = top + 20 + number * (high + 6) + high / 2 + 3
                svg.text(root, 0, y, name, fill=canvas.MUTED)
    for (x, y), number, name in zip(legend, used, names, strict=True):
        style = {"fill": palette.color(number), "stroke": canvas.MUTED, "stroke_width": 0.8}
        svg.element(root, "rect", x=x, y=below + y, width=11, height=11, **style)
        svg.text(root, x + 16.0, below + y + 9.5, svg.short(name))
    if task == "localization":
        for x, (name, (stroke, dashes)) in zip((2.0, 110.0), _BOXES.items(), strict=True):
            _box(root, (x, below + 2.0, 22, 10), stroke, dashes)
            svg.text(root, x + 28.0, below + 11.0, name)
    return svg.to_string(root)


def _lines(examples: Examples, i: int, task: str, metrics: Sequence[Metric]) -> list[str]:
    """What is written below an example."""
    measured = [metric for metric in metrics if metric.name in examples.metrics]
    values = {metric: float(examples.metrics[metric.name][i]) for metric in measured}
    if "logits" not in examples.predictions or task not in _DRAWN:
        first = next(iter(values), None)
        return [] if first is None else [first.title, _value(first, values[first])]
    logits = examples.predictions["logits"][i].astype(np.float64)
    number = int(np.argmax(logits))
    with np.errstate(invalid="ignore", over="ignore"):
        probability = float(1 / np.exp(logits - logits[number]).sum())
    sure = f"{probability:.0%}" if np.isfinite(probability) else formatting.NONE
    lines = [
        f"true: {_name(examples.class_names, int(examples.targets['label'][i]))}",
        f"predicted: {_name(examples.class_names, number)}",
        f"with {sure}",
    ]
    if task == "localization":
        visible = (examples.targets["box"][i][2:] > 0).all()
        iou = next((value for each, value in values.items() if each.name == "mean_iou"), None)
        lines[2] += f", IoU {iou:.2f}" if visible and iou is not None else ", no object"
    return lines


def _value(metric: Metric, value: float) -> str:
    return formatting.value_with_unit(metric, value) if np.isfinite(value) else formatting.NONE


def _name(names: Sequence[str], number: int) -> str:
    if number == IGNORE and number >= len(names):
        return "not known"
    return names[number] if 0 <= number < len(names) else str(number)


def _label(root: svg.Element, x: float, y: float, words: str, side: float) -> None:
    """A line below an example, shortened to its width; its tooltip is the whole."""
    shown = svg.short(words, int(side / 5.4))
    added = svg.text(root, x, y, shown, fill=canvas.MUTED, size=9.5)
    if shown != words:
        svg.element(added, "title").text = words


def _example(
    root: svg.Element,
    examples: Examples,
    i: int,
    task: str,
    corner: tuple[float, float],
    size: tuple[float, float],
) -> None:
    """An example with its top left corner at `corner` in a frame of `size`, (width, height)."""
    height, width = examples.images.shape[1:3]
    scale = min(size[0] / width, size[1] / height)
    x, y, wide, high = corner[0], corner[1], width * scale, height * scale
    place = {"width": wide, "height": high}
    link = _picture(examples.images[i])
    style = _PIXELS if max(height, width) <= _SMALL else {}
    name = f"image{i}"
    svg.element(root, "image", id=name, x=x, y=y, href=link, **place, **style)
    if task == "segmentation":
        masks = examples.targets["mask"][i], examples.predictions["predicted_mask"][i]
        for number, mask in enumerate(masks, 1):
            offset = number * (high + 6)
            svg.element(root, "use", href=f"#{name}", y=offset)
            svg.element(root, "image", x=x, y=y + offset, href=_mask(mask), **place, **_PIXELS)
    if task == "localization":
        pair = examples.targets["box"][i], examples.predictions["predicted_box"][i]
        for box, (stroke, dashes) in zip(pair, _BOXES.values(), strict=True):
            corners = boxes.to_corners(boxes.clip(box.astype(np.float64)))
            x0, y0, x1, y1 = (float(edge) for edge in corners)
            if x1 > x0 and y1 > y0:
                frame = x + x0 * wide, y + y0 * high, (x1 - x0) * wide, (y1 - y0) * high
                _box(root, frame, stroke, dashes)


_PIXELS = {"style": "image-rendering:pixelated"}
_BOXES = {"true box": (palette.TRUE_BOX, ""), "predicted box": (palette.PREDICTED_BOX, "4 2.5")}
"""The colours and the dashes of boxes."""


def _box(
    root: svg.Element, frame: tuple[float, float, float, float], stroke: str, dashes: str
) -> None:
    """A box (left, top, width, height), light on a dark edge, so that it shows on any image."""
    x, y, wide, high = frame
    place: dict[str, Any] = {"x": x, "y": y, "width": wide, "height": high, "fill": "none"}
    svg.element(root, "rect", **place, stroke="#000000", stroke_width=3.2)
    dashed = {"stroke_dasharray": dashes} if dashes else {}
    svg.element(root, "rect", **place, stroke=stroke, stroke_width=1.6, **dashed)


def _classes(examples: Examples) -> list[int]:
    """The values in the masks, in ascending order."""
    masks = examples.targets["mask"], examples.predictions["predicted_mask"]
    return sorted({int(value) for mask in masks for value in np.unique(mask)})


def _legend_positions(names: Sequence[str]) -> tuple[list[tuple[float, float]], float]:
    """The places of the names of a legend, in lines, and the height of all."""
    places, x, y = [], 0.0, 2.0
    for name in names:
        wide = 16 + 6.2 * min(len(name), 24) + 18
        if x and x + wide > WIDTH:
            x, y = 0.0, y + 18
        places.append((x, y))
        x += wide
    return places, y + 18


def _picture(image: np.ndarray) -> str:
    """An image, uint8 [H, W, C], as the address of a picture: PNG if it is small, else a JPEG of at
    most _THUMB pixels a side."""
    picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    if max(picture.size) <= _SMALL:
        return _address(picture, "png", optimize=True)
    picture.thumbnail((_THUMB, _THUMB), Image.Resampling.LANCZOS)
    return _address(picture, "jpeg", quality=85)


def _mask(mask: np.ndarray) -> str:
    """A mask, [H, W], as the address of a picture that lets the image below shine through."""
    picture = Image.fromarray(mask.astype(np.uint8))
    if max(picture.size) > _THUMB:
        picture.thumbnail((_THUMB, _THUMB), Image.Resampling.NEAREST)
    picture.putpalette(palette.table().tobytes())
    opacity = bytes([round(255 * palette.OPACITY)] * 256)
    return _address(picture, "png", optimize=True, transparency=opacity)


def _address(picture: Image.Image, form: str, **options: Any) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return f"data:image/{form};base64,{base64.b64encode(buffer.getvalue()).decode()}"
