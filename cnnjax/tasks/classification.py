"""Classification: loss and figures per example, so that sums over any split are exact."""

import jax
import jax.numpy as jnp
import optax


def cross_entropy(
    logits: jax.Array, labels: jax.Array, label_smoothing: jax.Array | float = 0.0
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
    log_probabilities = jax.nn.log_softmax(logits)
    hit = jnp.take_along_axis(log_probabilities, labels[:, None], axis=-1)[:, 0]
    spread = log_probabilities.mean(axis=-1)
    return -(1.0 - label_smoothing) * hit - label_smoothing * spread


def correct(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """1.0 where the largest logit is the label's, else 0.0; logits that are not finite are wrong.

    Args:
      logits: [B, classes].
      labels: int [B].
    """
    finite = jnp.isfinite(logits).all(axis=-1)
    return ((logits.argmax(axis=-1) == labels) & finite).astype(jnp.float32)


def per_example(logits: jax.Array, labels: jax.Array) -> dict[str, jax.Array]:
    """Loss (without smoothing) and correctness of each example, [B] each."""
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    return {"loss": loss, "correct": correct(logits, labels)}
