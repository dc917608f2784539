"""Normalisation over the batch, over one example, or over groups of its channels.

Each level is a function (ingredients, train, fields of the module) -> layer, to be called in a
compact method. The layer takes [B, H, W, C] or [B, C] and returns the same shape.
All have a learnt scale and bias per channel. Statistics and parameters stay in `param_dtype`, at
least float32.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

if TYPE_CHECKING:
    from cnnjax.nn.ingredients import Ingredients

Layer = Callable[[Array], Array]


def none(make: "Ingredients", train: bool, **fields: Any) -> Layer:
    """No normalisation."""
    return lambda x: x


def batch(make: "Ingredients", train: bool, **fields: Any) -> Layer:
    """Batch normalisation (Ioffe and Szegedy 2015); running statistics in `batch_stats`.

    In training: mean and (biased) variance of the batch, over all devices of `axis_name` where
    `statistics` is `global`; running = alpha * batch + (1 - alpha) * running. Otherwise, and
    always where `frozen`: the running statistics, unchanged. Deviation from the paper: the
    running variance averages biased variances.
    """
    config = make.config.norm
    return make.operations.batch_norm(
        use_running_average=config.frozen or not train,
        momentum=1 - config.alpha,
        epsilon=config.epsilon,
        axis_name=make.axis_name if config.statistics == "global" else None,
        **fields,
    )


def layer(make: "Ingredients", train: bool, **fields: Any) -> Layer:
    """Layer normalisation (Ba et al. 2016): over all values of one example (height, width and
    channels of a feature map), with scale and bias per channel."""
    return nn.GroupNorm(num_groups=1, epsilon=make.config.norm.epsilon, **fields)


def group(make: "Ingredients", train: bool, **fields: Any) -> Layer:
    """Group normalisation (Wu and He 2018).

    If `groups` does not divide the channels, their greatest common divisor is used (8 groups on 6
    channels: 2). A vector [B, C] whose groups would have a single value each, which normalises to
    zero, is one group.
    """
    config = make.config.norm

    def apply(x: Array) -> Array:
        channels = x.shape[-1]
        groups = math.gcd(config.groups, channels)
        if x.ndim == 2 and groups == channels:
            groups = 1
        return nn.GroupNorm(groups, epsilon=config.epsilon, **fields)(x)

    return apply


def local_response(
    x: Array, *, size: int = 5, bias: float = 2.0, alpha: float = 1e-4, beta: float = 0.75
) -> Array:
    """Local response normalisation (Krizhevsky et al. 2012, section 3.3): x divided by (bias +
    alpha * sum of squares over `size` neighbouring channels) ** beta. [..., C] -> the same shape.

    The sum is not divided by `size`, as torch's is: torch's alpha is 5 times this one.
    """
    before = size // 2
    squares = jnp.pad(x * x, [(0, 0)] * (x.ndim - 1) + [(before, size - 1 - before)])
    channels = x.shape[-1]
    total = sum(squares[..., start : start + channels] for start in range(size))
    return x / (bias + alpha * total) ** beta


NORMS: dict[str, Callable[..., Layer]] = {
    "none": none,
    "batch": batch,
    "layer": layer,
    "group": group,
}
