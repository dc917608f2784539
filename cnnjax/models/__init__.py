"""The architectures, and how one is built from a configuration."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from cnnjax.config import Levels, Model
from cnnjax.errors import UserError, unknown
from cnnjax.models import lenet, mlp, resnet, vgg
from cnnjax.nn import ingredients
from cnnjax.nn.ingredients import Ingredients
from cnnjax.nn.operations import PLAIN, Operations

Constructor = Callable[[Ingredients, int, tuple[int, int, int]], nn.Module]
"""(ingredients, classes, (height, width, channels)) -> module."""

DEPTHS = (20, 32, 44, 56, 110)

MODELS: dict[str, Constructor] = {
    "mlp": mlp.mlp,
    "lenet5": lenet.lenet5,
    "lenet5_modern": lenet.lenet5_modern,
    "vgg_small": vgg.vgg_small,
    **{f"resnet{depth}": functools.partial(resnet.resnet, depth=depth) for depth in DEPTHS},
    **{f"plain{depth}": functools.partial(resnet.plain, depth=depth) for depth in DEPTHS},
}


def build(
    config: Model,
    *,
    image_shape: tuple[int, int, int],
    classes: int,
    levels: Levels | None = None,
    dtype: Any = jnp.float32,
    param_dtype: Any = jnp.float32,
    axis_name: str | None = None,
    operations: Operations = PLAIN,
) -> nn.Module:
    """The network of a configuration.

    The module is called as `module.apply(variables, images, train=..., keep_prob=...)` with images
    [B, H, W, C] and gives logits [B, classes] in `param_dtype`. `keep_prob`, maybe traced,
    replaces the configured number; whether there is dropout at all is decided here.

    Args:
      config: resolved or not; `default` becomes the architecture's published choice.
      image_shape: (height, width, channels) of the images.
      classes: number of classes.
      levels: the user's own {"activation": {...}, "initializer": {...}, "model": {...}}, looked up
        after the built-in ones; a model is a function (ingredients, classes, image_shape).
      dtype: of the computation; parameters and statistics are in `param_dtype`.
      axis_name: the pmap axis over which batch norm takes its statistics (`global`).
      operations: the forms of the operations that have several.

    Raises:
      UserError: an unknown name, or an image that is too small for the network.
    """
    own = (levels or {}).get("model", {})
    constructor = MODELS.get(config.name) or own.get(config.name)
    if constructor is None:
        raise unknown("model.name", config.name, [*MODELS, *own])
    if classes < 1:
        raise UserError(f"classes: {classes} is not valid; allowed: 1 or more")
    made = ingredients.build(
        config,
        levels=levels,
        dtype=dtype,
        param_dtype=param_dtype,
        axis_name=axis_name,
        operations=operations,
    )
    return constructor(made, classes, image_shape)
