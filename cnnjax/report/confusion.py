"""Which classes an arm takes for which: confusion matrices from predictions_<split>.npz."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cnnjax.ablation import arrays
from cnnjax.data.targets import IGNORE
from cnnjax.errors import UserError
from cnnjax.report import canvas, svg

MOST_CLASSES = 20
"""Up to so many classes a matrix is drawn."""
_CELLS, _LARGEST = 380.0, 34.0


def of_labels(path: Path) -> np.ndarray:
    """The confusion matrix of labels and the largest logits: int64 [K, K], truth by prediction.
    Examples with logits that are not finite are left out.

    Raises UserError if the file is absent, damaged or holds other arrays.
    """
    loaded = arrays.read(path, ("label", "labels", "logits"))  # `labels`: older versions
    labels, logits = loaded.get("label", loaded.get("labels")), loaded.get("logits")
    if (
        labels is None
        or logits is None
        or labels.dtype.kind not in "iu"
        or logits.dtype.kind != "f"
        or logits.ndim != 2
        or labels.shape != logits.shape[:1]
        or not logits.size
        or not ((labels >= 0) & (labels < logits.shape[1])).all()
    ):
        raise UserError(f"{path}: cannot be read (no labels with their logits).")
    finite = np.isfinite(logits).all(axis=1)
    return _count(labels[finite], logits[finite].argmax(axis=1), logits.shape[1])


def of_masks(path: Path) -> np.ndarray:
    """The confusion matrix of the pixels whose class is known: int64 [256, 256], truth by
    prediction.

    Raises UserError if the file is absent, damaged or holds other arrays.
    """
    loaded = arrays.read(path, ("mask", "predicted_mask"))
    truth, predicted = loaded.get("mask"), loaded.get("predicted_mask")
    if (
        truth is None
        or predicted is None
        or truth.shape != predicted.shape
        or truth.ndim != 3
        or truth.dtype != np.uint8
        or predicted.dtype != np.uint8
    ):
        raise UserError(f"{path}: cannot be read (no masks with their predictions).")
    total = np.zeros((256, 256), np.int64)
    for mask, guess in zip(truth, predicted, strict=True):  # one by one: there may be many
        known = mask != IGNORE
        total += _count(mask[known], guess[known], 256)
    return total


def _count(truth: np.ndarray, predicted: np.ndarray, size: int) -> np.ndarray:
    pairs = truth.astype(np.int64) * size + predicted
    return np.bincount(pairs, minlength=size * size).reshape(size, size)


def most_confused(matrix: np.ndarray, most: int) -> list[tuple[int, int]]:
    """The pairs (true class, predicted class) that are confused most often, at most `most`; of
    equally frequent ones the first classes."""
    wrong = matrix - np.diag(np.diag(matrix))
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    pairs = [divmod(int(index), len(matrix)) for index in order]
    return [pair for pair in pairs if wrong[pair]]


def draw(matrix: np.ndarray, names: Sequence[str]) -> str:
    """A confusion matrix as an SVG document: rows are true classes, columns predicted ones, and the
    numbers are percent of the row.

    Args:
      matrix: int [K, K].
      names: of the classes, K.
    """
    size = len(matrix)
    cell = min(_LARGEST, _CELLS / size)
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    words = [svg.short(name, 15) for name in names]
    margin = max(76.0, 14 + 6.2 * max(map(len, words)))  # left of the matrix and above it
    root = svg.document(round(margin + size * cell + 4), round(margin + size * cell + 4))
    for height, name in ((22, "true \u2193"), (8, "predicted \u2192")):
        svg.text(root, margin - 8, margin - height, name, fill=canvas.MUTED, anchor="end")
    for number, name in enumerate(words):
        middle = margin + (number + 0.5) * cell + 3.5
        svg.text(root, margin - 6, middle, name, anchor="end")
        turned = svg.text(root, middle, margin - 6, name)
        turned.set("transform", f"rotate(-90 {middle:.1f} {margin - 6:.1f})")
    grid = svg.element(root, "g", text_anchor="middle", font_size=9.5, fill=canvas.INK)
    for row, column in np.argwhere(matrix).tolist():
        share = float(shares[row, column])
        opacity = 0.06 + 0.94 * share**0.5  # so that rare mistakes show, too
        x, y = margin + column * cell, margin + row * cell
        fill = canvas.ACCENT if row == column else canvas.ALARM
        place = {"x": x + 0.5, "y": y + 0.5, "width": cell - 1, "height": cell - 1}
        svg.element(grid, "rect", **place, fill=fill, fill_opacity=round(opacity, 2))
        if share >= 0.005:
            color = {"fill": canvas.PAPER} if opacity > 0.6 else {}
            place = {"x": x + cell / 2, "y": y + cell / 2 + 3.5}
            svg.element(grid, "text", **place, **color).text = f"{100 * share:.0f}"
    frame = {"x": margin, "y": margin, "width": size * cell, "height": size * cell}
    svg.element(root, "rect", **frame, fill="none", stroke=canvas.GRID, stroke_width=1)
    return svg.to_string(root)
