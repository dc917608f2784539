"""The architectures, and how one is built from a configuration."""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.core import FrozenDict
from jax import Array

from cnnjax import catalog
from cnnjax.config import Levels, Model
from cnnjax.errors import UserError, unknown
from cnnjax.models import (
    alexnet,
    custom,
    googlenet,
    inception,
    lenet,
    mlp,
    resnet,
    segmentation,
    stack,
    vgg,
)
from cnnjax.models.backbone import ALL_ENDPOINTS, Backbone, Network
from cnnjax.models.segmentation import SEGMENTATION_MODELS
from cnnjax.nn import ingredients
from cnnjax.nn.ingredients import Ingredients
from cnnjax.nn.operations import PLAIN, Operations

Constructor = Callable[[Ingredients, tuple[int, int, int]], Backbone]
"""(ingredients, (height, width, channels)) -> backbone."""

CIFAR_DEPTHS = (8, 20, 32, 44, 56, 110)
IMAGENET_PLAIN_DEPTHS = (18, 34)


def _by_depth(
    name: str, make: Callable[..., Backbone], depths: Iterable[int], **fields: Any
) -> dict[str, Constructor]:
    return {name.format(depth): functools.partial(make, depth=depth, **fields) for depth in depths}


MODELS: dict[str, Constructor] = {
    "mlp": mlp.mlp,
    "lenet5": lenet.lenet5,
    "lenet5_modern": lenet.lenet5_modern,
    "stack": stack.stack,
    "alexnet": alexnet.alexnet,
    "alexnet_grouped": functools.partial(alexnet.alexnet, grouped=True),
    "vgg_small": vgg.vgg_small,
    **_by_depth("vgg{}", vgg.vgg, vgg.CONVOLUTIONS),
    **_by_depth("vgg{}_bn", vgg.vgg, vgg.CONVOLUTIONS),
    "inception_small": inception.inception_small,
    "googlenet": googlenet.googlenet,
    "inception_v3": inception.inception_v3,
    **_by_depth("resnet{}", resnet.resnet, (*CIFAR_DEPTHS, 1202)),
    **_by_depth("plain{}", resnet.resnet, CIFAR_DEPTHS, residual=False),
    **_by_depth("resnet{}", resnet.imagenet_resnet, resnet.IMAGENET),
    **_by_depth("plain{}", resnet.imagenet_resnet, IMAGENET_PLAIN_DEPTHS, residual=False),
}


def build(
    config: Model,
    *,
    image_shape: tuple[int, int, int],
    num_outputs: int | Mapping[str, int],
    per_pixel: bool = False,
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
    network without its head is `module.backbone` (`cnnjax.models.backbone.Network`). With
    `per_pixel` the outputs are [B, H, W, num_outputs], and the network is one of
    SEGMENTATION_MODELS, or an encoder with the configured decoder
    (`cnnjax.models.segmentation.EncoderDecoder`).

    Args:
      config: may be resolved; `default` becomes the architecture's published choice.
      image_shape: (height, width, channels) of the images.
      num_outputs: outputs per image, or per pixel, such as the number of classes; or, per image,
        {name: number}, for which the network has a head for each name, and with
        `model.trunk=separate` a backbone.
      per_pixel: whether the outputs are those of every pixel.
      head: a module, features [B, n] (or [B, H, W, n]) -> outputs [B, num_outputs] (or
        [B, H, W, num_outputs]), which is called `head`; by default the last layer of the
        architecture.
      levels: the user's own {"activation": {...}, "initializer": {...}, "model": {...}, "decoder":
        {...}}, looked up after the built-in ones; for what a model may be, see `custom.build`, and
        a decoder `segmentation.EncoderDecoder`.
      dtype: of the computation; parameters and statistics are in `param_dtype`.
      axis_name: the pmap axis over which batch norm takes its statistics (`global`).
      operations: the implementations to use.

    Raises:
      UserError: an unknown name, a network that is not one for this kind of outputs, or an image
        that is too small for it.
      TypeError: a `head` for a network that has its own.
    """
    levels = levels or {}
    user_models = levels.get("model", {})
    known = [*MODELS, *SEGMENTATION_MODELS, *user_models]
    if config.name not in known:
        raise unknown("model.name", config.name, known)
    if config.name in SEGMENTATION_MODELS and not per_pixel:
        raise UserError(f"model.name: {config.name} classifies pixels; a per-pixel task needs it")
    if per_pixel and isinstance(num_outputs, Mapping):
        raise TypeError("num_outputs: is a mapping; a per-pixel task has one number")
    numbers = list(num_outputs.values()) if isinstance(num_outputs, Mapping) else [num_outputs]
    if min(numbers) < 1:
        raise UserError(f"num_outputs: {num_outputs} is not valid; allowed: 1 or more")
    if config.trunk and not isinstance(num_outputs, Mapping):
        raise UserError(
            f"model.trunk: {config.trunk} means nothing for a task with one head; it belongs to "
            "localization",
            path="model.trunk",
        )
    make = ingredients.build(
        config,
        levels=levels,
        dtype=dtype,
        param_dtype=param_dtype,
        axis_name=axis_name,
        operations=operations,
        per_pixel=per_pixel,
    )
    if config.name in SEGMENTATION_MODELS:
        return SEGMENTATION_MODELS[config.name](make, image_shape, numbers[0], head)
    if config.name in MODELS:
        network: nn.Module = MODELS[config.name](make, image_shape)
    else:
        network = custom.build(user_models[config.name], make, num_outputs, image_shape)
    if not isinstance(network, Backbone):
        if head is None:
            return network
        raise TypeError(
            f"model.name: {config.name!r} has a head of its own, but the task brings its own; "
            "allowed: a level that gives a cnnjax.models.backbone.Backbone, or a built-in network"
        )
    if per_pixel:
        built_in = make.config.decoder in catalog.DECODERS
        decoder = None if built_in else levels["decoder"][str(make.config.decoder)]
        return segmentation.encoder_decoder(network, numbers[0], head, decoder)
    trunks: dict[str, Backbone] = {}
    if isinstance(num_outputs, Mapping):
        if config.trunk == "separate":
            trunks = {name: network.clone() for name in list(num_outputs)[1:]}
        num_outputs = FrozenDict(num_outputs)
    return Network(network, num_outputs, head, FrozenDict(trunks))


def describe(
    network: nn.Module | str, image_shape: tuple[int, int, int] | None = None
) -> dict[str, tuple[int, ...]]:
    """The endpoints of a network in the order in which it computes them, each with the shape of
    its features for one image, (height, width, channels) or (units,).

    Any of them can be captured: `module.apply(variables, images, train=False,
    capture=("conv1", "fc1"))` gives (logits, {name: features}).

    Args:
      network: a module from `build`, or a name in `MODELS` or SEGMENTATION_MODELS for the published
        network.
      image_shape: (height, width, channels); by default the published one of a name, and
        (224, 224, 3) for a module.

    Raises UserError for an unknown name, or an image that is too small for the network.
    """
    if isinstance(network, str):
        if network not in catalog.IMAGES:
            raise unknown("model.name", network, catalog.IMAGES)
        image_shape = image_shape or catalog.IMAGES[network]
        network = build(
            Model(name=network),
            image_shape=image_shape,
            num_outputs=catalog.CLASSES[network],
            per_pixel=network in SEGMENTATION_MODELS,
        )
    module, shape = network, image_shape or (224, 224, 3)
    shapes: dict[str, tuple[int, ...]] = {}

    def run(images: Array) -> None:
        variables = module.init(jax.random.key(0), images, train=False)
        _, features = module.apply(variables, images, train=False, capture=ALL_ENDPOINTS)
        shapes.update({name: value.shape[1:] for name, value in features.items()})

    jax.eval_shape(run, jax.ShapeDtypeStruct((1, *shape), jnp.float32))
    return shapes
