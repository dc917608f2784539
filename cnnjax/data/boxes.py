"""Boxes of one object in an image: (cx, cy, w, h) as shares of the image's width and height.

The centre, the width and the height lie in [0, 1]. A box with w = h = 0 says that no object is
visible. All functions take numpy and jax arrays and return arrays of the same kind.
"""

from typing import Any

import numpy as np

Array = Any
"""An array of numpy or jax."""


def from_corners(x0: Array, y0: Array, x1: Array, y1: Array) -> Array:
    """The box (cx, cy, w, h), [..., 4], whose left, top, right and bottom edges are given, [...]
    each."""
    xp = _namespace(x0)
    return xp.stack([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0], axis=-1)


def to_corners(box: Array) -> tuple[Array, Array, Array, Array]:
    """The left, top, right and bottom edges, [...] each, of boxes (cx, cy, w, h), [..., 4]."""
    cx, cy, w, h = (box[..., index] for index in range(4))
    return cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2


def area(box: Array) -> Array:
    """The area, [...], of boxes (cx, cy, w, h), [..., 4], as a share of the image's."""
    return box[..., 2] * box[..., 3]


def clip(box: Array) -> Array:
    """The parts of boxes, [..., 4], that lie in the image; 0 in all four numbers where there is
    none."""
    xp = _namespace(box)
    clipped = from_corners(*(xp.clip(edge, 0, 1) for edge in to_corners(box)))
    visible = (clipped[..., 2] > 0) & (clipped[..., 3] > 0)
    return xp.where(visible[..., None], clipped, 0)


def crop(box: Array, corner: Array, size: Array) -> Array:
    """Boxes, [..., 4], as seen in a part of the image, clipped to it as by `clip`.

    Args:
      box: (cx, cy, w, h) as shares of the whole image.
      corner: (x, y) of the top left corner of the part, [2], in the same shares; it may lie outside
        the image.
      size: (width, height) of the part, [2].
    """
    xp = _namespace(box)
    return clip(xp.concat([(box[..., :2] - corner) / size, box[..., 2:] / size], axis=-1))


def _namespace(array: Array) -> Any:
    """numpy or jax.numpy, whichever the array is of; numpy for a number."""
    return array.__array_namespace__() if hasattr(array, "__array_namespace__") else np
