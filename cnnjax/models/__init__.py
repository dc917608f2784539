"""The architectures, and how one is built from a configuration."""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from cnnjax import catalog
from cnnjax.config import Levels, Model
from cnnjax.errors import UserError, unknown
from cnnjax.models import alexnet, custom, googlenet, inception, lenet, mlp, resnet, stack, vgg
from cnnjax.models.backbone import ALL_ENDPOINTS, Backbone, Network
from cnnjax.nn import ingredients
from cnnjax.nn.ingredients import Ingredients
from cnnjax.nn.operations import PLAIN, Operations

Constructor = Callable[[Ingredients, tuple[int, int, int]], Backbone]
"""(ingredients, (height, width, channels)) -> backbone."""

CIFAR_DEPTHS = (8, 20, 32, 44, 56, 110)
IMAGENET_PLAIN_DEPTHS = (18, 34)


def _by_depth(
    make: Callable[..., Backbone], depths: Iterable[int], **fields: Any
) -> dict[int, Constructor]:
    return {depth: functools.partial(make, depth=depth, **fields) for depth in depths}


MODELS: dict[str, Constructor] = {
    "mlp": mlp.mlp,
    "lenet5": lenet.lenet5,
    "lenet5_modern": lenet.lenet5_modern,
    "stack": stack.stack,
    "alexnet": alexnet.alexnet,
    "alexnet_grouped": functools.partial(alexnet.alexnet, grouped=True),
    "vgg_small": vgg.vgg_small,
    **{f"vgg{depth}": make for depth, make in _by_depth(vgg.vgg, vgg.CONVOLUTIONS).items()},
    **{f"vgg{depth}_bn": make for depth, make in _by_depth(vgg.vgg, vgg.CONVOLUTIONS).items()},
    "inception_small": inception.inception_small,
    "googlenet": googlenet.googlenet,
    "inception_v3": inception.inception_v3,
    **{
        f"resnet{depth}": make
        for depth, make in _by_depth(resnet.resnet, (*CIFAR_DEPTHS, 1202)).items()
    },
    **{
        f"plain{depth}": make
        for depth, make in _by_depth(resnet.resnet, CIFAR_DEPTHS, residual=False).items()
    },
    **{
        f"resnet{depth}": make
        for depth, make in _by_depth(resnet.imagenet_resnet, resnet.IMAGENET).items()
    },
    **{
        f"plain{depth}": make
        for depth, make in _by_depth(
            resnet.imagenet_resnet, IMAGENET_PLAIN_DEPTHS, residual=False
        ).items()
    },
}


def build(
    config: Model,
    *,
    image_shape: tuple[int, int, int],
    num_outputs: int,
    head: nn.Module | None = None,
    levels: Levels | None = None,
    dtype: Any = jnp.float32,
    param_dtype: Any = jnp.float32,
    axis_name: str | None = None,
    operations: Operations = PLAIN,
) -> nn.Module:
    """The network of a configuration.

    The module is called as `module.apply(variables, images, train=..., keep_prob=...)` with images
    [B, H, W, C] and returns outputs [B, num_outputs] in `param_dtype`. `keep_prob`, possibly
    traced, replaces the configured value; whether there is dropout at all is decided here. The
    network without its head is `module.backbone` (`cnnjax.models.backbone.Network`).

    Args:
      config: may be resolved; `default` becomes the architecture's published choice.
      image_shape: (height, width, channels) of the images.
      num_outputs: outputs per image, such as the number of classes.
      head: a module, features [B, n] -> outputs [B, num_outputs], which is called `head`; by
        default the last layer of the architecture.
      levels: the user's own {"activation": {...}, "initializer": {...}, "model": {...}}, looked up
        after the built-in ones; for what a model may be, see `custom.build`.
      dtype: of the computation; parameters and statistics are in `param_dtype`.
      axis_name: the pmap axis over which batch norm takes its statistics (`global`).
      operations: the implementations to use.

    Raises:
      UserError: an unknown name, or an image that is too small for the network.
      TypeError: a `head` for a network of the user's own that has one.
    """
    user_models = (levels or {}).get("model", {})
    if config.name not in MODELS and config.name not in user_models:
        raise unknown("model.name", config.name, [*MODELS, *user_models])
    if num_outputs < 1:
        raise UserError(f"num_outputs: {num_outputs} is not valid; allowed: 1 or more")
    make = ingredients.build(
        config,
        levels=levels,
        dtype=dtype,
        param_dtype=param_dtype,
        axis_name=axis_name,
        operations=operations,
    )
    if config.name in MODELS:
        network: nn.Module = MODELS[config.name](make, image_shape)
    else:
        network = custom.build(user_models[config.name], make, num_outputs, image_shape)
    if isinstance(network, Backbone):
        return Network(network, num_outputs, head)
    if head is not None:
        raise TypeError(
            f"model.name: {config.name!r} has a head of its own, but the task brings its own; "
            "allowed: a level that gives a cnnjax.models.backbone.Backbone, or a built-in network"
        )
    return network


def describe(
    network: nn.Module | str, image_shape: tuple[int, int, int] | None = None
) -> dict[str, tuple[int, ...]]:
    """The endpoints of a network in the order in which it computes them, each with the shape of
    its features for one image, (height, width, channels) or (units,).

    Any of them can be captured: `module.apply(variables, images, train=False,
    capture=("conv1", "fc1"))` gives (logits, {name: features}).

    Args:
      network: a module from `build`, or a name in `MODELS` for the published network.
      image_shape: (height, width, channels); by default the published one of a name, and
        (224, 224, 3) for a module.

    Raises UserError for an unknown name, or an image that is too small for the network.
    """
    if isinstance(network, str):
        if network not in MODELS:
            raise unknown("model.name", network, MODELS)
        image_shape = image_shape or catalog.IMAGES[network]
        network = build(
            Model(name=network), image_shape=image_shape, num_outputs=catalog.CLASSES[network]
        )
    module, shape = network, image_shape or (224, 224, 3)
    shapes: dict[str, tuple[int, ...]] = {}

    def run(images: Array) -> None:
        variables = module.init(jax.random.key(0), images, train=False)
        _, features = module.apply(variables, images, train=False, capture=ALL_ENDPOINTS)
        shapes.update({name: value.shape[1:] for name, value in features.items()})

    jax.eval_shape(run, jax.ShapeDtypeStruct((1, *shape), jnp.float32))
    return shapes
