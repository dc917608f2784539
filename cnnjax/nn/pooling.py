"""Pooling over windows, 2x2 with stride 2 unless an architecture has others.

[B, H, W, C] -> [B, H', W', C]. Rows and columns that fill no window are left out, as by padding
VALID. Windows are written as strided slices: on a CPU the gradient of `flax.linen.max_pool` is many
times slower.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import Array, lax


class Window(NamedTuple):
    """A square window [pixels]. With `ceil` a last window may stick out of the padded image, as
    long as it begins inside it."""

    size: int = 2
    stride: int = 2
    padding: int = 0
    ceil: bool = False

    def places(self, length: int) -> int:
        """How many windows fit along a side of `length` pixels."""
        room = length + 2 * self.padding - self.size
        count = (-(-room // self.stride) if self.ceil else room // self.stride) + 1
        if self.ceil and (count - 1) * self.stride >= length + self.padding:
            count -= 1
        return max(0, count)

    def sides(self, length: int) -> tuple[int, int]:
        """The pixels to add before and after a side, so that all windows are whole."""
        reach = (self.places(length) - 1) * self.stride + self.size
        return self.padding, max(0, reach - length - self.padding)


HALVE = Window()


class Layers(Protocol):
    """What a pooling with weights is made of: `cnnjax.nn.ingredients.Ingredients` has it."""

    @property
    def param_dtype(self) -> Any:
        """The dtype of the parameters."""

    def activation(self, name: str) -> Callable[[Array], Array]:
        """The activation."""

    def conv(
        self, features: int, kernel: int, *, name: str, strides: int = 1, padding: Any = "SAME"
    ) -> Callable[[Array], Array]:
        """A convolution."""


def windows(x: Array, window: Window = HALVE, fill: float = 0.0) -> list[Array]:
    """The elements of every window in row-major order, each [B, H', W', C]; what lies outside of
    the image is `fill`."""
    batch, height, width, channels = x.shape
    rows, columns = window.places(height), window.places(width)
    around = [(0, 0), window.sides(height), window.sides(width), (0, 0)]
    if any(map(any, around)):
        x = jnp.pad(x, around, constant_values=fill)
    tall, wide = ((count - 1) * window.stride + 1 if count else 0 for count in (rows, columns))
    return [
        lax.slice(
            x,
            (0, top, left, 0),
            (batch, top + tall, left + wide, channels),
            (1, window.stride, window.stride, 1),
        )
        for top in range(window.size)
        for left in range(window.size)
    ]


def _larger(first: Array, second: Array) -> Array:
    """The elementwise maximum whose gradient goes to `first` on a tie; NaN wins."""
    return jnp.where((first >= second) | (first != first), first, second)


def max_pool(x: Array, window: Window = HALVE) -> Array:
    """The largest element of each window. The gradient is 1 to it and 0 to the others; of equal
    ones the first in row-major order gets it."""
    return functools.reduce(_larger, windows(x, window, -jnp.inf))


def reduce_window_max(x: Array, window: Window = HALVE) -> Array:
    """`max_pool` as XLA's reduction over windows, the form for GPUs and TPUs."""
    sides = [window.sides(length) for length in x.shape[1:3]]
    return nn.max_pool(x, (window.size,) * 2, (window.stride,) * 2, sides)


def average_pool(x: Array, window: Window = HALVE) -> Array:
    """The mean of each window; of a window that sticks out, that of the part inside."""

    def inside(length: int) -> np.ndarray:
        ends = np.arange(window.places(length)) * window.stride - window.padding
        return np.minimum(ends + window.size, length) - np.maximum(ends, 0)

    counts = np.outer(inside(x.shape[1]), inside(x.shape[2]))[:, :, None]
    if counts.size and (counts == counts.flat[0]).all():
        counts = counts.flat[0]
    return sum(windows(x, window)) * jnp.asarray(1 / counts, x.dtype)


def max_plus_average_pool(x: Array, window: Window = HALVE) -> Array:
    """The sum of max and average pooling (Lee et al. 2016, with both weights 1)."""
    return max_pool(x, window) + average_pool(x, window)


def sum_pool(x: Array, window: Window = HALVE) -> Array:
    """The sum of each window; what lies outside of the image counts nothing."""
    return sum(windows(x, window), start=jnp.zeros((), x.dtype))


def blur_pool(x: Array, window: Window = HALVE) -> Array:
    """Max-blur-pool (Zhang 2019, "Making Convolutional Networks Shift-Invariant Again", sec. 3):
    maxima of the windows at stride 1, then [1 2 1]/4 in both directions at the stride, borders
    reflected."""
    rows, columns = (window.places(length) for length in x.shape[1:3])
    x = max_pool(x, window._replace(stride=1))
    x = jnp.pad(x, ((0, 0), (1, 2), (1, 2), (0, 0)), mode="reflect")
    for axis, size in ((1, rows), (2, columns)):
        reach = (size - 1) * window.stride + 1
        a, b, c = (
            lax.slice_in_dim(x, start, start + reach, window.stride, axis) for start in range(3)
        )
        x = (a + 2 * b + c) * 0.25
    return x


def no_pool(x: Array, window: Window = HALVE) -> Array:
    """No pooling: the size stays."""
    return x


class Strided(nn.Module):
    """A learnt convolution with the window and stride of the pooling, and the activation
    (Springenberg et al. 2015, sec. 2): as many channels out as in."""

    ingredients: Layers
    window: Window = HALVE

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x: [B, H, W, C] -> [B, H', W', C]."""
        make, window = self.ingredients, self.window
        sides = tuple(window.sides(length) for length in x.shape[1:3])
        x = make.conv(x.shape[-1], window.size, strides=window.stride, padding=sides, name="conv")(
            x
        )
        return make.activation("activation")(x)


class Subsampling(nn.Module):
    """LeNet's sub-sampling (LeCun et al. 1998, sec. II-B): the sum of the window times a trainable
    coefficient, plus a trainable bias, one each per channel, through the activation.

    The coefficient starts at one over the size of the window (average pooling); the paper does not
    give its start.
    """

    ingredients: Layers
    window: Window = HALVE

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x: [B, H, W, C] -> [B, H', W', C]."""
        make = self.ingredients
        shape: Any = (x.shape[-1],)
        start = nn.initializers.constant(1 / self.window.size**2)
        coefficient = self.param("coefficient", start, shape, make.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, shape, make.param_dtype)
        x = sum(windows(x, self.window)) * coefficient.astype(x.dtype) + bias.astype(x.dtype)
        return make.activation("activation")(x)


POOLINGS: dict[str, Callable[..., Array] | type[nn.Module]] = {
    "none": no_pool,
    "max": max_pool,
    "average": average_pool,
    "max_plus_average": max_plus_average_pool,
    "sum": sum_pool,
    "strided": Strided,
    "blur": blur_pool,
    "subsampling": Subsampling,
}
