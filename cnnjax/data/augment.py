"""Random augmentation of training images and their targets, on the device.

A geometric step draws its parameters once per example and then applies them to the image, its mask
and its box; a photometric step changes the image alone. The warp is bilinear; flips and shifts move
whole pixels; a random-resized crop is two small matrix products, much faster than a general warp.
Masks take the nearest pixel, and IGNORE where that lies outside the image, so that no class appears
that was not there. A box becomes the smallest upright one around the moved box, as far as it is
visible. Zoom, rotation and colour are
drawn and computed as in augmax 0.4.1, which earlier versions used. Each alone is equal to it bit
for bit on a CPU; a warp and colour of three channels together differ by about 1e-6, because the
compiler fuses the two differently.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates

from cnnjax.config import Augmentation
from cnnjax.data import boxes, color
from cnnjax.data.targets import IGNORE

Shape = tuple[int, int, int]
Targets = Mapping[str, jax.Array]
Augment = Callable[[jax.Array, jax.Array, Targets], tuple[jax.Array, Targets]]
Photometric = Callable[[jax.Array, jax.Array], jax.Array]


class Geometric(NamedTuple):
    """An augmentation that moves pixels.

    Attributes:
      draw: (key) -> parameters.
      image: (parameters, image [H, W, C]) -> image.
      mask: (parameters, mask [H, W]) -> mask.
      box: (parameters, box (cx, cy, w, h)) -> box, which may extend beyond the image.
    """

    draw: Callable[[jax.Array], Any]
    image: Callable[[Any, jax.Array], jax.Array]
    mask: Callable[[Any, jax.Array], jax.Array]
    box: Callable[[Any, jax.Array], jax.Array]


def build(config: Augmentation, image_shape: Shape, mean: Sequence[float] | None = None) -> Augment:
    """A function (keys [B], images float32 [B, H, W, C] in 0..1, targets {name: [B, ...]}) ->
    (images, targets) of the same shapes and ranges. The targets `mask` and `box`
    (`cnnjax.data.targets`) are moved with the image; others are unchanged.

    Every example has its own key, so the result depends neither on how a batch is sharded nor on
    the other examples. Only steps that are on are compiled; if all are off, images are returned
    unchanged. The order is: random-resized crop, zoom and rotation (one warp), flip, shift, colour,
    cutout. Pixels from outside the image are black (0).

    Args:
      config: strengths; see `cnnjax.config.Augmentation`. `color` 1 is 0.4 for brightness, contrast
        and saturation and 0.1 for hue; grey images have brightness and contrast only.
      image_shape: (H, W, C).
      mean: of each channel in 0..1, the fill of `cutout`; None for the mean of the image.
    """
    geometric, photometric = _geometric(config, image_shape), _photometric(config, mean)
    if not geometric and not photometric:
        return lambda keys, images, targets: (images, targets)

    def augment_example(
        key: jax.Array, image: jax.Array, targets: Targets
    ) -> tuple[jax.Array, Targets]:
        moved = dict(targets)
        for number, step in geometric.items():
            parameters = step.draw(jax.random.fold_in(key, number))
            image = step.image(parameters, image)
            if "mask" in moved:
                moved["mask"] = step.mask(parameters, moved["mask"])
            if "box" in moved:
                moved["box"] = boxes.clip(step.box(parameters, moved["box"]))
        for number, change in photometric.items():
            image = change(jax.random.fold_in(key, number), image)
        return jnp.clip(image, 0, 1), moved

    def augment(keys: jax.Array, images: jax.Array, targets: Targets) -> tuple[jax.Array, Targets]:
        movable = {name: targets[name] for name in ("mask", "box") if name in targets}
        images, moved = jax.vmap(augment_example)(keys, images, movable)
        return images, {**targets, **moved}

    return augment


# The steps that are on, by fixed numbers: switching one on or off leaves the random choices of the
# others unchanged.


def _geometric(config: Augmentation, shape: Shape) -> dict[int, Geometric]:
    size = np.array(shape[1::-1], np.float32)  # (width, height)
    steps = {}
    if config.random_resized_crop < 1:
        crop = functools.partial(_draw_crop, config.random_resized_crop, shape)
        steps[0] = Geometric(crop, _crop, _crop_mask, functools.partial(_crop_box, size))
    if config.scale > 0 or config.rotation_degrees > 0:
        warp = functools.partial(_draw_warp, config.scale, config.rotation_degrees)
        steps[1] = Geometric(warp, _warp, _warp_mask, functools.partial(_warp_box, size))
    if config.flip > 0:
        flip = functools.partial(jax.random.bernoulli, p=config.flip)
        steps[2] = Geometric(flip, _flip, _flip, _flip_box)
    if pixels := config.shift_pixels:
        steps[3] = Geometric(
            functools.partial(jax.random.randint, shape=(2,), minval=0, maxval=2 * pixels + 1),
            functools.partial(_shift, pixels, 0),
            functools.partial(_shift, pixels, IGNORE),
            functools.partial(_shift_box, pixels, size),
        )
    return steps


def _photometric(config: Augmentation, mean: Sequence[float] | None) -> dict[int, Photometric]:
    steps: dict[int, Photometric] = {}
    if config.color > 0:
        steps[4] = functools.partial(color.jitter, config.color)
    if config.cutout_pixels > 0:
        steps[5] = functools.partial(_cutout, config.cutout_pixels, mean)
    return steps


def _draw_crop(smallest: float, shape: Shape, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A random crop: its height and width as shares of the image's, and its corner in pixels, [2]
    each. Area uniform in [smallest, 1], aspect ratio log-uniform in [3/4, 4/3], each share at
    most 1 (Szegedy et al. 2015, section 6)."""
    size_key, corner_key = jax.random.split(key)
    area, ratio = jax.random.uniform(
        size_key, (2,), minval=jnp.array([smallest, -1.0]), maxval=jnp.array([1.0, 1.0])
    )
    root = jnp.exp(0.5 * jnp.log(4 / 3) * ratio)
    share = jnp.minimum(jnp.sqrt(area) * jnp.stack([1 / root, root]), 1.0)
    full = jnp.array(shape[:2], jnp.float32)
    return share, jax.random.uniform(corner_key, (2,)) * (1 - share) * full


def _crop(crop: tuple[jax.Array, jax.Array], image: jax.Array) -> jax.Array:
    """The crop that `_draw_crop` gives, resized to the size of the image."""
    share, corner = crop
    return jax.image.scale_and_translate(
        image, image.shape, (0, 1), 1 / share, -corner / share, "linear", antialias=False
    )


def _crop_mask(crop: tuple[jax.Array, jax.Array], mask: jax.Array) -> jax.Array:
    share, corner = crop
    rows, columns = (
        jnp.clip(((jnp.arange(side) + 0.5) * share[axis] + corner[axis]).astype(int), 0, side - 1)
        for axis, side in enumerate(mask.shape)
    )
    return mask[rows[:, None], columns]


def _crop_box(size: np.ndarray, crop: tuple[jax.Array, jax.Array], box: jax.Array) -> jax.Array:
    share, corner = crop
    return boxes.crop(box, corner[::-1] / size, share[::-1])


def _draw_warp(zoom: float, degrees: float, key: jax.Array) -> jax.Array:
    """The matrix [3, 3] from coordinates in the result, (y, x, 1) in pixels from the centre, to
    those in the image. It rotates the image counterclockwise by an angle uniform in
    [-degrees, degrees] and enlarges it by a factor uniform in [1 - zoom, 1 + zoom]."""
    keys = jax.random.split(key, (zoom > 0) + (degrees > 0))
    matrix = jnp.eye(3)
    if degrees > 0:
        largest = math.radians(degrees)
        angle = jax.random.uniform(keys[-1], minval=-largest, maxval=largest)
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        matrix = jnp.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
    if zoom > 0:
        factor = 1 + jax.random.uniform(keys[0], minval=-zoom, maxval=zoom)
        matrix = matrix.at[:2].multiply(1 / factor)
    return matrix


def _warp(matrix: jax.Array, image: jax.Array) -> jax.Array:
    """The image at the coordinates that a matrix gives (`_draw_warp`), bilinear. (A matrix product
    is not fused with other steps, so that it is always rounded alike.)"""
    y, x = _warped_grid(matrix, *image.shape[:2])
    return jax.vmap(lambda channel: map_coordinates(channel, [y, x], order=1), -1, -1)(image)


def _warped_grid(matrix: jax.Array, height: int, width: int) -> jax.Array:
    """The coordinates (y, x) in the image of each pixel of the result, [2, H, W]."""
    centre = jnp.array([height / 2 - 0.5, width / 2 - 0.5]).reshape(2, 1, 1)
    grid = jnp.concatenate([jnp.mgrid[:height, :width] - centre, jnp.ones((1, height, width))])
    return jnp.tensordot(matrix, grid, 1, precision="highest")[:2] + centre


def _warp_mask(matrix: jax.Array, mask: jax.Array) -> jax.Array:
    height, width = mask.shape
    y, x = jnp.rint(_warped_grid(matrix, height, width)).astype(int)
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    return jnp.where(inside, mask[y.clip(0, height - 1), x.clip(0, width - 1)], IGNORE)


def _warp_box(size: np.ndarray, matrix: jax.Array, box: jax.Array) -> jax.Array:
    """The smallest upright box around the corners of a box, moved by the inverse of the matrix."""
    (a, b), (c, d) = matrix[:2, :2]
    inverse = jnp.array([[d, -b], [-c, a]]) / (a * d - b * c)
    x0, y0, x1, y1 = boxes.to_corners(box)
    corners = jnp.array([[y0, x0], [y0, x1], [y1, x0], [y1, x1]]) - 0.5
    pixels = jnp.matmul(corners * size[::-1], inverse.T, precision="highest")
    moved = pixels / size[::-1] + 0.5
    (top, left), (bottom, right) = moved.min(0), moved.max(0)
    hull = boxes.from_corners(left, top, right, bottom)
    return jnp.where(boxes.area(box) > 0, hull, 0)


def _flip(flipped: jax.Array, image: jax.Array) -> jax.Array:
    """An image or a mask, or its mirror image left and right."""
    return jnp.where(flipped, image[:, ::-1], image)


def _flip_box(flipped: jax.Array, box: jax.Array) -> jax.Array:
    return jnp.where(flipped, box.at[0].set(1 - box[0]), box)


def _shift(max_shift: int, fill: int, corner: jax.Array, image: jax.Array) -> jax.Array:
    """The crop at `corner`, int [2], of an image or a mask padded with `max_shift` pixels of the
    value `fill` on each side (He et al. 2015, section 4.2, where `max_shift` is 4)."""
    channels = image.ndim - 2
    pad = [(max_shift, max_shift)] * 2 + [(0, 0)] * channels
    padded = jnp.pad(image, pad, constant_values=fill)
    return jax.lax.dynamic_slice(padded, (*corner, *[0] * channels), image.shape)


def _shift_box(max_shift: int, size: np.ndarray, corner: jax.Array, box: jax.Array) -> jax.Array:
    return box.at[:2].add((max_shift - corner[::-1]) / size)


def _cutout(side: int, mean: Sequence[float] | None, key: jax.Array, image: jax.Array) -> jax.Array:
    """Sets a square to the mean. Its centre is anywhere in the image, and so it may extend beyond
    the image (DeVries and Taylor 2017)."""
    height, width, _ = image.shape
    centre_y, centre_x = jax.random.randint(key, (2,), 0, jnp.array([height, width]))
    rows = jnp.arange(height) - centre_y + side // 2
    columns = jnp.arange(width) - centre_x + side // 2
    hidden = ((rows >= 0) & (rows < side))[:, None] & ((columns >= 0) & (columns < side))
    fill = image.mean((0, 1)) if mean is None else jnp.asarray(mean, image.dtype)
    return jnp.where(hidden[:, :, None], fill, image)
