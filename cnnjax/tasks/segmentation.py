"""Segmentation: each pixel has a class, the outputs are a logit for each pixel and class.

Pixels whose class is `IGNORE` count in no loss and in no metric.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.typing import ArrayLike

from cnnjax import metric
from cnnjax.data.targets import IGNORE
from cnnjax.tasks import classification
from cnnjax.tasks.task import Arrays, Task

if TYPE_CHECKING:
    from cnnjax.config import ResolvedConfig
    from cnnjax.data import DatasetSpec


def cross_entropy(
    logits: jax.Array,
    targets: Arrays,
    label_smoothing: ArrayLike = 0.0,
    class_weights: ArrayLike | Sequence[float] | None = None,
) -> jax.Array:
    """Mean cross-entropy of the pixels of each image, in nats.

    Args:
      logits: [B, H, W, K].
      targets: `mask`, uint8 [B, H, W].
      label_smoothing: the share of the target spread evenly over all classes, in [0, 1).
      class_weights: the factor of the pixels of each class, [K]. The sum is divided by the number
        of pixels, as in Caffe, not by the sum of their weights, as in PyTorch.

    Returns:
      float [B]; 0 for an image without a known pixel.
    """
    known, classes = _known(targets["mask"])
    losses = classification.cross_entropy(logits, {"label": classes}, label_smoothing)
    weights = known.astype(losses.dtype)
    if class_weights is not None:
        weights *= jnp.asarray(class_weights, losses.dtype)[classes]
    return _ratio((losses * weights).sum((1, 2)), known.sum((1, 2)))


def dice(logits: jax.Array, targets: Arrays) -> jax.Array:
    """The Dice loss of each image: 1 minus the mean over the classes in its truth of
    2 sum(p y) / (sum(p) + sum(y)), where p are probabilities (Milletari et al. 2016, section 3,
    without squares).

    Args:
      logits: [B, H, W, K].
      targets: `mask`, uint8 [B, H, W].

    Returns:
      float [B], in [0, 1]; 0 for an image without a known pixel.
    """
    known, classes = _known(targets["mask"])
    truth = jax.nn.one_hot(classes, logits.shape[-1], dtype=logits.dtype) * known[..., None]
    probabilities = jax.nn.softmax(logits) * known[..., None]
    overlap = (truth * probabilities).sum((1, 2))
    size, predicted = truth.sum((1, 2)), probabilities.sum((1, 2))
    present = size > 0
    coefficients = jnp.where(present, _ratio(2 * overlap, size + predicted), 0.0)
    return jnp.where(present.any(-1), 1 - _ratio(coefficients.sum(-1), present.sum(-1)), 0.0)


def predicted_mask(logits: jax.Array) -> jax.Array:
    """The class with the largest logit of each pixel: [B, H, W, K] -> uint8 [B, H, W]."""
    return logits.argmax(axis=-1).astype(jnp.uint8)


def confusion(logits: jax.Array, targets: Arrays) -> jax.Array:
    """The confusion matrix of each image.

    Args:
      logits: [B, H, W, K]. A pixel with a logit that is not finite is wrong.
      targets: `mask`, uint8 [B, H, W].

    Returns:
      int32 [B, K, K]: the numbers of known pixels by class in the truth and class predicted.
    """
    num_classes = logits.shape[-1]
    known, classes = _known(targets["mask"])
    predicted = logits.argmax(axis=-1)
    wrong = (classes + 1) % num_classes
    predicted = jnp.where(jnp.isfinite(logits).all(axis=-1), predicted, wrong)
    truth = jax.nn.one_hot(classes, num_classes) * known[..., None]
    # Sums of ones are exact in float32 up to 2^24 pixels.
    counts = jnp.einsum(
        "bhwk,bhwl->bkl", truth, jax.nn.one_hot(predicted, num_classes), precision="highest"
    )
    return counts.astype(jnp.int32)


def image_iou(confusions: jax.Array) -> jax.Array:
    """The mean IoU of each image over the classes in its truth or its prediction.

    Args:
      confusions: int [B, K, K], as `confusion` gives them.

    Returns:
      float32 [B]; 1 for an image without a known pixel.
    """
    matrix = confusions.astype(jnp.float32)
    hits = jnp.diagonal(matrix, axis1=1, axis2=2)
    union = matrix.sum(1) + matrix.sum(2) - hits
    present = union > 0
    ious = jnp.where(present, _ratio(hits, union), 0.0)
    return jnp.where(present.any(-1), _ratio(ious.sum(-1), present.sum(-1)), 1.0)


def boundary_f1(
    predicted: jax.Array, mask: jax.Array, num_classes: int, tolerance: int
) -> jax.Array:
    """Boundary F1 of each image, the mean over the classes in its truth (Csurka et al. 2013,
    section 3.2).

    The boundary of a class are its pixels with a neighbour, above, below, left or right, of another
    class. Precision is the share of the predicted boundary within `tolerance` of the true one,
    recall the other way round. Deviation: distances are the larger of those in rows and in columns,
    not Euclidean.

    Args:
      predicted: the predicted classes, uint8 [B, H, W].
      mask: the true ones. A pixel of `IGNORE` is on no boundary, and makes none.
      num_classes: K.
      tolerance: in pixels.

    Returns:
      float32 [B]; a class that covers the whole image in truth counts 1 if it does so in the
      prediction, else 0. 1 for an image without a known pixel.
    """
    truth = _boundaries(mask, num_classes)
    guess = _boundaries(jnp.where(mask == IGNORE, IGNORE, predicted), num_classes)
    window = 2 * tolerance + 1
    near = functools.partial(nn.max_pool, window_shape=(window, window), padding="SAME")
    hits, found = (guess * near(truth)).sum((1, 2)), (truth * near(guess)).sum((1, 2))
    guessed, true = guess.sum((1, 2)), truth.sum((1, 2))
    precision, recall = _ratio(hits, guessed), _ratio(found, true)
    score = _ratio(2 * precision * recall, precision + recall)
    score = jnp.where((guessed == 0) & (true == 0), 1.0, score)
    classes = jax.nn.one_hot(mask, num_classes)  # zeros for IGNORE
    present = classes.any((1, 2))
    mean = _ratio((score * present).sum(-1), present.sum(-1))
    return jnp.where(present.any(-1), mean, 1.0)


def stride_pattern(logits: jax.Array) -> jax.Array:
    """What alternates from pixel to pixel in the probabilities of each image.

    A transposed convolution of stride 2 computes even and odd rows and columns with different
    weights and, unless its kernel is a multiple of the stride, from different numbers of values
    (Odena et al. 2016). The probabilities are multiplied by (-1)^row, (-1)^column and
    (-1)^(row + column) and averaged over the image: fine detail at other places in each image
    cancels in the mean over images, what is locked to the stride stays.

    Args:
      logits: [B, H, W, K]; a last row and column without a pair are left out.

    Returns:
      float32 [B, 4, K]: the three averages, and the variance of the probabilities over the pixels.
    """
    height, width = (size // 2 * 2 for size in logits.shape[1:3])
    probabilities = jax.nn.softmax(logits.astype(jnp.float32))[:, :height, :width]
    row, column = (-1.0) ** jnp.arange(height)[:, None, None], (-1.0) ** jnp.arange(width)[:, None]
    averages = [(probabilities * sign).mean((1, 2)) for sign in (row, column, row * column)]
    return jnp.stack([*averages, probabilities.var((1, 2))], axis=1)


def checkerboard(patterns: np.ndarray) -> float:
    """The amplitude of the pattern that all images have in common, in standard deviations of the
    probabilities over the pixels of an image.

    Args:
      patterns: float [N, 4, K], as `stride_pattern` gives them.

    Returns:
      The root of the sum of the squared averages over the sum of the variances, in [0, 1]; 0 where
      the probabilities are the same at all pixels, NaN where one is not finite.
    """
    *averages, variances = patterns.mean(axis=0, dtype=np.float64)
    energy, total = np.sum(np.square(averages)), variances.sum()
    return float(np.sqrt(energy / total)) if total != 0 else 0.0


def statistics(logits: jax.Array, targets: Arrays, boundary_pixels: int) -> dict[str, jax.Array]:
    """The confusion matrix of each image, [B, K, K], its `stride_pattern`, and its metrics, [B]
    each."""
    confusions = confusion(logits, targets)
    num_classes = logits.shape[-1]
    return {
        "confusion": confusions,
        "image_iou": image_iou(confusions),
        "boundary_f1": boundary_f1(
            predicted_mask(logits), jnp.asarray(targets["mask"]), num_classes, boundary_pixels
        ),
        "stride_pattern": stride_pattern(logits),
        "loss": cross_entropy(logits, targets),
    }


def figures(values: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The metrics that are functions of sums over a split."""
    return {
        **accuracies(values["confusion"]),
        "checkerboard": checkerboard(values["stride_pattern"]),
    }


def accuracies(confusions: np.ndarray) -> dict[str, float]:
    """The metrics of the sum of confusion matrices, [N, K, K]: the share of pixels that are right,
    its mean over the classes in the truth, and the mean IoU over the classes in the truth or the
    prediction."""
    matrix = confusions.sum(axis=0, dtype=np.int64)
    hits, true, predicted = np.diagonal(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    union = true + predicted - hits
    return {
        "pixel_accuracy": float(hits.sum() / max(1, matrix.sum())),
        "class_accuracy": float(np.mean(hits[true > 0] / true[true > 0])) if true.any() else 0.0,
        "miou": float(np.mean(hits[union > 0] / union[union > 0])) if union.any() else 0.0,
    }


def constant(targets: Arrays) -> Mapping[str, float]:
    """The metrics if every pixel is given the most frequent class. Boundary F1 is then 0, and the
    checkerboard counts as 1, so that no run gains by diverging. The loss, in nats, is that
    of predicting the shares of the classes, their entropy."""
    mask = np.asarray(targets["mask"])
    known = mask != IGNORE
    counts = np.bincount(mask[known], minlength=1)
    total = max(1, int(counts.sum()))
    shares, best = counts[counts > 0] / total, int(counts.argmax())
    ious = []
    for image, valid in zip(mask, known, strict=True):
        classes = set(np.unique(image[valid]).tolist())
        hits = np.count_nonzero(image[valid] == best)
        ious.append(hits / valid.sum() / len(classes | {best}) if classes else 1.0)
    return {
        "miou": float(shares.max(initial=0.0) / max(1, len(shares))),
        "pixel_accuracy": float(shares.max(initial=0.0)),
        "class_accuracy": 1 / max(1, len(shares)),
        "image_iou": float(np.mean(ious)),
        "boundary_f1": 0.0,
        "checkerboard": 1.0,
        "loss": float(np.sum(shares * np.log(1 / shares))),
    }


def median_frequency(pixels: Sequence[int], present: Sequence[int]) -> tuple[float, ...]:
    """The weight of each class: the median of the classes' frequencies over its own (Eigen and
    Fergus 2015, section 6.3.2).

    Args:
      pixels: the number of pixels of each class in the training images.
      present: the number of pixels of the images in which the class occurs. Their quotient is the
        frequency; a class without pixels has the weight 1.
    """
    frequencies = [n / total if n else None for n, total in zip(pixels, present, strict=True)]
    median = float(np.median([f for f in frequencies if f is not None] or [1.0]))
    return tuple(1.0 if f is None else median / f for f in frequencies)


def configured(config: "ResolvedConfig", spec: "DatasetSpec") -> Task:
    """The task with the class weights, the Dice loss and the tolerance of a configuration."""
    weights = None
    if config.loss.class_weights == "median_frequency":
        weights = median_frequency(spec.mask_pixels, spec.mask_present)
    dice_weight = config.loss.dice_weight

    def loss(logits: jax.Array, targets: Arrays, label_smoothing: Any) -> jax.Array:
        value = cross_entropy(logits, targets, label_smoothing, weights)
        return value + dice_weight * dice(logits, targets) if dice_weight else value

    return dataclasses.replace(
        TASK,
        loss=loss,
        statistics=functools.partial(statistics, boundary_pixels=config.evaluation.boundary_pixels),
    )


def _known(mask: Any) -> tuple[jax.Array, jax.Array]:
    """Whether the class of each pixel is known, bool [B, H, W], and the class, int32, 0 where it is
    not."""
    mask = jnp.asarray(mask)
    known = mask != IGNORE
    return known, jnp.where(known, mask, 0).astype(jnp.int32)


def _boundaries(mask: jax.Array, num_classes: int) -> jax.Array:
    """1.0 at the boundary of each class: [B, H, W] -> [B, H, W, K]."""
    padded = jnp.pad(mask, ((0, 0), (1, 1), (1, 1)), constant_values=IGNORE)
    rows, columns = padded[:, :, 1:-1], padded[:, 1:-1]
    edge = jnp.zeros(mask.shape, bool)
    for other in (rows[:, :-2], rows[:, 2:], columns[:, :, :-2], columns[:, :, 2:]):
        edge |= (other != mask) & (other != IGNORE)
    # one_hot is zero at pixels of IGNORE, which no class has as its number.
    return jax.nn.one_hot(mask, num_classes) * edge[..., None]


def _ratio(numerator: jax.Array, denominator: jax.Array) -> jax.Array:
    """The quotient; 0 where the denominator is 0."""
    positive = denominator > 0
    return jnp.where(positive, numerator, 0.0) / jnp.where(positive, denominator, 1)


TASK = Task(
    metrics=metric.SEGMENTATION,
    num_outputs=lambda spec: len(spec.mask_names),
    loss=cross_entropy,
    statistics=functools.partial(statistics, boundary_pixels=1),
    constant=constant,
    predictions=lambda logits: {"predicted_mask": predicted_mask(logits)},
    figures=figures,
    reads=("mask",),
    per_pixel=True,
    logged=("image_iou",),
    configured=configured,
)
