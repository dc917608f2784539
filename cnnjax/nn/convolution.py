"""Convolutions as layers: dense or grouped, and with a table of connections."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from cnnjax.nn.initializers import Initializer

Convolve = Callable[..., Array]
"""`jax.lax.conv_general_dilated`, or a function with the same signature."""
Pool = Callable[[Array], Array]
Padding = str | tuple[tuple[int, int], tuple[int, int]]
"""`SAME`, `VALID`, or the zeros before and after for height and width."""
Connections = tuple[tuple[int, ...], ...]
"""The input channels of each output channel."""
LAYOUT = ("NHWC", "HWIO", "NHWC")


def _convolve(
    layer: Any, x: Array, kernel: Array, strides: int, padding: Padding, groups: int = 1
) -> Array:
    x, kernel = x.astype(layer.dtype), kernel.astype(layer.dtype)
    options = {"dimension_numbers": LAYOUT, "feature_group_count": groups}
    y: Array = layer.convolve(x, kernel, (strides, strides), padding, **options)
    return y


def add_bias(layer: Any, y: Array) -> Array:
    """y, [..., C], plus the parameter `bias`, [C], of a layer."""
    bias = layer.param("bias", nn.initializers.zeros, (y.shape[-1],), layer.param_dtype)
    return y + bias.astype(y.dtype)


class Conv(nn.Module):
    """A convolution (the cross-correlation that networks compute): [B, H, W, C] ->
    [B, H', W', features]. Parameters: `kernel` [height, width, C / groups, features] and `bias`
    [features].

    Called with a pooling, it pools before the bias is added. For max pooling that gives the same,
    since the largest element stays the largest, with a quarter of the additions.
    """

    features: int
    kernel_size: tuple[int, int]
    kernel_init: Initializer
    strides: int = 1
    padding: Padding = "SAME"
    groups: int = 1
    use_bias: bool = True
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    convolve: Convolve = lax.conv_general_dilated

    @nn.compact
    def __call__(self, x: Array, pool: Pool | None = None) -> Array:
        """x: [B, H, W, C] -> [B, H', W', features]; `pool` makes it smaller."""
        shape: Any = (*self.kernel_size, x.shape[-1] // self.groups, self.features)
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype)
        y = _convolve(self, x, kernel, self.strides, self.padding, self.groups)
        y = y if pool is None else pool(y)
        return add_bias(self, y) if self.use_bias else y


class ConvolvedDense(nn.Module):
    """A fully connected layer of maps of one size, applied at all positions of larger ones (Long et
    al. 2015, section 3.1): a convolution whose `kernel` has the shape that it has in the fully
    connected layer, [side * side * C, features], so that the weights of one are those of the other;
    and `bias` [features]. Maps are padded with zeros so that their size stays."""

    features: int
    side: int
    kernel_init: Initializer
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    convolve: Convolve = lax.conv_general_dilated

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x: [B, H, W, C] -> [B, H, W, features]."""
        window: Any = (self.side, self.side, x.shape[-1])
        shape: Any = (math.prod(window), self.features)
        kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype)
        y = _convolve(self, x, kernel.reshape(*window, self.features), 1, "SAME")
        return add_bias(self, y)


class SparseConv(nn.Module):
    """A convolution (stride 1, padding VALID) in which each output channel has its own subset of
    the input channels, as LeNet-5's C3 (LeCun et al. 1998, table I).

    `connections[o]` names the input channels of output channel o. Parameters: `kernel`
    [height, width, number of connections], in the order of the table, and `bias` [outputs].
    The weights of an output with n connections are drawn as those of a kernel [height, width, n,
    reach], where reach is the mean number of outputs of an input: the fans are those of the table.
    """

    connections: Connections
    kernel_size: tuple[int, int]
    kernel_init: Initializer
    use_bias: bool = True
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    convolve: Convolve = lax.conv_general_dilated

    @nn.compact
    def __call__(self, x: Array, pool: Pool | None = None) -> Array:
        """x: [B, H, W, inputs] -> [B, H - height + 1, W - width + 1, outputs]; pooled as `Conv`."""
        inputs, outputs = x.shape[-1], len(self.connections)
        ins = np.concatenate([np.asarray(row) for row in self.connections])
        outs = np.repeat(np.arange(outputs), [len(row) for row in self.connections])
        init = _sparse_init(self.kernel_init, self.connections)
        kernel = self.param("kernel", init, (*self.kernel_size, len(ins)), self.param_dtype)
        dense = jnp.zeros((*self.kernel_size, inputs, outputs), self.dtype)
        dense = dense.at[:, :, ins, outs].set(kernel.astype(self.dtype))
        y = _convolve(self, x, dense, 1, "VALID")
        y = y if pool is None else pool(y)
        return add_bias(self, y) if self.use_bias else y


def _sparse_init(init: Initializer, connections: Connections) -> Initializer:
    """The initialiser of a kernel [height, width, connections]."""
    inputs = {channel for row in connections for channel in row}
    reach = max(1, round(sum(map(len, connections)) / len(inputs)))

    def sparse_init(key: Array, shape: Sequence[int], dtype: Any) -> Array:
        weights: dict[int, Array] = {}
        sizes = sorted({len(row) for row in connections})
        for size, size_key in zip(sizes, jax.random.split(key, len(sizes)), strict=True):
            outputs = [o for o, row in enumerate(connections) if len(row) == size]
            kernels = [
                init(kernel_key, (*shape[:-1], size, reach), dtype)
                for kernel_key in jax.random.split(size_key, math.ceil(len(outputs) / reach))
            ]
            stacked = jnp.concatenate(kernels, axis=-1)
            weights |= {output: stacked[..., index] for index, output in enumerate(outputs)}
        return jnp.concatenate([weights[o] for o in range(len(connections))], axis=-1)

    return sparse_init
