"""Random changes of training images, and of what is to be predicted of them, on the device.

A geometric step draws its parameters once for an example and then applies them; a photometric step
changes the image alone. The warp is bilinear; flips and shifts move whole pixels, and a
random-resized crop is two small matrix products, which is much faster than a general warp. Zoom,
rotation and colour are drawn, and computed, as by augmax 0.4.1, which earlier versions used: alone,
bit for bit on a CPU; of images of three channels a warp and colour together differ from it in the
last bits (about 1e-6), where the compiler fuses the two otherwise.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates

from cnnjax.config import Augmentation
from cnnjax.data import color

Shape = tuple[int, int, int]
Targets = Mapping[str, jax.Array]
Augment = Callable[[jax.Array, jax.Array, Targets], tuple[jax.Array, Targets]]
Photometric = Callable[[jax.Array, jax.Array], jax.Array]


class Geometric(NamedTuple):
    """A change of where things are in an image.

    Attributes:
      draw: (key) -> parameters.
      apply: (parameters, image [H, W, C]) -> image.
    """

    draw: Callable[[jax.Array], Any]
    apply: Callable[[Any, jax.Array], jax.Array]


def build(config: Augmentation, image_shape: Shape, mean: Sequence[float] | None = None) -> Augment:
    """A function (keys [B], images float32 [B, H, W, C] in 0..1, targets {name: [B, ...]}) ->
    (images, targets) of the same shapes and ranges. Labels come back as they are.

    Every example has its own key, so the result depends neither on how a batch is sharded nor on
    its neighbours. Only what is on is compiled; with everything off the images come back as they
    are. In this order: random-resized crop, zoom and rotation (one warp), flip, shift, colour,
    cutout. What comes from outside the image is black (0).

    Args:
      config: strengths; see `cnnjax.config.Augmentation`. `color` 1 is 0.4 for brightness, contrast
        and saturation and 0.1 for hue; grey images have brightness and contrast only.
      image_shape: (H, W, C).
      mean: of each channel in 0..1, what `cutout` fills with; None: the image's own mean.
    """
    geometric, photometric = _geometric(config, image_shape), _photometric(config, mean)
    if not geometric and not photometric:
        return lambda keys, images, targets: (images, targets)

    def one(key: jax.Array, image: jax.Array) -> jax.Array:
        for number, step in geometric.items():
            image = step.apply(step.draw(jax.random.fold_in(key, number)), image)
        for number, change in photometric.items():
            image = change(jax.random.fold_in(key, number), image)
        return jnp.clip(image, 0, 1)

    def augment(keys: jax.Array, images: jax.Array, targets: Targets) -> tuple[jax.Array, Targets]:
        return jax.vmap(one)(keys, images), targets

    return augment


# The steps that are on, each with a number of its own: switching one on or off leaves the random
# choices of the others as they are.


def _geometric(config: Augmentation, shape: Shape) -> dict[int, Geometric]:
    crop, most = config.random_resized_crop, config.shift_pixels
    warp = functools.partial(_draw_warp, config.scale, config.rotation_degrees)
    flip = functools.partial(jax.random.bernoulli, p=config.flip)
    shift = functools.partial(jax.random.randint, shape=(2,), minval=0, maxval=2 * most + 1)
    steps = {
        0: (crop < 1, Geometric(functools.partial(_draw_crop, crop, shape), _crop)),
        1: (config.scale > 0 or config.rotation_degrees > 0, Geometric(warp, _warp)),
        2: (config.flip > 0, Geometric(flip, _flip)),
        3: (most > 0, Geometric(shift, functools.partial(_shift, most))),
    }
    return {number: step for number, (on, step) in steps.items() if on}


def _photometric(config: Augmentation, mean: Sequence[float] | None) -> dict[int, Photometric]:
    side = config.cutout_pixels
    steps: dict[int, tuple[bool, Photometric]] = {
        4: (config.color > 0, functools.partial(color.jitter, config.color)),
        5: (side > 0, functools.partial(_cutout, side, mean)),
    }
    return {number: step for number, (on, step) in steps.items() if on}


def _draw_crop(smallest: float, shape: Shape, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A random part of an image: its sides as shares of the image's, and its corner in pixels, [2]
    each. Area uniform in [smallest, 1], aspect ratio log-uniform in [3/4, 4/3], sides cut to the
    image's (Szegedy et al. 2015, section 6)."""
    size_key, place_key = jax.random.split(key)
    area, ratio = jax.random.uniform(
        size_key, (2,), minval=jnp.array([smallest, -1.0]), maxval=jnp.array([1.0, 1.0])
    )
    root = jnp.exp(0.5 * jnp.log(4 / 3) * ratio)
    share = jnp.minimum(jnp.sqrt(area) * jnp.stack([1 / root, root]), 1.0)
    full = jnp.array(shape[:2], jnp.float32)
    return share, jax.random.uniform(place_key, (2,)) * (1 - share) * full


def _crop(part: tuple[jax.Array, jax.Array], image: jax.Array) -> jax.Array:
    """The part of an image that `_draw_crop` gives, brought back to full size."""
    share, corner = part
    return jax.image.scale_and_translate(
        image, image.shape, (0, 1), 1 / share, -corner / share, "linear", antialias=False
    )


def _draw_warp(zoom: float, degrees: float, key: jax.Array) -> jax.Array:
    """The matrix [3, 3] that takes places in the result, (y, x, 1) from the centre in pixels, to
    those in the image, which is turned counterclockwise by an angle uniform in [-degrees, degrees]
    and enlarged by a factor uniform in [1 - zoom, 1 + zoom]."""
    keys = jax.random.split(key, (zoom > 0) + (degrees > 0))
    matrix = jnp.eye(3)
    if degrees > 0:
        most = math.radians(degrees)
        angle = jax.random.uniform(keys[-1], minval=-most, maxval=most)
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        matrix = jnp.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
    if zoom > 0:
        factor = 1 + jax.random.uniform(keys[0], minval=-zoom, maxval=zoom)
        matrix = matrix.at[:2].multiply(1 / factor)
    return matrix


def _warp(matrix: jax.Array, image: jax.Array) -> jax.Array:
    """The image at the places that a matrix gives (`_draw_warp`), bilinear. (One product of
    matrices, which no compiler fuses with other steps, so that it is always rounded alike.)"""
    height, width, _ = image.shape
    centre = jnp.array([height / 2 - 0.5, width / 2 - 0.5]).reshape(2, 1, 1)
    grid = jnp.concatenate([jnp.mgrid[:height, :width] - centre, jnp.ones((1, height, width))])
    y, x = jnp.tensordot(matrix, grid, 1, precision="highest")[:2] + centre
    return jax.vmap(lambda channel: map_coordinates(channel, [y, x], order=1), -1, -1)(image)


def _flip(flipped: jax.Array, image: jax.Array) -> jax.Array:
    """An image, or its mirror image left and right."""
    return jnp.where(flipped, image[:, ::-1], image)


def _shift(most: int, corner: jax.Array, image: jax.Array) -> jax.Array:
    """The crop at `corner`, int [2], of the image padded with `most` black pixels on each side (He
    et al. 2015, section 4.2, where `most` is 4)."""
    padded = jnp.pad(image, ((most, most), (most, most), (0, 0)))
    return jax.lax.dynamic_slice(padded, (*corner, 0), image.shape)


def _cutout(side: int, mean: Sequence[float] | None, key: jax.Array, image: jax.Array) -> jax.Array:
    """A square set to the mean, its centre anywhere in the image, so that it may stick out
    (DeVries and Taylor 2017)."""
    height, width, _ = image.shape
    centre_y, centre_x = jax.random.randint(key, (2,), 0, jnp.array([height, width]))
    rows, columns = (
        jnp.arange(height) - centre_y + side // 2,
        jnp.arange(width) - centre_x + side // 2,
    )
    hidden = ((rows >= 0) & (rows < side))[:, None] & ((columns >= 0) & (columns < side))
    fill = image.mean((0, 1)) if mean is None else jnp.asarray(mean, image.dtype)
    return jnp.where(hidden[:, :, None], fill, image)
