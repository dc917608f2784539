"""From a batch on the device to the inputs of the network: pure functions of arrays."""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

Store = Mapping[str, jax.Array]
Batch = Mapping[str, jax.Array | np.ndarray]
"""Arrays [B, ...] by name, given to a compiled step: see `cnnjax.data.stream.HostBatch`."""


def gather(store: Store, batch: Batch) -> dict[str, jax.Array | np.ndarray]:
    """The images and targets of a batch, in memory or streamed.

    Args:
      store: {"images": uint8 [N, H, W, C]} and the targets ([N, ...]) on the device, or {} when
        streaming.
      batch: {"indices": int32 [B]}, or {"images": uint8 [B, H, W, C]} and the targets ([B, ...]).

    Returns:
      {"images": uint8 [B, H, W, C]} and the targets ([B, ...]).
    """
    if "indices" not in batch:
        return dict(batch)
    indices = batch["indices"]
    return {
        name: values.at[indices].get(mode="promise_in_bounds") for name, values in store.items()
    }


def to_float(images: jax.Array | np.ndarray) -> jax.Array:
    """uint8 [B, H, W, C] in 0..255 to float32 in 0..1."""
    return jnp.asarray(images, jnp.float32) / 255


def normalizer(
    kind: str, mean: Sequence[float], sd: Sequence[float], channel_order: str = "rgb"
) -> Callable[[jax.Array], jax.Array]:
    """A function that normalizes images, float32 [B, H, W, C] in 0..1.

    Args:
      kind: `centered`: x - 0.5, that is value / 255 - 0.5; `standardize`, `given`: (x - mean) / sd
        for each channel (a constant channel is only centred); `none`: x, in 0..1.
      mean, sd: of each channel in the 0..1 scale.
      channel_order: `bgr` reverses the channels at the end.
    """
    standardize = (mean, [value if value > 0 else 1.0 for value in sd])
    shift, scale = {
        "centered": ([0.5], [1.0]),
        "standardize": standardize,
        "given": standardize,
        "none": ([0.0], [1.0]),
    }[kind]

    def normalize(images: jax.Array) -> jax.Array:
        images = (images - jnp.asarray(shift, jnp.float32)) / jnp.asarray(scale, jnp.float32)
        return images[..., ::-1] if channel_order == "bgr" else images

    return normalize
