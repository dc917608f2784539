"""What is to be predicted of an image, by name. No jax.

label   int32 [N], the class of the image, in [0, number of classes)
mask    uint8 [N, H, W], the class of each pixel, or IGNORE where it is not known
box     float32 [N, 4], (cx, cy, w, h) of the object as shares of the image's width and height
        (`cnnjax.data.boxes`); w = h = 0 if no object is visible
"""

from collections.abc import Callable, Collection, Mapping

import numpy as np

from cnnjax.data import boxes
from cnnjax.errors import UserError

IGNORE = 255
"""In a mask: the class is not known. Such pixels count neither in losses nor in metrics."""
TOLERANCE = 1e-5
"""How far rounding may move the edge of a box beyond the image, as a share of its side."""


def verify(
    targets: Mapping[str, np.ndarray],
    where: Callable[[int], str],
    num_classes: int,
    num_mask_classes: int,
) -> Mapping[str, np.ndarray]:
    """Returns `targets`, [N, ...] each.

    Args:
      targets: by name.
      where: (index) -> how a message calls an example: `data.name: 'pets': example 3 of split
        'train'`.
      num_classes: labels lie in [0, num_classes).
      num_mask_classes: pixels of masks lie in [0, num_mask_classes) or are IGNORE.

    Raises UserError, naming the first example, for values outside the classes or a box outside the
    image.
    """
    if "label" in targets:
        labels = targets["label"]
        unknown = (labels < 0) | (labels >= num_classes)
        if unknown.any():
            index = int(np.argmax(unknown))
            raise UserError(
                f"{where(index)} has the label {labels[index]}; allowed: 0 to {num_classes - 1}."
            )
    if "mask" in targets:
        for index, mask in enumerate(targets["mask"]):  # one by one: there may be many
            outside = mask[(mask >= num_mask_classes) & (mask != IGNORE)]
            if outside.size:
                raise UserError(
                    f"{where(index)} has the class {outside[0]} in its mask; allowed: 0 to "
                    f"{num_mask_classes - 1}, and {IGNORE} for a pixel whose class is not known."
                )
    if "box" in targets:
        values = targets["box"]
        edges = np.stack(boxes.to_corners(values), axis=-1)
        inside = ((edges >= -TOLERANCE) & (edges <= 1 + TOLERANCE)).all(-1)
        wrong = ~(inside & (values[:, 2:] >= 0).all(-1))  # NaN is wrong too
        if wrong.any():
            index = int(np.argmax(wrong))
            raise UserError(
                f"{where(index)} has the box (cx, cy, w, h) = "
                f"({', '.join(f'{value:.4g}' for value in values[index])}); allowed: boxes inside "
                "the image, in shares of its width and height."
            )
    return targets


def class_of_value(values: Collection[int]) -> np.ndarray:
    """The class of each value of a mask, int16 [256]: the place of the value in `values`, IGNORE of
    255, and -1 of all others."""
    classes = np.full(IGNORE + 1, -1, np.int16)
    classes[list(values)] = np.arange(len(values))
    classes[IGNORE] = IGNORE
    return classes


def count_pixels(masks: np.ndarray, num_mask_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Of the masks, uint8 [N, H, W]: the pixels of each class, and the pixels of all masks in which
    the class occurs, int64 [K] each. Pixels that are IGNORE count in neither. (Their quotient is
    the frequency of which Eigen and Fergus 2015, section 6.3.1, take the median.)"""
    pixels = np.zeros(num_mask_classes, np.int64)
    present = np.zeros(num_mask_classes, np.int64)
    for mask in masks:
        counts = np.bincount(mask.ravel(), minlength=IGNORE + 1)[:num_mask_classes]
        pixels += counts
        present += np.where(counts > 0, counts.sum(), 0)
    return pixels, present
