"""Published weights as variables of the networks of cnnjax."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from cnnjax import catalog, files, models
from cnnjax.config import ResolvedConfig, RunConfig, override, resolve
from cnnjax.errors import UserError, unknown
from cnnjax.pretrained import keras, layout, pytorch_cifar, reading, timm, torchvision
from cnnjax.pretrained.layout import Layout

SOURCES: dict[str, Layout] = {
    "torchvision": torchvision.LAYOUT,
    "timm": timm.LAYOUT,
    "keras": keras.LAYOUT,
    "pytorch_cifar": pytorch_cifar.LAYOUT,
}

DEFAULT_NUM_CLASSES = 1000


@dataclass(frozen=True)
class Converted:
    """Weights as variables of a network.

    Attributes:
      variables: {"params": ..., "batch_stats": ...}, float32.
      config: the network and the preprocessing that belongs to the weights.
      num_classes: number of classes.
      preprocessing: the source of the preprocessing in `config`, in words.
    """

    variables: dict[str, Any]
    config: ResolvedConfig
    num_classes: int
    preprocessing: str


def convert(
    source: str, model: str, path: Path, *, changes: Mapping[str, Any] | None = None
) -> Converted:
    """The variables of the network `model` with the weights in a file.

    Args:
      source: the layout of the file, a name in `SOURCES`.
      model: the network.
      path: .safetensors, a PyTorch state dict, Keras .weights.h5 or .h5.
      changes: fields of the configuration that differ from the published ones, {path: value}, such
        as the `data.image_size` that dense layers after a flatten were made for.

    Raises UserError: unknown names, a file that cannot be read, one that does not fit the network
    (every missing, unexpected and differently shaped entry is listed).
    """
    if source not in SOURCES:
        raise unknown("--source", source, SOURCES)
    source_layout = SOURCES[source]
    if model not in source_layout.models:
        raise unknown(f"--model: {source}", model, source_layout.models)
    fields, preprocessing = source_layout.config(model), f"{source}'s own for {model}"
    if source == "timm" and (timm_config := _read_timm_config(path)):
        preprocessing = str(path.parent / "config.json")
        fields |= timm.preprocessing(preprocessing, timm_config)
        _check_fields(preprocessing, fields)
    with reading.opened(path) as stored:
        arrays = source_layout.rename(stored)
        has_auxiliary = any(name.startswith(source_layout.auxiliary) for name in arrays)
        if "auxiliary_weight" in catalog.MODELS[model] and not has_auxiliary:
            fields |= {"model.auxiliary_weight": 0.0}
        config = resolve(override(RunConfig(), {"model.name": model, **fields, **(changes or {})}))
        if len(config.data.mean) not in (0, 3):
            raise UserError(f"data.mean: {config.data.mean} is not for images of three channels.")
        where = f"{path}: {config.model.name} of {source}"
        variables, num_classes = _variables(where, source_layout, config, arrays)
    return Converted(variables, config, num_classes, preprocessing)


def _check_fields(file: str, fields: Mapping[str, Any]) -> None:
    """Raises UserError naming the file for values that are not valid."""
    try:
        override(RunConfig(), fields)
    except UserError as error:
        raise UserError(f"{file}: {error}") from None


def _variables(
    where: str, source_layout: Layout, config: ResolvedConfig, arrays: Mapping[str, reading.Stored]
) -> tuple[dict[str, Any], int]:
    """The variables of a network from the arrays of a file, and the number of classes. `where` is
    the file and the network, for errors."""
    size, modules = config.data.image_size or 224, source_layout.models[config.model.name]()
    num_classes = _num_classes(source_layout, modules["head"], arrays)
    shape = (size, size, 3)
    module = models.build(config.model, image_shape=shape, num_outputs=num_classes)
    images = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    expected = jax.eval_shape(
        lambda images: module.init(jax.random.key(0), images, train=False), images
    )
    rules = {}
    for leaf_path, leaf in traverse_util.flatten_dict(expected, sep="/").items():
        _, _, path_in_collection = leaf_path.partition("/")
        layer, _, leaf_name = path_in_collection.rpartition("/")
        rules[leaf_path] = source_layout.rule(modules[layer], leaf_name, tuple(leaf.shape))
    variables = layout.apply_rules(where, rules, arrays, source_layout.ignored)
    return traverse_util.unflatten_dict(variables, sep="/"), num_classes


def _num_classes(
    source_layout: Layout, head: layout.SourceModule, arrays: Mapping[str, reading.Stored]
) -> int:
    """The number of classes of a file: the outputs of its last layer; 1000 if it has none."""
    kernel = source_layout.rule(head, "kernel", (2, 3))  # of two inputs and three outputs
    bias = source_layout.rule(head, "bias", (3,))
    for rule in (bias, kernel):
        stored, shape = arrays.get(rule.names[0]), rule.shapes[0]
        if stored and len(stored.shape) == len(shape):
            return stored.shape[shape.index(3)]
    return DEFAULT_NUM_CLASSES


def _read_timm_config(path: Path) -> Mapping[str, Any] | None:
    """The config.json that timm writes beside weights; None if there is none of timm."""
    file = path.parent / "config.json"
    config = files.read_json(file) if os.path.lexists(file) else None
    keys = ("architecture", "pretrained_cfg", "mean")
    return config if isinstance(config, Mapping) and any(key in config for key in keys) else None


def parameters(converted: Converted) -> int:
    """The number of parameters of the network."""
    return sum(np.size(leaf) for leaf in jax.tree.leaves(converted.variables["params"]))
