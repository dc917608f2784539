"""Pooling over 2x2 windows with stride 2: [B, H, W, C] -> [B, H // 2, W // 2, C].

A last row or column of an odd size is left out, as by padding VALID. Windows are written as four
strided slices: on CPU the gradient of `flax.linen.max_pool` is many times slower.
"""

from collections.abc import Callable
from typing import Any, Protocol

import flax.linen as nn
import jax.numpy as jnp
from jax import Array, lax


class Layers(Protocol):
    """What a pooling with weights is made of: `cnnjax.nn.ingredients.Ingredients` has it."""

    @property
    def param_dtype(self) -> Any:
        """The dtype of the parameters."""

    def activation(self, name: str) -> Callable[[Array], Array]:
        """The activation."""

    def conv(
        self, features: int, kernel: int, *, name: str, strides: int = 1, padding: str = "SAME"
    ) -> Callable[[Array], Array]:
        """A convolution with square kernels."""


def windows(x: Array, stride: int) -> list[Array]:
    """The four elements of every 2x2 window, in row-major order, each [B, h, w, C]."""
    batch, height, width, channels = x.shape
    tall, wide = (max(0, (size - 2) // stride * stride + 1) for size in (height, width))
    return [
        lax.slice(
            x,
            (0, top, left, 0),
            (batch, top + tall, left + wide, channels),
            (1, stride, stride, 1),
        )
        for top in (0, 1)
        for left in (0, 1)
    ]


def _larger(first: Array, second: Array) -> Array:
    """The elementwise maximum whose gradient goes to `first` on a tie; NaN wins."""
    return jnp.where((first >= second) | (first != first), first, second)


def max_pool(x: Array, stride: int = 2) -> Array:
    """The largest element of each 2x2 window. The gradient is 1 to it and 0 to the others; of
    equal ones the first in row-major order gets it."""
    a, b, c, d = windows(x, stride)
    return _larger(_larger(a, b), _larger(c, d))


def reduce_window_max(x: Array) -> Array:
    """`max_pool` with stride 2 as XLA's reduction over windows, the form for GPUs and TPUs."""
    return nn.max_pool(x, (2, 2), (2, 2))


def average_pool(x: Array) -> Array:
    """The mean of each 2x2 window."""
    a, b, c, d = windows(x, 2)
    return (a + b + c + d) * 0.25


def max_plus_average_pool(x: Array) -> Array:
    """The sum of max and average pooling (Lee et al. 2016, with both weights 1)."""
    return max_pool(x) + average_pool(x)


def blur_pool(x: Array) -> Array:
    """Max-blur-pool (Zhang 2019, "Making Convolutional Networks Shift-Invariant Again", sec. 3):
    maxima of 2x2 windows at stride 1, then [1 2 1]/4 in both directions at stride 2, borders
    reflected."""
    x = max_pool(x, stride=1)
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    for axis in (1, 2):
        size = (x.shape[axis] - 3) // 2 + 1
        a, b, c = (lax.slice_in_dim(x, start, start + 2 * size - 1, 2, axis) for start in range(3))
        x = (a + 2 * b + c) * 0.25
    return x


def no_pool(x: Array) -> Array:
    """No pooling: the size stays."""
    return x


class Strided(nn.Module):
    """A learnt 2x2 convolution with stride 2 and the activation in place of pooling (Springenberg
    et al. 2015, sec. 2): as many channels out as in, window and stride those of the pooling."""

    ingredients: Layers

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x: [B, H, W, C] -> [B, H // 2, W // 2, C]."""
        make = self.ingredients
        x = make.conv(x.shape[-1], 2, strides=2, padding="VALID", name="conv")(x)
        return make.activation("activation")(x)


class Subsampling(nn.Module):
    """LeNet's sub-sampling (LeCun et al. 1998, sec. II-B): the sum of the window times a trainable
    coefficient, plus a trainable bias, one each per channel, through the activation.

    The coefficient starts at 1/4 (average pooling); the paper does not give its start.
    """

    ingredients: Layers

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x: [B, H, W, C] -> [B, H // 2, W // 2, C]."""
        make = self.ingredients
        shape: Any = (x.shape[-1],)
        start = nn.initializers.constant(0.25)
        coefficient = self.param("coefficient", start, shape, make.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, shape, make.param_dtype)
        a, b, c, d = windows(x, 2)
        x = (a + b + c + d) * coefficient.astype(x.dtype) + bias.astype(x.dtype)
        return make.activation("activation")(x)


POOLINGS: dict[str, Callable[[Array], Array] | type[nn.Module]] = {
    "none": no_pool,
    "max": max_pool,
    "average": average_pool,
    "max_plus_average": max_plus_average_pool,
    "strided": Strided,
    "blur": blur_pool,
    "subsampling": Subsampling,
}
