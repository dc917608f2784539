"""How a source names and arranges the arrays of a network."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from cnnjax.errors import UserError
from cnnjax.pretrained.reading import FLOATS, Shape, Stored


class SourceModule(NamedTuple):
    """The module of a source that corresponds to one of our layers.

    Attributes:
      name: of the module.
      channels: of the maps that this dense layer takes flattened; 0 if it takes a vector.
      convolution: whether the source has that dense layer as a convolution over the whole maps.
      scale: whether this norm has a scale; otherwise it is one.
      bias_of: the convolution before this norm, if it has a bias: ours has none, and the bias is
        subtracted from the running mean instead.
    """

    name: str
    channels: int = 0
    convolution: bool = False
    scale: bool = True
    bias_of: str | None = None


class Rule(NamedTuple):
    """How one of our arrays is made: the names of the arrays of the source, the shapes that they
    must have, and a function of them."""

    names: tuple[str, ...]
    shapes: tuple[Shape, ...]
    make: Callable[..., np.ndarray]


Modules = Mapping[str, SourceModule]
"""{path of our layer: module of the source}"""


class Layout(NamedTuple):
    """A source of weights.

    Attributes:
      models: the networks of the source, each with a function that returns its modules.
      rule: (module of the source, name of our array, its shape) -> how it is made.
      config: (model) -> the fields of its weights, with those of preprocessing.
      ignored: (name) -> whether an array is not needed at test time.
      auxiliary: prefixes of the names of auxiliary heads, which a file may lack.
      rename: brings the names in a file to those of the rules.
    """

    models: Mapping[str, Callable[[], Modules]]
    rule: Callable[[SourceModule, str, Shape], Rule]
    config: Callable[[str], dict[str, Any]]
    ignored: Callable[[str], bool] = lambda name: False
    auxiliary: tuple[str, ...] = ()
    rename: Callable[[dict[str, Stored]], dict[str, Stored]] = lambda arrays: arrays


def _identity(array: np.ndarray) -> np.ndarray:
    return array


_TORCH = {
    "kernel": "weight",
    "bias": "bias",
    "scale": "weight",
    "mean": "running_mean",
    "var": "running_var",
}


def torch_rule(module: SourceModule, leaf: str, shape: Shape) -> Rule:
    """PyTorch: kernels [outputs, inputs, h, w], [outputs, inputs]; maps flattened as [C, H, W]."""
    names = (f"{module.name}.{_TORCH[leaf]}",)
    if leaf != "kernel":
        return Rule(names, (shape,), _identity)
    if len(shape) == 4:
        height, width, inputs, outputs = shape
        kernel = (outputs, inputs, height, width)
        return Rule(names, (kernel,), lambda array: array.transpose(2, 3, 1, 0))
    inputs, outputs = shape
    if not module.channels:
        return Rule(names, ((outputs, inputs),), np.transpose)
    side = math.isqrt(inputs // module.channels)
    maps = (outputs, module.channels, side, side)

    def reordered(array: np.ndarray) -> np.ndarray:
        return array.reshape(maps).transpose(2, 3, 1, 0).reshape(shape)

    return Rule(names, (maps if module.convolution else (outputs, inputs),), reordered)


def keras_rule(module: SourceModule, leaf: str, shape: Shape) -> Rule:
    """Keras: shaped as ours and named by their order: kernel, bias; scale, bias, mean, variance."""
    if leaf == "kernel":
        return Rule((f"{module.name}/0",), (shape,), _identity)
    if leaf == "scale" and not module.scale:
        return Rule((), (), lambda: np.ones(shape, np.float32))
    index = {"scale": 0, "bias": 1, "mean": 2, "var": 3}[leaf] - (not module.scale)
    names: tuple[str, ...] = (f"{module.name}/{index}",)
    if leaf == "mean" and module.bias_of:
        names += (f"{module.bias_of}/1",)
        return Rule(names, (shape, shape), np.subtract)
    return Rule(names, (shape,), _identity)


def apply_rules(
    where: str,
    rules: Mapping[str, Rule],
    stored: Mapping[str, Stored],
    ignored: Callable[[str], bool],
) -> dict[str, np.ndarray]:
    """Our arrays, read from a file.

    Args:
      where: the file and the network, for the error.
      rules: {path of our array: how it is made}.
      stored: the arrays of the file.
      ignored: (name) -> whether an array may be unused.

    Raises one UserError that lists every missing, unexpected and differently shaped array.
    """
    expected = {
        name: shape
        for rule in rules.values()
        for name, shape in zip(rule.names, rule.shapes, strict=True)
    }
    lines = [f"  missing: {name} {list(expected[name])}" for name in expected if name not in stored]
    lines += [
        f"  unexpected: {name} {list(array.shape)}"
        for name, array in stored.items()
        if name not in expected and not ignored(name)
    ]
    for name in expected.keys() & stored.keys():
        shape, dtype, _ = stored[name]
        if shape != expected[name]:
            lines.append(
                f"  different: {name} is {list(shape)}, the network has {list(expected[name])}"
            )
        elif dtype not in FLOATS:
            lines.append(f"  different: {name} is of {dtype}, which is not a dtype of weights")
    if lines:
        raise UserError("\n".join([f"{where}: does not fit:", *sorted(lines)]))
    arrays = {
        path: np.ascontiguousarray(rule.make(*(stored[name].read() for name in rule.names)))
        for path, rule in rules.items()
    }
    for path, array in arrays.items():
        if path.endswith("/var") and array.min() < 0:
            raise UserError(f"{where}: {rules[path].names[0]} holds variances below 0.")
    return arrays
