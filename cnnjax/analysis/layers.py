"""The layers of a network with their sizes, read off the program that it compiles to."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.analysis import fields
from cnnjax.analysis.fields import Field
from cnnjax.models import taps

KINDS = {
    "conv_general_dilated": "convolution",
    "dot_general": "dense",
    "reduce_window_max": "max pooling",
    "reduce_window_sum": "average pooling",
    "rsqrt": "normalization",
    "concatenate": "concatenation",
}


@dataclasses.dataclass
class Layer:
    """One layer, for one image.

    Attributes:
      name: its path in the network.
      kind: what it is, in a word or two.
      output_shape: (height, width, channels), or (units,).
      parameters: the numbers it learns.
      multiply_adds: of its convolutions and products, those with the zeros of borders among them.
      multiply_adds_inside: without those.
      activation_bytes: of its output in float32.
      receptive_field: {"size", "stride", "offset"}, each (height, width) in pixels: a unit at place
        p sees from offset + stride * p on; stride 0 where all units see the same.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    multiply_adds: int
    multiply_adds_inside: int
    activation_bytes: int
    receptive_field: dict[str, tuple[int, ...]]


def layers(module: nn.Module, image_shape: tuple[int, int, int]) -> list[Layer]:
    """The layers of a network in the order in which it computes them, at test time; at the end
    those that are there in training only, with nothing but their parameters.

    Args:
      module: the network, built with `cnnjax.nn.operations.PLAIN`.
      image_shape: (height, width, channels).
    """
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    variables = jax.eval_shape(
        lambda images: module.init(jax.random.key(0), images, train=False), images
    )

    def run(images: Any, variables: Any) -> Any:
        return module.apply(variables, images, train=False, capture=taps.EVERY)

    program = jax.make_jaxpr(run)(images, variables).jaxpr
    sizes = _parameters(variables["params"])
    found: dict[str, Layer] = {}
    normalizing = set()
    for scope, equation, field in _walk(program, {program.invars[0]: fields.image()}, ""):
        if field and scope:
            _add(found, scope, equation, field)
        elif equation.primitive.name == "rsqrt":  # of running variances
            normalizing.add(scope)
    for name, layer in found.items():
        layer.parameters = sizes.pop(name, 0)
        if name in normalizing:
            layer.kind = "normalization"
    rest = [Layer(name, "in training only", (), size, 0, 0, 0, {}) for name, size in sizes.items()]
    return [*found.values(), *rest]


def totals(found: list[Layer]) -> dict[str, int]:
    """The sums over layers of what can be added."""
    names = ("parameters", "multiply_adds", "multiply_adds_inside", "activation_bytes")
    return {name: sum(getattr(layer, name) for layer in found) for name in names}


def _add(found: dict[str, Layer], scope: str, equation: Any, field: Field) -> None:
    output = equation.outvars[0].aval
    layer = found.pop(scope, None) or Layer(scope, "elementwise", (), 0, 0, 0, 0, {})
    found[scope] = layer  # in the order in which layers end
    kind = KINDS.get(equation.primitive.name)
    if kind and (layer.kind == "elementwise" or kind == "concatenation"):
        layer.kind = kind
    layer.output_shape = tuple(output.shape[1:])
    layer.activation_bytes = 4 * math.prod(output.shape)
    layer.receptive_field = {
        "size": tuple(side.size for side in field),
        "stride": tuple(side.stride for side in field),
        "offset": tuple(side.low for side in field),
    }
    nominal, inside = _multiply_adds(equation)
    layer.multiply_adds += nominal
    layer.multiply_adds_inside += inside


def _walk(jaxpr: Any, known: dict[Any, Field], outer: str) -> Iterator[tuple[str, Any, Field]]:
    """(layer's path, operation, field of its result) of all operations, called programs' too."""
    for equation in jaxpr.eqns:
        stack = "/".join(filter(None, (outer, str(equation.source_info.name_stack))))
        seen = [
            () if hasattr(variable, "val") else known.get(variable, ())
            for variable in equation.invars
        ]
        inner = _called(equation.params)
        if inner is None:
            field = fields.after(equation, seen)
            known |= dict.fromkeys(equation.outvars, field)
            yield _path(stack), equation, field
            continue
        within = dict(zip(inner.invars, seen[-len(inner.invars) :], strict=True))
        yield from _walk(inner, within, stack)
        known |= {
            outer_: within.get(inner_, ())
            for outer_, inner_ in zip(equation.outvars, inner.outvars, strict=True)
            if not hasattr(inner_, "val")
        }


def _called(params: Mapping[str, Any]) -> Any:
    for name in ("jaxpr", "call_jaxpr"):
        if name in params:
            return getattr(params[name], "jaxpr", params[name])
    return None


def _path(stack: str) -> str:
    """The path of a module below the network, from the names of the scopes: modules, and methods
    of them as `module.method`."""
    return "/".join(part for part in stack.split("/")[1:] if "." not in part and "(" not in part)


def _parameters(params: Mapping[str, Any]) -> dict[str, int]:
    """How many parameters each module has of its own, by its path."""
    sizes: dict[str, int] = {}
    for path, leaf in jax.tree.leaves_with_path(params):
        owner = jax.tree_util.keystr(path[:-1], simple=True, separator="/")
        sizes[owner] = sizes.get(owner, 0) + leaf.size
    return sizes


def _multiply_adds(equation: Any) -> tuple[int, int]:
    """With and without those on borders."""
    output = tuple(equation.outvars[0].aval.shape)
    if equation.primitive.name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        shape = equation.invars[0].aval.shape
        count = math.prod(output) * math.prod(shape[dim] for dim in contracted)
        return count, count
    if equation.primitive.name != "conv_general_dilated":
        return 0, 0
    params = equation.params
    numbers = params["dimension_numbers"]
    image, kernel = (variable.aval.shape for variable in equation.invars)
    channels = (
        kernel[numbers.rhs_spec[1]] * output[numbers.out_spec[1]] * output[numbers.out_spec[0]]
    )
    nominal = inside = channels
    for axis in range(len(params["window_strides"])):
        places = np.arange(output[numbers.out_spec[2 + axis]]) * params["window_strides"][axis]
        taps_ = np.arange(kernel[numbers.rhs_spec[2 + axis]]) * params["rhs_dilation"][axis]
        pixels = places[:, None] + taps_ - params["padding"][axis][0]
        nominal *= pixels.size
        inside *= int(((pixels >= 0) & (pixels < image[numbers.lhs_spec[2 + axis]])).sum())
    return nominal, inside
