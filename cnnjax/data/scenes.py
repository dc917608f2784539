"""Scenes of digits, for localization and segmentation without a download: `digit_boxes` has one
digit in each image and its box, `digit_masks` several and the class of each pixel.

The digits are the real ones of `digits` (UCI), enlarged and placed at random on a black square,
among pieces of other digits, which belong to no class and touch no digit. A scene is a function of
(seed, split, index): a larger set begins with the scenes of a smaller one. Training, validation and
test scenes show different digits.
"""

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from cnnjax import cache
from cnnjax.config import Scenes
from cnnjax.data import boxes, content, keys
from cnnjax.data.records import ArrayRecords, stack_examples
from cnnjax.data.spec import SPLITS, Source

VALIDATION_DIGITS = 200
INK = 64
"""From this value on, of 255, a pixel belongs to its digit."""
TRIES = 40
"""How often a place is drawn for a digit or a piece, before it is left out."""
_VERSION = 2

Digits = Mapping[str, tuple[np.ndarray, np.ndarray]]
"""{split: (images uint8 [N, 8, 8], labels int32 [N])}."""


def source(name: str, config: Scenes, digits: Source) -> Source:
    """The data set `digit_boxes` or `digit_masks`, made once and cached.

    Images are uint8 [canvas_size, canvas_size, 1]. There are `config.examples` training scenes and
    a quarter as many for validation and for test. The targets of `digit_boxes` are `label` and
    `box`, around the pixels of the digit; that of `digit_masks` is `mask`, whose classes are
    `background` and the ten digits.

    Args:
      name: of the data set.
      config: the fields of the scenes.
      digits: the data set `digits`.
    """
    key = cache.digest([name, _VERSION, config.model_dump(), digits.content])

    def write(folder: Path) -> None:
        for split, (images, labels) in _divided(digits).items():
            count = config.examples if split == "train" else config.examples // 4
            arrays = _scenes(name, config, split, count, images, labels)
            np.savez(folder / f"{split}.npz", **arrays)  # type: ignore[arg-type]

    folder = cache.folder(f"scenes/{key}", write)
    splits = {}
    arrays: list[np.ndarray] = []
    for split in SPLITS:
        with np.load(folder / f"{split}.npz", allow_pickle=False) as stored:
            targets = dict(stored)
        arrays += targets.values()
        splits[split] = ArrayRecords(targets.pop("images"), targets)
    return Source(
        name,
        key,
        digits.class_names,
        1,
        (config.canvas_size, config.canvas_size),
        splits,
        content.of_arrays(*arrays),
        targets=tuple(targets),
        mask_names=("background", *digits.class_names) if "mask" in targets else (),
    )


def _divided(digits: Source) -> Digits:
    """The digits of each split."""
    parts = {}
    for split, records in digits.splits.items():
        images, targets = stack_examples(records.read(range(len(records))))
        parts[split] = images[..., 0], targets["label"]
    images, labels = parts["train"]
    order = keys.permutation(len(images), "scenes", "validation")
    held, rest = np.sort(order[:VALIDATION_DIGITS]), np.sort(order[VALIDATION_DIGITS:])
    return {
        "train": (images[rest], labels[rest]),
        "validation": (images[held], labels[held]),
        "test": parts["test"],
    }


def _scenes(
    name: str, config: Scenes, split: str, count: int, images: np.ndarray, labels: np.ndarray
) -> dict[str, np.ndarray]:
    size = config.canvas_size
    canvases = np.zeros((count, size, size, 1), np.uint8)
    masks = np.zeros((count, size, size), np.uint8)
    classes, corners = np.zeros(count, np.int32), np.zeros((count, 4), np.float32)
    for index in range(count):
        draws = _draws("scenes", config.seed, split, index)
        canvas, mask = canvases[index, :, :, 0], masks[index]
        wanted = 1 if name == "digit_boxes" else 1 + _integer(draws, config.digits)
        for _ in range(wanted):
            chosen = _integer(draws, len(images))
            digit = _enlarge(images[chosen], _between(draws, config.smallest, config.largest))
            place = _place(mask, digit >= INK, config.overlap, draws)
            if place is None:
                continue
            np.maximum(canvas[place], digit, out=canvas[place])
            mask[place][digit >= INK] = 1 + labels[chosen]
            rows, columns = (np.flatnonzero((digit >= INK).any(axis)) for axis in (1, 0))
            top, left = place[0].start + rows[0], place[1].start + columns[0]
            bottom, right = place[0].start + rows[-1] + 1, place[1].start + columns[-1] + 1
            classes[index] = labels[chosen]
            corners[index] = np.array([left, top, right, bottom]) / size
        for _ in range(config.clutter):
            row, column = _integer(draws, 5), _integer(draws, 5)
            piece = images[_integer(draws, len(images))][row : row + 4, column : column + 4]
            piece = _enlarge(piece, _between(draws, config.smallest, config.largest))
            place = _place(mask, np.ones(piece.shape, bool), 0.0, draws)
            if place is not None:
                np.maximum(canvas[place], piece, out=canvas[place])
    if name == "digit_masks":
        return {"images": canvases, "mask": masks}
    box = boxes.from_corners(*corners.T).astype(np.float32)
    return {"images": canvases, "label": classes, "box": box}


def _draws(*name: str | int) -> Iterator[float]:
    """An endless sequence of random numbers in [0, 1) that is a function of its name."""
    for chunk in itertools.count():
        yield from keys.uniform(256, *name, chunk).tolist()


def _integer(draws: Iterator[float], count: int) -> int:
    """The next integer, in 0..count - 1."""
    return int(next(draws) * count)


def _between(draws: Iterator[float], low: float, high: float) -> float:
    """The next number, in [low, high)."""
    return low + (high - low) * next(draws)


def _enlarge(image: np.ndarray, zoom: float) -> np.ndarray:
    """An image uint8 [h, w] enlarged bilinearly (half-pixel centres, edges repeated)."""
    rows, columns = (_interpolation(side, max(1, round(side * zoom))) for side in image.shape)
    return np.rint(rows @ image.astype(np.float64) @ columns.T).astype(np.uint8)


def _interpolation(old: int, new: int) -> np.ndarray:
    """The matrix [new, old] that interpolates linearly."""
    centres = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    return np.maximum(0, 1 - np.abs(centres[:, None] - np.arange(old)))


def _place(
    mask: np.ndarray, ink: np.ndarray, overlap: float, draws: Iterator[float]
) -> tuple[slice, slice] | None:
    """A place where a digit covers at most the share `overlap` of the ink of another, and of its
    own; None if none is found."""
    total = np.bincount(mask.ravel(), minlength=11)
    height, width = ink.shape
    for _ in range(TRIES):
        top = _integer(draws, mask.shape[0] - height + 1)
        left = _integer(draws, mask.shape[1] - width + 1)
        place = slice(top, top + height), slice(left, left + width)
        covered = np.bincount(mask[place][ink], minlength=11)[1:]
        smaller = np.minimum(np.maximum(total[1:], 1), ink.sum())
        if (covered <= overlap * smaller).all():
            return place
    return None
