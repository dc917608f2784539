"""Published weights as variables of our networks."""

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


CLASSES = 1000


@dataclass(frozen=True)
class Converted:
    """Weights as our network has them.

    Attributes:
      variables: {"params": ..., "batch_stats": ...}, float32.
      config: the network and the preprocessing that belongs to the weights.
      num_classes: number of classes.
      preprocessing: where the preprocessing in `config` is from, in words.
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
      source: whose layout the file has, a name in `SOURCES`.
      model: the network.
      path: .safetensors, a PyTorch state dict, Keras .weights.h5 or .h5.
      changes: fields of the configuration that differ from the published ones, {path: value}: the
        `data.image_size` that dense layers after a flatten were made for, for example.

    Raises UserError: unknown names, a file that cannot be read, one that does not fit (every
    missing, unexpected and differently shaped entry is listed).
    """
    if source not in SOURCES:
        raise unknown("--source", source, SOURCES)
    names = SOURCES[source]
    if model not in names.models:
        raise unknown(f"--model: {source}", model, names.models)
    fields, preprocessing = names.config(model), f"{source}'s own for {model}"
    if source == "timm" and (beside := _beside(path)):
        preprocessing = str(path.parent / "config.json")
        fields |= timm.preprocessing(preprocessing, beside)
        _of_the_file(preprocessing, fields)
    with reading.opened(path) as stored:
        found = names.arrays(stored)
        if "auxiliary_weight" in catalog.MODELS[model] and not _any(found, names.auxiliary):
            fields |= {"model.auxiliary_weight": 0.0}
        config = resolve(override(RunConfig(), {"model.name": model, **fields, **(changes or {})}))
        if len(config.data.mean) not in (0, 3):
            raise UserError(f"data.mean: {config.data.mean} is not for images of three channels.")
        variables, num_classes = _converted(source, names, config, path, found)
    return Converted(variables, config, num_classes, preprocessing)


def _of_the_file(where: str, fields: Mapping[str, Any]) -> None:
    """Raises UserError, which names the file, for values that the schema refuses."""
    try:
        override(RunConfig(), fields)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def _any(found: Mapping[str, reading.Stored], beginnings: tuple[str, ...]) -> bool:
    return any(name.startswith(beginnings) for name in found)


def _converted(
    source: str,
    names: Layout,
    config: ResolvedConfig,
    path: Path,
    found: Mapping[str, reading.Stored],
) -> tuple[dict[str, Any], int]:
    model, size = config.model.name, config.data.image_size or 224
    modules = names.models[model]()
    num_classes = _num_classes(names, modules["head"], found)
    shape = (size, size, 3)
    module = models.build(config.model, image_shape=shape, num_outputs=num_classes)
    images = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    fresh = jax.eval_shape(
        lambda images: module.init(jax.random.key(0), images, train=False), images
    )
    rules = {}
    for leaf_path, leaf in traverse_util.flatten_dict(fresh, sep="/").items():
        _, _, rest = leaf_path.partition("/")
        layer, _, leaf_name = rest.rpartition("/")
        rules[leaf_path] = names.rule(modules[layer], leaf_name, tuple(leaf.shape))
    arrays = layout.brought(f"{path}: {model} of {source}", rules, found, names.ignored)
    return traverse_util.unflatten_dict(arrays, sep="/"), num_classes


def _num_classes(
    names: Layout, head: layout.SourceModule, found: Mapping[str, reading.Stored]
) -> int:
    """The number of classes of a file: the outputs of its last layer; 1000 where it has none."""
    kernel = names.rule(head, "kernel", (2, 3))  # of two inputs and three outputs
    bias = names.rule(head, "bias", (3,))
    for rule in (bias, kernel):
        stored, shape = found.get(rule.names[0]), rule.shapes[0]
        if stored and len(stored.shape) == len(shape):
            return stored.shape[shape.index(3)]
    return CLASSES


def _beside(path: Path) -> Mapping[str, Any] | None:
    """What timm keeps beside weights, where it is names."""
    file = path.parent / "config.json"
    found = files.read_json(file) if os.path.lexists(file) else None
    known = ("architecture", "pretrained_cfg", "mean")
    return found if isinstance(found, Mapping) and any(name in found for name in known) else None


def parameters(converted: Converted) -> int:
    """How many numbers the network learns."""
    return sum(np.size(leaf) for leaf in jax.tree.leaves(converted.variables["params"]))
