"""Upsampling of feature maps to any size: [B, h, w, C] -> [B, H, W, C'].

Max unpooling is the transpose of a max pooling, and a transposed convolution that of a convolution,
in the sense of matrices: <A x, y> = <x, A' y>. They are also called unpooling by indices and
deconvolution.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from cnnjax.nn import pooling
from cnnjax.nn.convolution import LAYOUT, Convolve, add_bias
from cnnjax.nn.initializers import Initializer
from cnnjax.nn.pooling import HALVE, Window

Size = tuple[int, int]
"""(height, width) in pixels."""


@functools.partial(jax.jit, static_argnames="size")
def nearest(x: Array, size: Size) -> Array:
    """The pixel whose centre is nearest (torch's `nearest-exact`; for a whole multiple of the size
    also `nearest`): each pixel becomes a square. [B, h, w, C] -> [B, *size, C]."""
    for axis, length in enumerate(size, start=1):
        factor, rest = divmod(length, x.shape[axis])
        if rest:
            x = _product(x, axis, _nearest_weights(x.shape[axis], length))
        else:
            x = jnp.repeat(x, factor, axis)
    return x


@functools.partial(jax.jit, static_argnames="size")
def bilinear(x: Array, size: Size) -> Array:
    """Linear interpolation along both sides between the centres of the pixels; outside of the
    outermost centres the outermost pixels (torch's `bilinear` with `align_corners=False`).
    [B, h, w, C] -> [B, *size, C], which should not be smaller."""
    for axis, length in enumerate(size, start=1):
        factor, rest = divmod(length, x.shape[axis])
        if rest:
            x = _product(x, axis, _linear_weights(x.shape[axis], length))
        elif factor > 1:
            x = _interpolate(x, axis, factor)
    return x


def _interpolate(x: Array, axis: int, factor: int) -> Array:
    """Linear interpolation along an axis by a whole factor: two products for each value."""
    count = x.shape[axis]
    part = functools.partial(lax.slice_in_dim, x, axis=axis)
    before = jnp.concatenate([part(0, 1), part(0, count - 1)], axis)
    after = jnp.concatenate([part(1, count), part(count - 1, count)], axis)
    phases = []
    for phase in range(factor):
        distance = (phase + 0.5) / factor - 0.5
        other = before if distance < 0 else after
        phases.append((1 - abs(distance)) * x + abs(distance) * other)
    shape = (*x.shape[:axis], count * factor, *x.shape[axis + 1 :])
    return jnp.stack(phases, axis + 1).reshape(shape)


def _product(x: Array, axis: int, weights: np.ndarray) -> Array:
    """The product of weights [new length, length] and an axis of x."""
    y = jnp.tensordot(x, weights.astype(x.dtype), ((axis,), (1,)), precision=lax.Precision.HIGHEST)
    return jnp.moveaxis(y, -1, axis)


def _centres(length: int, new: int) -> np.ndarray:
    """The position, in pixels of the old image, of each new pixel's centre."""
    return (np.arange(new) + 0.5) * length / new - 0.5


def _nearest_weights(length: int, new: int) -> np.ndarray:
    index = np.floor(_centres(length, new) + 0.5).astype(int)
    return np.eye(length)[index]


def _linear_weights(length: int, new: int) -> np.ndarray:
    position = np.clip(_centres(length, new), 0, length - 1)
    return np.maximum(0, 1 - np.abs(position[:, None] - np.arange(length)))


RESIZES = {"nearest": _nearest_weights, "bilinear": _linear_weights}
"""{name of a function: (length, new length) -> its weights along a side, [new length, length]}"""


def max_unpool(
    y: Array, x: Array, window: Window = HALVE, max_pool: Callable[..., Array] = pooling.max_pool
) -> Array:
    """Puts y where the maxima of x were, and zeros elsewhere: [B, h, w, C] -> [B, H, W, C].

    It is the transpose of the max pooling of x, which must have the shape of y: of equal elements
    of a window the first in row-major order gets the value, windows that share a maximum have
    their values summed, and pixels in no window are zero (Zeiler et al. 2011; Badrinarayanan et al.
    2017, section 3). There is a gradient with respect to y, none with respect to x.

    Args:
      y: [B, h, w, C].
      x: [B, H, W, C], the features that were pooled.
      window: the window of the pooling.
      max_pool: the pooling, (x, window) -> [B, h, w, C].
    """
    _, transpose = jax.vjp(lambda x: max_pool(x, window), lax.stop_gradient(x))
    result: Array = transpose(y)[0]
    return result


def scatter_max_unpool(y: Array, x: Array, window: Window = HALVE) -> Array:
    """`max_unpool` as XLA's scattering over windows, the form for GPUs and TPUs."""
    return max_unpool(y, x, window, pooling.reduce_window_max)


def fit(x: Array, size: Size) -> Array:
    """x, [B, h, w, C], padded with zeros or cropped to [B, *size, C], its centre in the centre."""
    pads = []
    for axis, length in enumerate(size, start=1):
        missing = length - x.shape[axis]
        if missing < 0:
            x, missing = lax.slice_in_dim(x, -missing // 2, -missing // 2 + length, axis=axis), 0
        pads.append((missing // 2, missing - missing // 2))
    return jnp.pad(x, ((0, 0), *pads, (0, 0))) if any(map(any, pads)) else x


class TransposedConv(nn.Module):
    """A transposed convolution (learnable unpooling): [B, h, w, C] -> [B, *size, features].

    Each pixel puts the kernel, weighted by its values, into a larger image; where kernels overlap
    the sum is taken. The strides are by default the ratio of the sizes, rounded; `kernel` is the
    side of the kernel for stride 2, and for a stride s it is kernel * s / 2, rounded up, so that as
    many kernels overlap. What goes beyond `size` is cropped, equally on both sides or one pixel
    more before, and what is missing up to the stride is added after: torch's `ConvTranspose2d` with
    `padding` and `output_padding`. Beyond that there are zeros around.

    Parameters: `kernel` [height, width, C, features], laid out as it is put into the image, and
    `bias` [features]. All pixels at the same place within a stride are an ordinary convolution
    of the input; each of these is drawn by `kernel_init`, so that fans are what they say
    (deviation: torch and Keras count the whole kernel). Without `kernel_init` the kernel starts as
    `bilinear_kernel`.
    """

    features: int
    size: Size
    kernel_init: Initializer | None
    kernel: int = 4
    strides: Size | None = None
    use_bias: bool = True
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    convolve: Convolve = lax.conv_general_dilated

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x: [B, h, w, C] -> [B, *size, features]."""
        strides = self.strides or tuple(
            max(1, round(new / old)) for new, old in zip(self.size, x.shape[1:3], strict=True)
        )
        sides = tuple(-(-self.kernel * stride // 2) for stride in strides)
        shape: Any = (*sides, x.shape[-1], self.features)
        if self.kernel_init is None:
            kernel = self.param(
                "kernel", lambda _: bilinear_kernel(shape, strides, self.param_dtype)
            )
        else:
            init = _by_phase(self.kernel_init, strides)
            kernel = self.param("kernel", init, shape, self.param_dtype)
        pads, size = [], []
        for old, new, stride, side in zip(x.shape[1:3], self.size, strides, sides, strict=True):
            full = (old - 1) * stride + side
            size.append(min(new, full + stride - 1))
            before = max(0, -(-(full - size[-1]) // 2))
            pads.append((side - 1 - before, side - 1 - (full - before - size[-1])))
        y = self.convolve(
            x.astype(self.dtype),
            kernel[::-1, ::-1].astype(self.dtype),
            (1, 1),
            pads,
            lhs_dilation=strides,
            dimension_numbers=LAYOUT,
        )
        if self.use_bias:
            y = add_bias(self, y)
        return fit(y, self.size)


def _by_phase(init: Initializer, strides: tuple[int, ...]) -> Initializer:
    """Draws the weights of each phase, the outputs that are equal modulo the strides, as those of a
    convolution. Phases of the same shape are drawn together."""

    def draw(key: Array, shape: Any, dtype: Any) -> Array:
        height, width, *channels = shape
        # [taps, phases, taps, phases, C, features]: rows and columns
        taps = [-(-side // stride) for side, stride in zip(shape, strides, strict=False)]
        kernel = jnp.zeros((taps[0], strides[0], taps[1], strides[1], *channels), dtype)
        for number, (row_taps, rows) in enumerate(_phases(height, strides[0])):
            for other, (column_taps, columns) in enumerate(_phases(width, strides[1])):
                keys = jax.random.split(
                    jax.random.fold_in(key, 2 * number + other), (len(rows), len(columns))
                )
                part = (row_taps, column_taps, *channels)
                each = jax.vmap(jax.vmap(lambda key, part=part: init(key, part, dtype)))(keys)
                kernel = kernel.at[
                    :row_taps, rows.start : rows.stop, :column_taps, columns.start : columns.stop
                ].set(each.transpose(2, 0, 3, 1, 4, 5))
        kernel = kernel.reshape(taps[0] * strides[0], taps[1] * strides[1], *channels)
        return kernel[:height, :width]

    return draw


def _phases(side: int, stride: int) -> list[tuple[int, range]]:
    """(taps, phases with so many taps) of a kernel, along a side."""
    taps, more = divmod(side, stride)
    parts = [(taps + 1, range(more)), (taps, range(more, stride))]
    return [(count, phases) for count, phases in parts if phases]


def bilinear_kernel(shape: Sequence[int], strides: tuple[int, ...], dtype: Any) -> Array:
    """The kernel [height, width, C, features] with which a transposed convolution interpolates
    linearly (Long et al. 2015, section 3.3); of side 2 for stride 2 it repeats pixels.

    The outputs of each pixel have weights that sum to one. With as many features as channels each
    channel stays by itself; otherwise a feature is the mean of the channels that are equal to it
    modulo the smaller number of the two.
    """
    *sides, channels, features = shape
    tents = []
    for side, stride in zip(sides, strides, strict=True):
        tent = (side + 1) // 2 - np.abs(np.arange(side) - (side - 1) / 2)
        sums = np.array([tent[phase::stride].sum() for phase in range(stride)])
        tents.append(tent / sums[np.arange(side) % stride])
    fewer = min(channels, features)
    mixing = np.equal.outer(np.arange(channels) % fewer, np.arange(features) % fewer)
    kernel = np.einsum("h,w,io->hwio", *tents, mixing / mixing.sum(0))
    return jnp.asarray(kernel, dtype)
