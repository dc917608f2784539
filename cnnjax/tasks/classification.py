"""Classification: an image has one label, the outputs are a logit for each class."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from cnnjax import metric
from cnnjax.tasks.task import Arrays, Task


def cross_entropy(
    logits: jax.Array, targets: Arrays, label_smoothing: ArrayLike = 0.0
) -> jax.Array:
    """Cross-entropy of each example, in nats.

    Args:
      logits: [B, num_classes]; also [B, H, W, num_classes], of pixels.
      targets: `label`, int [B], or [B, H, W], in 0..num_classes-1.
      label_smoothing: the share of the target spread evenly over all classes, in [0, 1)
        (Szegedy et al. 2016, section 7).

    Returns:
      float [B], or [B, H, W].
    """
    smoothing, labels = jnp.asarray(label_smoothing), jnp.asarray(targets["label"])
    log_probabilities = jax.nn.log_softmax(logits)
    hit = jnp.take_along_axis(log_probabilities, labels[..., None], axis=-1)[..., 0]
    spread = log_probabilities.mean(axis=-1)
    return -(1.0 - smoothing) * hit - smoothing * spread


def correct(logits: jax.Array, targets: Arrays) -> jax.Array:
    """1.0 where the largest logit is that of the label, else 0.0; 0.0 if a logit is not finite.

    Args:
      logits: [B, num_classes].
      targets: `label`, int [B].
    """
    finite = jnp.isfinite(logits).all(axis=-1)
    return ((logits.argmax(axis=-1) == targets["label"]) & finite).astype(jnp.float32)


def statistics(logits: jax.Array, targets: Arrays) -> dict[str, jax.Array]:
    """Correctness and loss (without smoothing) of each example, [B] each."""
    return {"accuracy": correct(logits, targets), "loss": cross_entropy(logits, targets)}


def constant(targets: Arrays) -> Mapping[str, float]:
    """The best metrics of a prediction that is the same for all examples: the accuracy of the most
    frequent class, and the loss in nats of predicting the shares of the classes, their entropy."""
    counts = np.bincount(targets["label"])
    shares = counts[counts > 0] / counts.sum()
    return {"accuracy": float(shares.max()), "loss": float(np.sum(shares * np.log(1 / shares)))}


def mistakes(predictions: Arrays, targets: Arrays) -> np.ndarray:
    """The probability of the predicted class where it is not the label, else 0: float [N].

    Args:
      predictions: `logits`, [N, num_classes].
      targets: `label`, int [N].
    """
    logits = np.asarray(predictions["logits"], np.float64)
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    wrong = logits.argmax(axis=-1) != targets["label"]
    return np.where(wrong, exponentials.max(axis=-1) / exponentials.sum(axis=-1), 0.0)


TASK = Task(
    metrics=metric.CLASSIFICATION,
    num_outputs=lambda spec: spec.num_classes,
    loss=cross_entropy,
    statistics=statistics,
    constant=constant,
    predictions=lambda logits: {"logits": logits},
    mistakes=mistakes,
)
