"""Normalisation over the batch, over one example, or over groups of its channels.

Each level is a function (configuration, ...) -> layer, to be called in a compact method: the layer
takes [B, H, W, C] or [B, C] and returns the same shape. All have a learnt scale and bias per
channel. Statistics and parameters stay in `param_dtype`, at least float32.
"""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
from jax import Array

from cnnjax.config import Norm

Layer = Callable[[Array], Array]


def none(config: Norm, **fields: Any) -> Layer:
    """No normalisation."""
    return lambda x: x


def batch(
    config: Norm,
    *,
    name: str,
    train: bool,
    axis_name: str | None,
    batch_norm: Callable[..., nn.Module],
    **dtypes: Any,
) -> Layer:
    """Batch normalisation (Ioffe and Szegedy 2015); running statistics in `batch_stats`.

    In training: mean and (biased) variance of the batch, over all devices of `axis_name` where
    `statistics` is `global`; running = alpha * batch + (1 - alpha) * running. Otherwise, and
    always where `frozen`: the running statistics, unchanged. Deviation from the paper: the
    running variance averages the biased one.
    """
    return batch_norm(
        use_running_average=config.frozen or not train,
        momentum=1 - config.alpha,
        epsilon=config.epsilon,
        axis_name=axis_name if config.statistics == "global" else None,
        name=name,
        **dtypes,
    )


def layer(config: Norm, *, name: str, dtype: Any, param_dtype: Any, **fields: Any) -> Layer:
    """Layer normalisation (Ba et al. 2016): over all numbers of one example (height, width and
    channels of a feature map), with scale and bias per channel."""
    return nn.GroupNorm(
        num_groups=1, epsilon=config.epsilon, name=name, dtype=dtype, param_dtype=param_dtype
    )


def group(config: Norm, *, name: str, dtype: Any, param_dtype: Any, **fields: Any) -> Layer:
    """Group normalisation (Wu and He 2018).

    Where `groups` does not divide the channels, their greatest common divisor is used (8 groups
    on 6 channels: 2). A vector [B, C] whose groups would hold a single number each, which
    normalises to zero, is normalised as one group.
    """

    def apply(x: Array) -> Array:
        channels = x.shape[-1]
        groups = math.gcd(config.groups, channels)
        if x.ndim == 2 and groups == channels:
            groups = 1
        return nn.GroupNorm(
            groups, epsilon=config.epsilon, name=name, dtype=dtype, param_dtype=param_dtype
        )(x)

    return apply


NORMS: dict[str, Callable[..., Layer]] = {
    "none": none,
    "batch": batch,
    "layer": layer,
    "group": group,
}
