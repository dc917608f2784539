"""The blocks that all architectures consist of: a linear layer, normalisation, activation.

`model.norm.placement` says whether normalisation comes `before` or `after` the activation. There is
no bias if batch normalisation, which would subtract it, follows immediately.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
from jax import Array

from cnnjax.nn.convolution import Connections, Padding
from cnnjax.nn.ingredients import Ingredients

Layer = Callable[[Array], Array]


def _normalize_and_activate(
    make: Ingredients,
    x: Array,
    *,
    activate: bool,
    train: bool,
    early: Layer | None = None,
    zero_scale: bool = False,
) -> Array:
    """Normalisation and activation in the configured order; without `activate` normalisation alone.
    `early` is a pooling: it comes before the activation if that is last, else at the end."""
    norm = make.norm("norm", train=train, zero_scale=zero_scale)
    activation = make.activation("activation")
    layers = [norm, activation] if make.config.norm.placement == "before" else [activation, norm]
    if not activate:
        layers = [norm]
    if early is not None:
        layers.insert(len(layers) - (layers[-1] is activation), early)
    for layer in layers:
        x = layer(x)
    return x


def _needs_bias(make: Ingredients, activate: bool) -> bool:
    norm = make.config.norm
    norm_is_next = norm.placement == "before" or not activate
    return not (norm.kind == "batch" and norm_is_next)


class ConvBlock(nn.Module):
    """Convolution, normalisation, activation: [B, H, W, C] -> [B, H', W', features].

    `activate=False` leaves the activation out; normalisation then follows the convolution.
    `connections`, a table of the input channels of each output channel, makes the convolution a
    `SparseConv` (stride 1, padding VALID). `use_bias` None means a bias unless batch norm follows;
    with `zero_scale` the norm's scale starts at zero (Goyal et al. 2017, sec. 5.1). `pool`, [B, H',
    W', features] -> a smaller size, comes last, or before the activation if that gives the same.
    Layers: `conv`, `norm`, `activation`.
    """

    ingredients: Ingredients
    features: int
    kernel: int | tuple[int, int] = 3
    strides: int = 1
    padding: Padding = "SAME"
    groups: int = 1
    activate: bool = True
    use_bias: bool | None = None
    zero_scale: bool = False
    connections: Connections | None = None
    pool: Layer | None = None

    @nn.compact
    def __call__(self, x: Array, *, train: bool, pooled: bool = True) -> Array:
        """x: [B, H, W, C] -> [B, H', W', features]. Unless `pooled`, the caller applies `pool`."""
        make, bias = self.ingredients, self.use_bias
        if bias is None:
            bias = _needs_bias(make, self.activate)
        conv = make.conv(
            self.features,
            self.kernel,
            strides=self.strides,
            padding=self.padding,
            groups=self.groups,
            use_bias=bias,
            connections=self.connections,
            name="conv",
        )
        pool = self.pool if pooled else None
        in_conv = early = last = None
        if not make.pooling_commutes:
            last = pool
        elif make.config.norm.kind == "none":
            in_conv = pool
        else:
            early = pool
        x = _normalize_and_activate(
            make,
            conv(x, in_conv),
            activate=self.activate,
            train=train,
            early=early,
            zero_scale=self.zero_scale,
        )
        return x if last is None else last(x)


class DenseBlock(nn.Module):
    """Fully connected layer, normalisation, activation: [B, n] -> [B, features].

    Without `normalize` there is no normalisation. Layers: `dense`, `norm`, `activation`.
    """

    ingredients: Ingredients
    features: int
    normalize: bool = True

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        """x: [B, n] -> [B, features]."""
        make = self.ingredients
        bias = _needs_bias(make, True) or not self.normalize
        x = make.dense(self.features, use_bias=bias, name="dense")(x)
        if not self.normalize:
            return make.activation("activation")(x)
        return _normalize_and_activate(make, x, activate=True, train=train)


def rematerialized(block: nn.Module, x: Array, **fields: Any) -> Array:
    """`block(x, **fields)`; with `model.remat` its activations are computed again for the gradient
    instead of stored (Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost")."""
    if not block.ingredients.config.remat:
        return block(x, **fields)
    return nn.remat(lambda module, x: module(x, **fields))(block, x)
