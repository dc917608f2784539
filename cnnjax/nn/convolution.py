"""Convolutions that flax does not have."""

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
"""`jax.lax.conv_general_dilated`, or a function that takes and gives the same."""


class SparseConv(nn.Module):
    """A convolution (stride 1, padding VALID) in which each output channel sees some of the input
    channels only, as LeNet-5's C3 (LeCun et al. 1998, table I).

    `connections[o]` names the input channels of output channel o. Parameters: `kernel`
    [height, width, number of connections], in the order of the table, and `bias` [outputs].
    An output of n connections is drawn as from a kernel [height, width, n, reach], where reach is
    the mean number of outputs that an input is connected to: the fans are those of the table.
    """

    connections: tuple[tuple[int, ...], ...]
    kernel_size: tuple[int, int]
    kernel_init: Initializer
    use_bias: bool = True
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    convolve: Convolve = lax.conv_general_dilated

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x: [B, H, W, inputs] -> [B, H - height + 1, W - width + 1, outputs]."""
        inputs, outputs = x.shape[-1], len(self.connections)
        ins = np.concatenate([np.asarray(row) for row in self.connections])
        outs = np.repeat(np.arange(outputs), [len(row) for row in self.connections])
        draw = _draw(self.kernel_init, self.connections)
        kernel = self.param("kernel", draw, (*self.kernel_size, len(ins)), self.param_dtype)
        dense = jnp.zeros((*self.kernel_size, inputs, outputs), self.dtype)
        dense = dense.at[:, :, ins, outs].set(kernel.astype(self.dtype))
        y = self.convolve(
            x.astype(self.dtype), dense, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (outputs,), self.param_dtype)
            y = y + bias.astype(self.dtype)
        return y


def _draw(
    init: Initializer, connections: tuple[tuple[int, ...], ...]
) -> Callable[[Array, Sequence[int], Any], Array]:
    """The initialiser of a kernel [height, width, connections]."""
    inputs = {channel for row in connections for channel in row}
    reach = max(1, round(sum(map(len, connections)) / len(inputs)))

    def draw(key: Array, shape: Sequence[int], dtype: Any) -> Array:
        drawn: dict[int, Array] = {}
        sizes = sorted({len(row) for row in connections})
        for size, size_key in zip(sizes, jax.random.split(key, len(sizes)), strict=True):
            outputs = [o for o, row in enumerate(connections) if len(row) == size]
            kernels = [
                init(one_key, (*shape[:-1], size, reach), dtype)
                for one_key in jax.random.split(size_key, math.ceil(len(outputs) / reach))
            ]
            stacked = jnp.concatenate(kernels, axis=-1)
            drawn |= {output: stacked[..., place] for place, output in enumerate(outputs)}
        return jnp.concatenate([drawn[o] for o in range(len(connections))], axis=-1)

    return draw
