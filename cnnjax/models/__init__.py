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
from cnnjax.models import alexnet, googlenet, inception, lenet, mlp, own, resnet, stack, vgg
from cnnjax.models.backbone import EVERY, Backbone, Network
from cnnjax.nn import ingredients
from cnnjax.nn.ingredients import Ingredients
from cnnjax.nn.operations import PLAIN, Operations

Constructor = Callable[[Ingredients, tuple[int, int, int]], Backbone]
"""(ingredients, (height, width, channels)) -> backbone."""

DEPTHS = (8, 20, 32, 44, 56, 110)
PLAIN_TOO = (18, 34)


def _each(kind: Callable[..., nn.Module], depths: Iterable[int], **fields: Any) -> dict[int, Any]:
    return {depth: functools.partial(kind, depth=depth, **fields) for depth in depths}


MODELS: dict[str, Constructor] = {
    "mlp": mlp.mlp,
    "lenet5": lenet.lenet5,
    "lenet5_modern": lenet.lenet5_modern,
    "stack": stack.stack,
    "alexnet": alexnet.alexnet,
    "alexnet_grouped": functools.partial(alexnet.alexnet, grouped=True),
    "vgg_small": vgg.vgg_small,
    **{f"vgg{depth}": made for depth, made in _each(vgg.vgg, vgg.CONVOLUTIONS).items()},
    **{f"vgg{depth}_bn": made for depth, made in _each(vgg.vgg, vgg.CONVOLUTIONS).items()},
    "inception_small": inception.inception_small,
    "googlenet": googlenet.googlenet,
    "inception_v3": inception.inception_v3,
    **{f"resnet{depth}": made for depth, made in _each(resnet.resnet, (*DEPTHS, 1202)).items()},
    **{
        f"plain{depth}": made
        for depth, made in _each(resnet.resnet, DEPTHS, residual=False).items()
    },
    **{
        f"resnet{depth}": made
        for depth, made in _each(resnet.imagenet_resnet, resnet.IMAGENET).items()
    },
    **{
        f"plain{depth}": made
        for depth, made in _each(resnet.imagenet_resnet, PLAIN_TOO, residual=False).items()
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
    [B, H, W, C] and gives outputs [B, num_outputs] in `param_dtype`. `keep_prob`, maybe traced,
    replaces the configured number; whether there is dropout at all is decided here. Without its
    head, the network is `backbone` of the module (`cnnjax.models.backbone.Network`).

    Args:
      config: resolved or not; `default` becomes the architecture's published choice.
      image_shape: (height, width, channels) of the images.
      num_outputs: how many numbers the network gives for an image: the number of classes.
      head: a module, features [B, n] -> outputs [B, num_outputs], which gets the name `head`; by
        default the architecture's own last layer.
      levels: the user's own {"activation": {...}, "initializer": {...}, "model": {...}}, looked up
        after the built-in ones; for what a model may be, see `own.build`.
      dtype: of the computation; parameters and statistics are in `param_dtype`.
      axis_name: the pmap axis over which batch norm takes its statistics (`global`).
      operations: the forms of the operations that have several.

    Raises:
      UserError: an unknown name, an image that is too small for the network, or a head for a
        network of the user's own that has its own.
    """
    mine = (levels or {}).get("model", {})
    if config.name not in MODELS and config.name not in mine:
        raise unknown("model.name", config.name, [*MODELS, *mine])
    if num_outputs < 1:
        raise UserError(f"num_outputs: {num_outputs} is not valid; allowed: 1 or more")
    made = ingredients.build(
        config,
        levels=levels,
        dtype=dtype,
        param_dtype=param_dtype,
        axis_name=axis_name,
        operations=operations,
    )
    if config.name in MODELS:
        network: nn.Module = MODELS[config.name](made, image_shape)
    else:
        network = own.build(mine[config.name], made, num_outputs, image_shape)
    if isinstance(network, Backbone):
        return Network(network, num_outputs, head)
    if head is not None:
        raise UserError(
            f"model.name: {config.name!r} has a head of its own, but the task brings its own; "
            "allowed: a level that gives a cnnjax.models.backbone.Backbone, or a built-in network"
        )
    return network


def describe(
    network: nn.Module | str, image_shape: tuple[int, int, int] | None = None
) -> dict[str, tuple[int, ...]]:
    """The endpoints of a network in the order in which it computes them, each with the shape of
    its features for one image, (height, width, channels) or (units,).

    Any of the names can be asked for: `module.apply(variables, images, train=False,
    capture=("conv1", "fc1"))` gives (logits, {name: features}).

    Args:
      network: a module from `build`, or a name in `MODELS` for the published network.
      image_shape: (height, width, channels); by default those it was published for, which a module
        does not know: 224 x 224 x 3.

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
    found: dict[str, tuple[int, ...]] = {}

    def run(images: Array) -> Any:
        variables = module.init(jax.random.key(0), images, train=False)
        _, features = module.apply(variables, images, train=False, capture=EVERY)
        found.update({name: value.shape[1:] for name, value in features.items()})

    jax.eval_shape(run, jax.ShapeDtypeStruct((1, *shape), jnp.float32))
    return found
