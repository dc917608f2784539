"""Classification: loss and figures per example, so that sums over any split are exact."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike


def cross_entropy(
    logits: jax.Array, labels: ArrayLike, label_smoothing: ArrayLike = 0.0
) -> jax.Array:
    """Cross-entropy of each example, in nats.

    Args:
      logits: [B, classes].
      labels: int [B], in 0..classes-1.
      label_smoothing: the share of the target spread evenly over all classes, in [0, 1)
        (Szegedy et al. 2016, section 7).

    Returns:
      float [B].
    """
    smoothing = jnp.asarray(label_smoothing)
    log_probabilities = jax.nn.log_softmax(logits)
    hit = jnp.take_along_axis(log_probabilities, jnp.asarray(labels)[:, None], axis=-1)[:, 0]
    spread = log_probabilities.mean(axis=-1)
    return -(1.0 - smoothing) * hit - smoothing * spread


def correct(logits: jax.Array, labels: ArrayLike) -> jax.Array:
    """1.0 where the largest logit is the label's, else 0.0; logits that are not finite are wrong.

    Args:
      logits: [B, classes].
      labels: int [B].
    """
    finite = jnp.isfinite(logits).all(axis=-1)
    return ((logits.argmax(axis=-1) == labels) & finite).astype(jnp.float32)


def per_example(logits: jax.Array, labels: ArrayLike) -> dict[str, jax.Array]:
    """Loss (without smoothing) and correctness of each example, [B] each."""
    loss = cross_entropy(logits, labels)
    return {"loss": loss, "correct": correct(logits, labels)}
