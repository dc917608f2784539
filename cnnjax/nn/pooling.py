"""Pooling over windows, 2x2 with stride 2 unless an architecture has others.

[B, H, W, C] -> [B, H', W', C]. Rows and columns that do not fill a window are left out, as with
padding VALID. Windows are strided slices: on a CPU the gradient of `flax.linen.max_pool` is many
times slower.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

if TYPE_CHECKING:
    from cnnjax.nn.ingredients import Ingredients


class Window(NamedTuple):
    """A square window in pixels. With `ceil` the last window may extend beyond the padded image if
    it starts inside it, as `ceil_mode` in torch."""

    size: int = 2
    stride: int = 2
    padding: int = 0
    ceil: bool = False

    def output_size(self, length: int) -> int:
        """The number of windows along a side of `length` pixels."""
        span = length + 2 * self.padding - self.size
        count = (-(-span // self.stride) if self.ceil else span // self.stride) + 1
        if self.ceil and (count - 1) * self.stride >= length + self.padding:
            count -= 1
        return max(0, count)

    def pads(self, length: int) -> tuple[int, int]:
        """The pixels to add before and after a side so that it holds all windows."""
        extent = (self.output_size(length) - 1) * self.stride + self.size
        return self.padding, max(0, extent - length - self.padding)


HALVE = Window()


@dataclass(frozen=True)
class Pooling:
    """A pooling without parameters, under the scope `name`."""

    function: Callable[..., Array]
    window: Window
    name: str

    def __call__(self, x: Array) -> Array:
        """x: [B, H, W, C] -> [B, H', W', C]."""
        with jax.named_scope(self.name):
            return self.function(x, window=self.window)


def windows(x: Array, window: Window = HALVE, fill: float = 0.0) -> list[Array]:
    """The elements of every window in row-major order, each [B, H', W', C]; pixels outside the
    image are `fill`."""
    batch, height, width, channels = x.shape
    rows, columns = window.output_size(height), window.output_size(width)
    padding = [(0, 0), window.pads(height), window.pads(width), (0, 0)]
    if any(map(any, padding)):
        x = jnp.pad(x, padding, constant_values=fill)
    row_span, column_span = (
        (count - 1) * window.stride + 1 if count else 0 for count in (rows, columns)
    )
    return [
        lax.slice(
            x,
            (0, top, left, 0),
            (batch, top + row_span, left + column_span, channels),
            (1, window.stride, window.stride, 1),
        )
        for top in range(window.size)
        for left in range(window.size)
    ]


def _larger(first: Array, second: Array) -> Array:
    """The elementwise maximum whose gradient goes to `first` on a tie; NaN wins."""
    return jnp.where((first >= second) | (first != first), first, second)


def max_pool(x: Array, window: Window = HALVE) -> Array:
    """The largest element of each window. The gradient goes to that element alone; of equal ones to
    the first in row-major order."""
    return functools.reduce(_larger, windows(x, window, -jnp.inf))


def reduce_window_max(x: Array, window: Window = HALVE) -> Array:
    """`max_pool` as XLA's reduction over windows, the form for GPUs and TPUs."""
    padding = [window.pads(length) for length in x.shape[1:3]]
    return nn.max_pool(x, (window.size,) * 2, (window.stride,) * 2, padding)


def average_pool(x: Array, window: Window = HALVE) -> Array:
    """The mean of each window; at the border, of its part inside the image."""

    def inside(length: int) -> np.ndarray:
        starts = np.arange(window.output_size(length)) * window.stride - window.padding
        return np.minimum(starts + window.size, length) - np.maximum(starts, 0)

    counts = np.outer(inside(x.shape[1]), inside(x.shape[2]))[:, :, None]
    if counts.size and (counts == counts.flat[0]).all():
        counts = counts.flat[0]
    return sum(windows(x, window)) * jnp.asarray(1 / counts, x.dtype)


def max_plus_average_pool(x: Array, window: Window = HALVE) -> Array:
    """The sum of max and average pooling (Lee et al. 2016, with both weights 1)."""
    return max_pool(x, window) + average_pool(x, window)


def sum_pool(x: Array, window: Window = HALVE) -> Array:
    """The sum of each window; pixels outside the image are zero."""
    return sum(windows(x, window), start=jnp.zeros((), x.dtype))


def blur_pool(x: Array, window: Window = HALVE) -> Array:
    """Max-blur-pool (Zhang 2019, "Making Convolutional Networks Shift-Invariant Again", sec. 3):
    maxima of the windows at stride 1, then [1 2 1]/4 in both directions at the stride, borders
    reflected."""
    rows, columns = (window.output_size(length) for length in x.shape[1:3])
    x = max_pool(x, window._replace(stride=1))
    x = jnp.pad(x, ((0, 0), (1, 2), (1, 2), (0, 0)), mode="reflect")
    for axis, size in ((1, rows), (2, columns)):
        extent = (size - 1) * window.stride + 1
        a, b, c = (
            lax.slice_in_dim(x, start, start + extent, window.stride, axis) for start in range(3)
        )
        x = (a + 2 * b + c) * 0.25
    return x


def no_pool(x: Array, window: Window = HALVE) -> Array:
    """No pooling: the size stays."""
    return x


class Strided(nn.Module):
    """A learnt convolution with the window and stride of the pooling, and the activation
    (Springenberg et al. 2015, sec. 2): as many channels out as in."""

    ingredients: "Ingredients"
    window: Window = HALVE

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x: [B, H, W, C] -> [B, H', W', C]."""
        make, window = self.ingredients, self.window
        padding: Any = tuple(window.pads(length) for length in x.shape[1:3])
        conv = make.conv(
            x.shape[-1], window.size, strides=window.stride, padding=padding, name="conv"
        )
        return make.activation("activation")(conv(x))


class Subsampling(nn.Module):
    """LeNet's sub-sampling (LeCun et al. 1998, sec. II-B): the sum of the window times a trainable
    coefficient, plus a trainable bias, one each per channel, through the activation.

    The coefficient starts at one over the area of the window (average pooling); the paper does not
    give its initial value.
    """

    ingredients: "Ingredients"
    window: Window = HALVE

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x: [B, H, W, C] -> [B, H', W', C]."""
        make = self.ingredients
        shape: Any = (x.shape[-1],)
        initial = nn.initializers.constant(1 / self.window.size**2)
        coefficient = self.param("coefficient", initial, shape, make.param_dtype)
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
