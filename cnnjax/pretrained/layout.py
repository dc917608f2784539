"""How a source names and arranges the arrays of a network."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from cnnjax.errors import UserError
from cnnjax.pretrained.reading import FLOATS, Shape, Stored


class SourceModule(NamedTuple):
    """The module of a source that one of our layers comes from.

    Attributes:
      name: of the module.
      channels: of the maps that this dense layer sees flattened; 0 where it sees a vector.
      convolution: whether that dense layer is a convolution over the whole maps.
      scale: whether this norm has a scale, or leaves it at one.
      bias_of: the convolution before this norm, where it has a bias: ours has none, which is the
        same as a running mean that is less by it.
    """

    name: str
    channels: int = 0
    convolution: bool = False
    scale: bool = True
    bias_of: str | None = None


class Rule(NamedTuple):
    """Where one of our arrays comes from: the arrays of the source by name, with the shapes that
    they must have, and what makes ours of them."""

    names: tuple[str, ...]
    shapes: tuple[Shape, ...]
    make: Callable[..., np.ndarray]


Modules = Mapping[str, SourceModule]
"""Our layers, by their paths, and where they come from."""


class Layout(NamedTuple):
    """A source of weights.

    Attributes:
      models: the networks it has, each with a function that gives their layers.
      rule: (module there, our leaf, our shape) -> where that array comes from.
      config: model -> the fields that its weights were made with, preprocessing among them.
      ignored: whether an array of this name means nothing for a network at test time.
      auxiliary: the beginnings of the names of auxiliary heads, which a file may leave out.
      arrays: what the names of a file are first brought to.
    """

    models: Mapping[str, Callable[[], Modules]]
    rule: Callable[[SourceModule, str, Shape], Rule]
    config: Callable[[str], dict[str, Any]]
    ignored: Callable[[str], bool] = lambda name: False
    auxiliary: tuple[str, ...] = ()
    arrays: Callable[[dict[str, Stored]], dict[str, Stored]] = lambda found: found


def _same(array: np.ndarray) -> np.ndarray:
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
        return Rule(names, (shape,), _same)
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
    """Keras: arranged as ours, known by their order: kernel, bias; scale, bias, mean, variance."""
    if leaf == "kernel":
        return Rule((f"{module.name}/0",), (shape,), _same)
    if leaf == "scale" and not module.scale:
        return Rule((), (), lambda: np.ones(shape, np.float32))
    place = {"scale": 0, "bias": 1, "mean": 2, "var": 3}[leaf] - (not module.scale)
    names: tuple[str, ...] = (f"{module.name}/{place}",)
    if leaf == "mean" and module.bias_of:
        names += (f"{module.bias_of}/1",)
        return Rule(names, (shape, shape), np.subtract)
    return Rule(names, (shape,), _same)


def brought(
    where: str,
    rules: Mapping[str, Rule],
    found: Mapping[str, Stored],
    ignored: Callable[[str], bool],
) -> dict[str, np.ndarray]:
    """Our arrays, read from a file.

    Args:
      where: the file and the network, for the error.
      rules: where each of ours comes from.
      found: the arrays of the file.
      ignored: whether a name may be left unused.

    Raises one UserError that lists every missing, unexpected and differently shaped array.
    """
    wanted = {
        name: shape
        for rule in rules.values()
        for name, shape in zip(rule.names, rule.shapes, strict=True)
    }
    lines = [f"  missing: {name} {list(wanted[name])}" for name in wanted if name not in found]
    lines += [
        f"  unexpected: {name} {list(stored.shape)}"
        for name, stored in found.items()
        if name not in wanted and not ignored(name)
    ]
    for name in wanted.keys() & found.keys():
        have = found[name]
        if have.shape != wanted[name]:
            lines.append(
                f"  different: {name} is {list(have.shape)}, the network has {list(wanted[name])}"
            )
        elif have.dtype not in FLOATS:
            lines.append(f"  different: {name} is of {have.dtype}, which are no weights")
    if lines:
        raise UserError("\n".join([f"{where}: does not fit:", *sorted(lines)]))
    arrays = {
        path: np.ascontiguousarray(rule.make(*(found[name].read() for name in rule.names)))
        for path, rule in rules.items()
    }
    for path, array in arrays.items():
        if path.endswith("/var") and array.min() < 0:
            raise UserError(f"{where}: {rules[path].names[0]} holds variances below 0.")
    return arrays
