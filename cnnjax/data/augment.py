"""Random changes of training images on the device, inside the step.

Rotation, zoom and colour are augmax's. What a general warp would only do slowly is done by moving
whole pixels (flip, shift, cutout) or by two small matrix products (random-resized crop).
"""

import functools
from collections.abc import Callable, Sequence

import augmax
import jax
import jax.numpy as jnp

from cnnjax.config import Augmentation

Shape = tuple[int, int, int]
One = Callable[[jax.Array, jax.Array], jax.Array]
Augment = Callable[[jax.Array, jax.Array], jax.Array]


def build(config: Augmentation, image_shape: Shape, mean: Sequence[float] | None = None) -> Augment:
    """A function (keys [B], images float32 [B, H, W, C] in 0..1) -> the same shape and range.

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
    steps = _steps(config, image_shape, mean)
    if not steps:
        return lambda keys, images: images

    def one(key: jax.Array, image: jax.Array) -> jax.Array:
        for number, step in steps:
            image = step(jax.random.fold_in(key, number), image)
        return jnp.clip(image, 0, 1)

    return jax.vmap(one)


def _steps(
    config: Augmentation, shape: Shape, mean: Sequence[float] | None
) -> list[tuple[int, One]]:
    """The steps that are on, each with a number of its own: switching one on or off leaves the
    random choices of the others as they are."""
    warp = _warp(config)
    table: list[tuple[bool, One]] = [
        (config.random_resized_crop < 1, functools.partial(_crop, config.random_resized_crop)),
        (bool(warp), augmax.GeometricChain(*warp)),
        (config.flip > 0, functools.partial(_flip, config.flip)),
        (config.shift_pixels > 0, functools.partial(_shift, config.shift_pixels)),
        (config.color > 0, _color(config.color, shape[2])),
        (config.cutout_pixels > 0, functools.partial(_cutout, config.cutout_pixels, mean)),
    ]
    return [(number, step) for number, (on, step) in enumerate(table) if on]


class _Zoom(augmax.GeometricTransformation):
    """Zoom about the centre by a factor uniform in [1 - strength, 1 + strength]."""

    def __init__(self, strength: float) -> None:
        super().__init__()
        self.strength = strength

    def transform_coordinates(
        self, rng: jax.Array, coordinates: augmax.geometric.LazyCoordinates, invert: bool = False
    ) -> None:
        factor = 1 + jax.random.uniform(rng, minval=-self.strength, maxval=self.strength)
        scale = factor if invert else 1 / factor
        coordinates.push_transform(jnp.diag(jnp.stack([scale, scale, jnp.ones(())])))


def _warp(config: Augmentation) -> list[augmax.GeometricTransformation]:
    zoom = [_Zoom(config.scale)] if config.scale > 0 else []
    turn = [augmax.Rotate(config.rotation_degrees)] if config.rotation_degrees > 0 else []
    return [*zoom, *turn]


def _flip(probability: float, key: jax.Array, image: jax.Array) -> jax.Array:
    """Mirror left and right. (augmax's flip is a warp: the same pixels, a hundred times slower.)"""
    return jnp.where(jax.random.bernoulli(key, probability), image[:, ::-1], image)


def _shift(most: int, key: jax.Array, image: jax.Array) -> jax.Array:
    """The crop of a random place of the image padded with `most` black pixels on each side (He et
    al. 2015, section 4.2, where `most` is 4)."""
    padded = jnp.pad(image, ((most, most), (most, most), (0, 0)))
    y, x = jax.random.randint(key, (2,), 0, 2 * most + 1)
    return jax.lax.dynamic_slice(padded, (y, x, 0), image.shape)


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


def _crop(smallest: float, key: jax.Array, image: jax.Array) -> jax.Array:
    """A random part brought back to full size: area uniform in [smallest, 1], aspect ratio
    log-uniform in [3/4, 4/3], sides cut to the image's (Szegedy et al. 2015, section 6)."""
    size_key, place_key = jax.random.split(key)
    area, ratio = jax.random.uniform(
        size_key, (2,), minval=jnp.array([smallest, -1.0]), maxval=jnp.array([1.0, 1.0])
    )
    root = jnp.exp(0.5 * jnp.log(4 / 3) * ratio)
    share = jnp.minimum(jnp.sqrt(area) * jnp.stack([1 / root, root]), 1.0)
    full = jnp.array(image.shape[:2], jnp.float32)
    corner = jax.random.uniform(place_key, (2,)) * (1 - share) * full
    return jax.image.scale_and_translate(
        image, image.shape, (0, 1), 1 / share, -corner / share, "linear", antialias=False
    )


def _color(strength: float, channels: int) -> One:
    """Jitter of brightness, contrast, hue and saturation by augmax, but for saturation, which
    augmax 0.4.1 draws and then drops: here distances from grey are multiplied."""
    most = 0.4 * strength
    if channels != 3:
        wide = (-2 * most, 2 * most)  # augmax halves these two ranges
        return augmax.ColorspaceChain(
            augmax.RandomBrightness(wide, p=1.0), augmax.RandomContrast(wide, p=1.0)
        )
    jitter = augmax.ColorJitter(
        brightness=most, contrast=most, saturation=0, hue=0.1 * strength, p=1.0
    )

    def color(key: jax.Array, image: jax.Array) -> jax.Array:
        jitter_key, saturation_key = jax.random.split(key)
        image = jitter(jitter_key, image)
        factor = 1 + jax.random.uniform(saturation_key, minval=-most, maxval=most)
        grey = image.mean(axis=-1, keepdims=True)
        return jnp.clip(grey + (image - grey) * factor, 0, 1)

    return color
