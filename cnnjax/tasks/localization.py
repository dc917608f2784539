"""Localization: an image has a label and the box of one object. The network has two heads: a logit
for each class, and the box.

A box is (cx, cy, w, h), its centre, width and height as shares of the image's width and height. The
outputs `box` are its logits: the box itself is their sigmoid.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from cnnjax import metric
from cnnjax.data import boxes
from cnnjax.tasks import classification
from cnnjax.tasks.task import Arrays, Task

if TYPE_CHECKING:
    from cnnjax.config import ResolvedConfig
    from cnnjax.data import DatasetSpec

BETA = 0.1
"""Where smooth L1 turns from quadratic to linear, as a share of the image."""


def predicted_box(outputs: Arrays) -> jax.Array:
    """The predicted box of each image, float [B, 4] in [0, 1]."""
    return jax.nn.sigmoid(outputs["box"])


def iou(first: jax.Array, second: jax.Array) -> jax.Array:
    """The intersection over union of boxes, [..., 4] each -> [...]; 0 for two empty boxes."""
    intersection, union, _ = _areas(first, second)
    return intersection / jnp.maximum(union, 1e-12)


def giou(first: jax.Array, second: jax.Array) -> jax.Array:
    """The generalized IoU of boxes, [..., 4] each -> [...], in (-1, 1]: IoU minus the share of the
    smallest box around both that neither covers (Rezatofighi et al. 2019, algorithm 1)."""
    intersection, union, hull = _areas(first, second)
    covered = union / jnp.maximum(hull, 1e-12)
    return intersection / jnp.maximum(union, 1e-12) - (1 - covered)


def smooth_l1(first: jax.Array, second: jax.Array) -> jax.Array:
    """The sum over the four coordinates of the smooth L1 distance (Girshick 2015, equation 3), with
    the quadratic part up to `BETA` rather than 1: [..., 4] each -> [...]."""
    distance = jnp.abs(first - second)
    near = 0.5 * distance**2 / BETA
    return jnp.where(distance < BETA, near, distance - 0.5 * BETA).sum(axis=-1)


BOX_LOSSES: Mapping[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "smooth_l1": smooth_l1,
    "iou": lambda first, second: 1 - iou(first, second),
    "giou": lambda first, second: 1 - giou(first, second),
}
"""{level of `loss.box`: (boxes [B, 4], boxes [B, 4]) -> [B]}"""


def loss(
    outputs: Arrays,
    targets: Arrays,
    label_smoothing: ArrayLike = 0.0,
    *,
    box: str = "smooth_l1",
    box_weight: float = 1.0,
) -> jax.Array:
    """Cross-entropy of the class plus the weighted loss of the box.

    Args:
      outputs: `label`, logits [B, num_classes]; `box`, [B, 4].
      targets: `label`, int [B]; `box`, float [B, 4]. Where its width or height is 0 no object is
        visible, and the loss of the box is left out.
      label_smoothing: see `cnnjax.tasks.classification.cross_entropy`.
      box: one of BOX_LOSSES.
      box_weight: the weight of the loss of the box.

    Returns:
      float [B].
    """
    truth = jnp.asarray(targets["box"])
    distances = BOX_LOSSES[box](predicted_box(outputs), truth)
    visible = (truth[..., 2] > 0) & (truth[..., 3] > 0)
    entropy = classification.cross_entropy(outputs["label"], targets, label_smoothing)
    return entropy + box_weight * jnp.where(visible, distances, 0.0)


def statistics(outputs: Arrays, targets: Arrays, **fields: Any) -> dict[str, jax.Array]:
    """Of each image, [B] each: whether the class is right, the IoU of the box, whether the class is
    right and the IoU at least 0.5, and the loss without smoothing; `fields`: see `loss`."""
    right = classification.correct(outputs["label"], targets)
    overlap = iou(predicted_box(outputs), jnp.asarray(targets["box"]))
    overlap = jnp.where(jnp.isfinite(overlap), overlap, 0.0)
    return {
        "accuracy": right,
        "mean_iou": overlap,
        "accuracy_at_iou50": right * (overlap >= 0.5),
        "loss": loss(outputs, targets, **fields),
    }


def constant(targets: Arrays, **fields: Any) -> Mapping[str, float]:
    """The metrics of the most frequent class and the median of each coordinate of the boxes, for
    all images."""
    labels, truth = np.asarray(targets["label"]), jnp.asarray(targets["box"])
    counts = np.bincount(labels)
    median = jnp.median(truth, axis=0)
    overlap = np.asarray(iou(jnp.broadcast_to(median, truth.shape), truth))
    logits = jnp.log(jnp.maximum(counts / counts.sum(), 1e-12))
    inside = jnp.clip(median, 1e-6, 1 - 1e-6)
    outputs = {
        "label": jnp.broadcast_to(logits, (len(labels), len(counts))),
        "box": jnp.broadcast_to(jnp.log(inside / (1 - inside)), truth.shape),
    }
    hits = [np.mean((labels == number) & (overlap >= 0.5)) for number in range(len(counts))]
    return {
        "accuracy": float(counts.max() / counts.sum()),
        "mean_iou": float(overlap.mean()),
        "accuracy_at_iou50": float(max(hits)),
        "loss": float(loss(outputs, targets, **fields).mean()),
    }


def configured(config: "ResolvedConfig", spec: "DatasetSpec") -> Task:
    """The task with the loss of a configuration."""
    fields: Mapping[str, Any] = {"box": config.loss.box, "box_weight": config.loss.box_weight}
    return dataclasses.replace(
        TASK,
        loss=functools.partial(loss, **fields),
        statistics=functools.partial(statistics, **fields),
        constant=functools.partial(constant, **fields),
    )


def _areas(first: jax.Array, second: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The areas of the intersection, of the union and of the smallest box around both."""
    ax0, ay0, ax1, ay1 = boxes.to_corners(first)
    bx0, by0, bx1, by1 = boxes.to_corners(second)
    width = jnp.minimum(ax1, bx1) - jnp.maximum(ax0, bx0)
    height = jnp.minimum(ay1, by1) - jnp.maximum(ay0, by0)
    intersection = jnp.maximum(width, 0) * jnp.maximum(height, 0)
    union = first[..., 2] * first[..., 3] + second[..., 2] * second[..., 3] - intersection
    hull_width = jnp.maximum(ax1, bx1) - jnp.minimum(ax0, bx0)
    hull_height = jnp.maximum(ay1, by1) - jnp.minimum(ay0, by0)
    return intersection, union, hull_width * hull_height


TASK = Task(
    metrics=metric.LOCALIZATION,
    num_outputs=lambda spec: {"label": spec.num_classes, "box": 4},
    loss=loss,
    statistics=statistics,
    constant=constant,
    predictions=lambda outputs: {
        "logits": outputs["label"],
        "predicted_box": predicted_box(outputs),
    },
    mistakes=classification.mistakes,
    reads=("label", "box"),
    configured=configured,
)
