"""Building blocks of networks with parallel branches."""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cnnjax.models.backbone import Backbone, ForwardPass
from cnnjax.nn.blocks import ConvBlock
from cnnjax.nn.ingredients import Ingredients
from cnnjax.nn.pooling import Window

Kernel = int | tuple[int, int]
SAME_SIZE = Window(3, 1, 1)


class BranchedBackbone(Backbone):
    """A backbone whose features are the means over its last maps, with dropout of either kind."""

    @nn.nowrap
    def vector(self, x: Array, forward: ForwardPass) -> Array:
        """x: [B, h, w, n] -> [B, n]."""
        return forward.dropout(self.ingredients.dropout("dropout"), x.mean(axis=(1, 2)))


class Branches:
    """Applies successive convolutions, in a compact method.

    `conv(x, "branch2", (64, 1), (96, 3, 2))` is a 1x1 convolution of 64 channels, `branch2_1`, and
    a 3x3 one of 96 channels with stride 2, `branch2_2`.

    With stride 1 the padding keeps the size, otherwise there is none. A kernel is the side of a
    square or (height, width).
    """

    def __init__(self, make: Ingredients, train: bool) -> None:
        self.make, self._train = make, train

    def __call__(
        self, x: Array, name: str, *layers: tuple[int, Kernel] | tuple[int, Kernel, int]
    ) -> Array:
        """x: [B, H, W, C] -> [B, H', W', features of the last layer]."""
        for index, (features, kernel, *rest) in enumerate(layers, start=1):
            height, width = kernel if isinstance(kernel, tuple) else (kernel, kernel)
            stride = rest[0] if rest else 1
            padding = ((height // 2,) * 2, (width // 2,) * 2) if stride == 1 else "VALID"
            make, channels = self.make, self.make.width(features)
            block = ConvBlock(make, channels, kernel, stride, padding, name=f"{name}_{index}")
            x = block(x, train=self._train)
        return x


Form = Callable[..., Sequence[Array]]
"""(`Branches`, maps, widths ...) -> the maps of each branch."""


class Mixed(nn.Module):
    """Branches side by side: the channels of those of `form` with `widths`."""

    ingredients: Ingredients
    form: Form
    widths: tuple[int, ...] = ()

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """x: [B, H, W, C] -> [B, H', W', channels of all branches]."""
        branches = self.form(Branches(self.ingredients, train), x, *self.widths)
        return jnp.concatenate(branches, axis=-1)


def average_3x3(make: Ingredients, x: Array) -> Array:
    """The mean over 3x3 windows at stride 1. Pixels outside the image are zeros, as in torch, or
    with `model.count_include_pad` false left out, as in TensorFlow."""
    include_pad = bool(make.config.count_include_pad)
    with jax.named_scope("pool"):
        return nn.avg_pool(x, (3, 3), (1, 1), ((1, 1), (1, 1)), count_include_pad=include_pad)


def max_pool(make: Ingredients, x: Array, window: Window = SAME_SIZE) -> Array:
    """The maximum over windows, by default 3x3 at stride 1."""
    with jax.named_scope("pool"):
        return make.operations.max_pool(x, window)


def downsample(make: Ingredients, x: Array, window: Window) -> Array:
    """The pooling beside strided convolutions, named `pool`: the configured level, or max pooling
    if that would keep the size."""
    pooled: Array = make.pool("pool", window)(x) if make.pools else max_pool(make, x, window)
    return pooled


def adaptive_average(x: Array, size: int) -> Array:
    """[B, H, W, C] -> [B, size, size, C]: means over `size` parts of each side, which overlap by a
    pixel if `size` does not divide it (torch's adaptive average pooling)."""

    def weights(length: int) -> Array:
        rows = np.zeros((size, length))
        for part in range(size):
            start, stop = part * length // size, -(-(part + 1) * length // size)
            rows[part, start:stop] = 1 / (stop - start)
        return jnp.asarray(rows, x.dtype)

    return jnp.einsum("bhwc,ih,jw->bijc", x, weights(x.shape[1]), weights(x.shape[2]))


def has_auxiliary_heads(backbone: Backbone, forward: ForwardPass) -> bool:
    """Whether auxiliary heads are computed: in training only, never if `model.auxiliary_weight` is
    0, and never for a decoder."""
    weight = backbone.ingredients.config.auxiliary_weight
    return bool(weight) and not forward.spatial and (forward.train or backbone.is_initializing())
