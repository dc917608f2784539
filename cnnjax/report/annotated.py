"""An image with what a network says about it: a mask or a box over it, and a legend below."""

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cnnjax.data.records import Box
from cnnjax.report import canvas, palette

_SMALLEST = 320
"""The longer side of a picture, in pixels, up to which the image is enlarged."""


def draw(
    image: np.ndarray,
    legend: Sequence[tuple[str | None, str]],
    *,
    mask: np.ndarray | None = None,
    box: Box | None = None,
) -> Image.Image:
    """A picture of an image, whose pixels are enlarged, without smoothing, if they are few.

    Args:
      image: uint8 [H, W, 3].
      legend: the lines below it, each the colour (`#rrggbb`) of a patch, or None, and a text.
      mask: uint8 [H, W], drawn over the image in the colours of `palette`.
      box: (left, top, right, bottom) in pixels of the image.
    """
    factor = max(1, round(_SMALLEST / max(image.shape[:2])))
    shown = image if mask is None else palette.overlay(image, mask)
    shown = shown.repeat(factor, axis=0).repeat(factor, axis=1)
    height, width = shown.shape[:2]
    size = max(13, max(height, width) // 28)
    line, margin = round(1.6 * size), size // 2
    total = max(width, 14 * size), height + len(legend) * line + 2 * margin
    picture = Image.new("RGB", total, canvas.PAPER)
    picture.paste(Image.fromarray(shown), (0, 0))
    pen = ImageDraw.Draw(picture)
    if box is not None and box[2] > box[0] and box[3] > box[1]:
        thick = max(2, max(height, width) // 160)
        frame = [edge * factor for edge in box]
        outer = [frame[0] - thick, frame[1] - thick, frame[2] + thick, frame[3] + thick]
        pen.rectangle(outer, outline="#000000", width=3 * thick)
        pen.rectangle(frame, outline=palette.PREDICTED_BOX, width=thick)
        pen.rectangle((0, height, *total), fill=canvas.PAPER)  # the edge may reach over the image
        pen.rectangle((width, 0, *total), fill=canvas.PAPER)
    font = _font(size)
    for number, (color, text) in enumerate(legend):
        x, y = margin, height + margin + number * line
        if color is not None:
            patch = (x, y + size // 6, x + size, y + size // 6 + size)
            pen.rectangle(patch, fill=color, outline=canvas.MUTED)
            x += round(1.5 * size)
        pen.text((x, y), _fitting(text, total[0] - x - margin, font), fill=canvas.INK, font=font)
    return picture


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib and has more scripts than Pillow's own."""
    import matplotlib

    path = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    return ImageFont.truetype(path, size)


def _fitting(text: str, width: float, font: ImageFont.FreeTypeFont) -> str:
    """The text, shortened to the width in pixels."""
    shown = text
    while shown and font.getlength(shown) > width:
        shown = shown[:-4] + "..." if len(shown) > 4 else ""
    return shown
