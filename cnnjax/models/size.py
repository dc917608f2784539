"""What all architectures do with the size of their images."""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array

from cnnjax.errors import UserError
from cnnjax.nn.pooling import Window


def require_size(model: str, image_shape: tuple[int, int, int], smallest: int) -> None:
    """Raises UserError if the height or the width [pixels] is below `smallest`."""
    height, width, _ = image_shape
    if min(height, width) < smallest:
        raise UserError(
            f"data.image_size: {height}x{width} is too small for model.name={model}; "
            f"the smallest size that works is {smallest}"
        )


def require_places(model: str, image_shape: tuple[int, int, int], layers: Sequence[Window]) -> None:
    """Raises UserError if one of the layers, one after another, has no place for its window."""
    smallest = next(size for size in range(1, 4097) if _fits(size, layers))
    require_size(model, image_shape, smallest)


def _fits(length: int, layers: Sequence[Window]) -> bool:
    for window in layers:
        length = window.places(length)
    return length > 0


def pad_to(x: Array, size: int) -> Array:
    """[B, H, W, C] with zeros around it, centred, up to `size` pixels; larger ones stay."""
    around = [(0, 0)]
    for length in x.shape[1:3]:
        missing = max(0, size - length)
        around.append((missing // 2, missing - missing // 2))
    return jnp.pad(x, [*around, (0, 0)])
