"""Colour jitter of an image: brightness, contrast, hue and saturation.

The draws and the formulas are those of augmax 0.4.1, which earlier versions used, except for
saturation, which augmax draws but does not use: here distances from grey are multiplied.
"""

import jax
import jax.numpy as jnp


def jitter(strength: float, key: jax.Array, image: jax.Array) -> jax.Array:
    """Changes the colours of an image, float32 [H, W, C] in 0..1, by amounts drawn uniformly.

    Brightness and contrast (of the value in HSV, or of the one channel of a grey image) change by
    amounts in [-0.4, 0.4] * `strength`. Images of three channels are also turned in hue, by up to
    0.1 * `strength` turns either way, and distances from grey are multiplied by a factor in
    1 + [-0.4, 0.4] * `strength`.
    """

    def amount(key: jax.Array, largest: float = 0.4) -> jax.Array:
        return jax.random.uniform(key, minval=-largest * strength, maxval=largest * strength)

    if image.shape[-1] != 3:
        bright, contrast = (amount(jax.random.split(each)[0]) for each in jax.random.split(key))
        return adjust_contrast(adjust_brightness(image, bright), contrast)
    value_key, saturation_key = jax.random.split(key)
    bright_key, contrast_key, hue_key = jax.random.split(value_key, 3)
    hue, saturation, value = rgb_to_hsv(image)
    value = adjust_contrast(adjust_brightness(value, amount(bright_key)), amount(contrast_key))
    image = hsv_to_rgb(hue + amount(hue_key, 0.1), saturation, value)
    grey = image.mean(axis=-1, keepdims=True)
    return jnp.clip(grey + (image - grey) * (1 + amount(saturation_key)), 0, 1)


def adjust_brightness(value: jax.Array, amount: jax.Array) -> jax.Array:
    """Moves values in 0..1 towards 0 or 1: an amount of -1 makes all 0, of 1 all 1."""
    return jnp.where(amount < 0, value * (1 + amount), value * (1 - amount) + amount)


def adjust_contrast(value: jax.Array, amount: jax.Array) -> jax.Array:
    """Stretches values in 0..1 about 0.5 by tan((amount + 1) pi / 4), for an amount in (-1, 1), and
    by the reciprocal near 0 and 1, which are unchanged: piecewise linear in three pieces."""
    slope = jnp.tan((amount + 1) * (jnp.pi / 4))
    low = (slope - slope**2) / (2 * (1 - slope**2))  # nan for an amount of 0, where it is not used
    return jnp.piecewise(
        value,
        [value < low, value > 1 - low],
        [
            lambda value: value / slope,
            lambda value: value / slope + 1 - 1 / slope,
            lambda value: slope * (value - 0.5) + 0.5,
        ],
    )


def rgb_to_hsv(image: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Hue (in turns, between -1/6 and 5/6), saturation and value, [H, W] each, of an image in 0..1
    [H, W, 3]. Grey has the hue 0, black the saturation 0."""
    value, largest = image.max(-1), image.argmax(-1)
    spread = value - image.min(-1)
    differences = jnp.roll(image, -1, -1) - jnp.roll(image, -2, -1)
    difference = jnp.where(largest[..., None] == jnp.arange(3), differences, 0).sum(-1)
    hue = jnp.where(spread == 0, 0, (2 * largest + difference / spread) / 6)
    return hue, jnp.where(value == 0, 0, spread / value), value


def hsv_to_rgb(hue: jax.Array, saturation: jax.Array, value: jax.Array) -> jax.Array:
    """The image [H, W, 3] in 0..1 of a hue (in turns), a saturation and a value, [H, W] each."""
    hue, saturation, value = (each[..., None] for each in (hue, saturation, value))
    sector = jnp.mod(jnp.array([5, 3, 1]) + hue * 6, 6)
    missing = jnp.maximum(0, jnp.minimum(jnp.minimum(sector, 4 - sector), 1))
    return value - value * saturation * missing
