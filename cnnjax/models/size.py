"""What all architectures do with the size of their images."""

import jax.numpy as jnp
from jax import Array

from cnnjax.errors import UserError


def require_size(model: str, image_shape: tuple[int, int, int], smallest: int) -> None:
    """Raises UserError if the height or the width [pixels] is below `smallest`."""
    height, width, _ = image_shape
    if min(height, width) < smallest:
        raise UserError(
            f"data.image_size: {height}x{width} is too small for model.name={model}; "
            f"the smallest size that works is {smallest}"
        )


def pad_to(x: Array, size: int) -> Array:
    """[B, H, W, C] with zeros around it, centred, up to `size` pixels; larger ones stay."""
    around = [(0, 0)]
    for length in x.shape[1:3]:
        missing = max(0, size - length)
        around.append((missing // 2, missing - missing // 2))
    return jnp.pad(x, [*around, (0, 0)])
