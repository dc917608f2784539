"""The colours of classes, in the masks of a report and of `launch.predict`.

Any two of the eleven colours differ by at least 12 (CIEDE2000) for readers with normal colour
vision, protanopia and deuteranopia (Machado et al. 2009), and by at least 9 for those with
tritanopia; each stands out from the light and from the dark page by a contrast of at least 1.3, and
patches in a legend have an outline. They were chosen by search from the palettes of Okabe and Ito,
Paul Tol and Glasbey. Classes beyond the eleventh have them again, darker, then lighter.
"""

import numpy as np
from PIL import ImageColor

from cnnjax.data.targets import IGNORE

COLORS = (
    "#332288", "#f0e442", "#d60000", "#9ee2ff", "#aaaa00", "#afa5ff",
    "#79525e", "#b500ff", "#ffaabb", "#c86e66", "#a877ac",
)  # fmt: skip
"""The dark one is first: the first class is often the background."""
IGNORED = "#8f8f8f"
"""The colour of pixels whose class is not known."""
TRUE_BOX, PREDICTED_BOX = "#9ee2ff", "#f0e442"
OPACITY = 0.6
"""Of a mask over its image."""


def color(number: int) -> str:
    """The colour of a value of a mask, a class or IGNORE: `#rrggbb`."""
    if number == IGNORE:
        return IGNORED
    turn, index = divmod(number, len(COLORS))
    target = 0 if turn % 2 else 255
    share = 0.0 if turn == 0 else 0.45
    rgb = ImageColor.getrgb(COLORS[index])
    mixed = (round((1 - share) * value + share * target) for value in rgb)
    return "#" + "".join(f"{value:02x}" for value in mixed)


def table() -> np.ndarray:
    """The colour of each value of a mask, uint8 [256, 3]."""
    return np.array([ImageColor.getrgb(color(number)) for number in range(256)], np.uint8)


def overlay(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """An image with a mask over it.

    Args:
      image: uint8 [H, W, C], of one or three channels.
      mask: uint8 [H, W].

    Returns:
      uint8 [H, W, 3].
    """
    mixed = (1 - OPACITY) * image.astype(np.float32) + OPACITY * table()[mask].astype(np.float32)
    return np.round(mixed).astype(np.uint8)
