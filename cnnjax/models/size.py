"""The smallest images of an architecture."""

from collections.abc import Sequence

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


def require_windows(
    model: str, image_shape: tuple[int, int, int], windows: Sequence[Window]
) -> None:
    """Raises UserError if the windows of successive layers do not fit into the image."""
    smallest = next(size for size in range(1, 4097) if _fits(size, windows))
    require_size(model, image_shape, smallest)


def _fits(length: int, windows: Sequence[Window]) -> bool:
    for window in windows:
        length = window.output_size(length)
    return length > 0
