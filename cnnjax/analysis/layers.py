"""The layers of a network with their sizes, read from its jaxpr."""

import dataclasses
import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.analysis import receptive_fields
from cnnjax.analysis.receptive_fields import Field
from cnnjax.models.backbone import ALL_ENDPOINTS
from cnnjax.nn.upsampling import RESIZES

KINDS = {
    "conv_general_dilated": "convolution",
    "dot_general": "dense",
    "reduce_window_max": "max pooling",
    "reduce_window_sum": "average pooling",
    "rsqrt": "normalization",
    "concatenate": "concatenation",
    "select_and_scatter_add": "max unpooling",
}
TRANSPOSED = "transposed convolution"
UPSAMPLING = (TRANSPOSED, "max unpooling", *RESIZES)
"""The kinds of layers that make maps larger."""


@dataclasses.dataclass
class Layer:
    """One layer, for one image.

    Attributes:
      name: its path in the network.
      kind: such as `convolution` or `max pooling`.
      output_shape: (height, width, channels), or (units,).
      parameters: its number of parameters.
      multiply_adds: of its convolutions and products, including those with zeros of the padding;
        of a transposed convolution, of every pixel with the whole kernel, cropped or not. Pooling
        and resizing, which add or weight a few values, count nothing.
      multiply_adds_inside: the same without the padding.
      activation_bytes: of its output in float32.
      receptive_field: {"size", "stride", "offset"}, each (height, width) in pixels: the field of
        the unit at position p starts at offset + stride * p; stride 0 if all units see the same.
      window: {"size", "stride"}, each (height, width), of a convolution or pooling, else {}; of a
        transposed convolution or unpooling, the stride is the factor by which it makes maps larger.
      inputs: the layers whose outputs are its inputs; `image` is the image.
      dense_parameters: of a convolution, the parameters of a fully connected layer between the same
        maps.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    multiply_adds: int
    multiply_adds_inside: int
    activation_bytes: int
    receptive_field: dict[str, tuple[int, ...]]
    window: dict[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    dense_parameters: int | None = None


class Origin(NamedTuple):
    """The receptive field of an array, and the layers whose outputs it depends on directly."""

    field: Field = ()
    sources: tuple[str, ...] = ()


IN_TRAINING = "in training only"
"""The kind of layers that a network has in training only."""

IMAGE = "image"


def layers(module: nn.Module, image_shape: tuple[int, int, int]) -> list[Layer]:
    """The layers of a network in the order in which it computes them, at test time; those
    of training only are last, with their parameters only.

    Args:
      module: the network, built with `cnnjax.nn.operations.PLAIN`.
      image_shape: (height, width, channels).
    """
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    variables = jax.eval_shape(
        lambda images: module.init(jax.random.key(0), images, train=False), images
    )

    def run(images: Any, variables: Any) -> Any:
        return module.apply(variables, images, train=False, capture=ALL_ENDPOINTS)

    program = jax.make_jaxpr(run)(images, variables).jaxpr
    sizes = _parameters(variables["params"])
    by_name: dict[str, Layer] = {}
    normalizing = set()
    start = {program.invars[0]: Origin(receptive_fields.image(), (IMAGE,))}
    for scope, equation, origin in _walk(program, start, ""):
        if origin.field and scope:
            _add(by_name, scope, equation, origin)
        elif equation.primitive.name == "rsqrt":  # of running variances
            normalizing.add(scope)
    for name, layer in by_name.items():
        layer.parameters = sizes.pop(name, 0)
        if name in normalizing:
            layer.kind = "normalization"
        if layer.dense_parameters and not _has_bias(variables["params"], name):
            layer.dense_parameters -= math.prod(layer.output_shape)
    in_training = [Layer(name, IN_TRAINING, (), size, 0, 0, 0, {}) for name, size in sizes.items()]
    return [*by_name.values(), *in_training]


def totals(layers: Sequence[Layer]) -> dict[str, int]:
    """The sums over layers of parameters, multiply-adds and bytes."""
    names = ("parameters", "multiply_adds", "multiply_adds_inside", "activation_bytes")
    return {name: sum(getattr(layer, name) for layer in layers) for name in names}


@functools.cache
def multiply_adds(module: nn.Module, image_shape: tuple[int, int, int]) -> int:
    """The multiply-adds of a network for one image [H, W, C], forward; see `layers`."""
    return totals(layers(module, image_shape))["multiply_adds"]


def dense_parameters(inputs: Sequence[int], outputs: Sequence[int]) -> int:
    """The number of parameters of a fully connected layer between maps of two shapes.

    Example: from 300x300x1 to 300x300x1 it is 8,100,090,000, of which 90,000 are biases; a 5x5
    convolution has 26.
    """
    units = math.prod(outputs)
    return math.prod(inputs) * units + units


def _has_bias(params: Mapping[str, Any], name: str) -> bool:
    for part in name.split("/"):
        params = params[part]
    return "bias" in params


def _add(by_name: dict[str, Layer], scope: str, equation: Any, origin: Origin) -> None:
    """Adds an operation to the layer `scope`."""
    output, field = equation.outvars[0].aval, origin.field
    layer = by_name.pop(scope, None) or Layer(scope, "elementwise", (), 0, 0, 0, 0, {})
    by_name[scope] = layer  # in the order of their last operations
    kind = _kind(equation)
    if kind and (layer.kind == "elementwise" or kind in ("concatenation", "max unpooling")):
        layer.kind = kind
    layer.output_shape = tuple(output.shape[1:])
    layer.activation_bytes = 4 * math.prod(output.shape)
    layer.receptive_field = {
        "size": tuple(side.size for side in field),
        "stride": tuple(math.ceil(side.stride) for side in field),
        "offset": tuple(math.ceil(side.low) for side in field),
    }
    layer.inputs = tuple(dict.fromkeys((*layer.inputs, *origin.sources)))
    layer.inputs = tuple(name for name in layer.inputs if name != scope)
    if window := _window(equation):
        layer.window = window
    if layer.kind == kind and kind in ("convolution", TRANSPOSED):
        layer.dense_parameters = dense_parameters(
            equation.invars[0].aval.shape[1:], output.shape[1:]
        )
    nominal, inside = _multiply_adds(equation)
    layer.multiply_adds += nominal
    layer.multiply_adds_inside += inside


def _kind(equation: Any) -> str | None:
    """The kind of an operation; None if it is elementwise or less."""
    name = equation.primitive.name
    if name == "conv_general_dilated" and set(equation.params["lhs_dilation"]) != {1}:
        return TRANSPOSED
    resizes = equation.params.get("name")
    return resizes if resizes in RESIZES else KINDS.get(name)


def _window(equation: Any) -> dict[str, tuple[int, ...]]:
    """The window of a convolution or of a reduction over windows, along the image."""
    params = equation.params
    if equation.primitive.name == "conv_general_dilated":
        kernel, dims = equation.invars[1].aval.shape, params["dimension_numbers"].rhs_spec[2:]
        size = tuple(kernel[dim] for dim in dims)
        strides = "lhs_dilation" if _kind(equation) == TRANSPOSED else "window_strides"
        return {"size": size, "stride": tuple(params[strides])}
    if equation.primitive.name.startswith("reduce_window"):
        return {
            "size": tuple(params["window_dimensions"][1:3]),
            "stride": tuple(params["window_strides"][1:3]),
        }
    return {}


def _walk(jaxpr: Any, origins: dict[Any, Origin], outer: str) -> Iterator[tuple[str, Any, Origin]]:
    """(path of the layer, operation, field of its result and layers of its inputs) of all
    operations, also in called jaxprs."""
    for equation in jaxpr.eqns:
        stack = "/".join(filter(None, (outer, str(equation.source_info.name_stack))))
        operands = [
            Origin() if hasattr(variable, "val") else origins.get(variable, Origin())
            for variable in equation.invars
        ]
        inner = None if equation.params.get("name") in RESIZES else _called(equation.params)
        if inner is None:
            field = receptive_fields.after(equation, [operand.field for operand in operands])
            sources = tuple(dict.fromkeys(name for operand in operands for name in operand.sources))
            path = _path(stack)
            result = Origin(field, (path,) if path and field else sources)
            origins |= dict.fromkeys(equation.outvars, result)
            yield path, equation, Origin(field, sources)
            continue
        inner_origins = dict(zip(inner.invars, operands[-len(inner.invars) :], strict=True))
        yield from _walk(inner, inner_origins, stack)
        origins |= {
            outer_result: inner_origins.get(inner_result, Origin())
            for outer_result, inner_result in zip(equation.outvars, inner.outvars, strict=True)
            if not hasattr(inner_result, "val")
        }


def _called(params: Mapping[str, Any]) -> Any:
    """The jaxpr that an operation calls, or None."""
    for name in ("jaxpr", "call_jaxpr"):
        if name in params:
            return getattr(params[name], "jaxpr", params[name])
    return None


def _path(stack: str) -> str:
    """The path of a module in the network, from name scopes; those of methods are
    `module.method`, of which only separate trunks are modules of their own."""
    parts = [
        part.removesuffix(".features") if part.startswith("trunks_") else part
        for part in stack.split("/")[1:]
    ]
    return "/".join(part for part in parts if "." not in part and "(" not in part)


def _parameters(params: Mapping[str, Any]) -> dict[str, int]:
    """{path of a module: number of its parameters, without those of submodules}"""
    sizes: dict[str, int] = {}
    for path, leaf in jax.tree.leaves_with_path(params):
        owner = jax.tree_util.keystr(path[:-1], simple=True, separator="/")
        sizes[owner] = sizes.get(owner, 0) + leaf.size
    return sizes


def _multiply_adds(equation: Any) -> tuple[int, int]:
    """The multiply-adds of an operation with and without the padding."""
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
    nominal = inside = (
        kernel[numbers.rhs_spec[1]] * output[numbers.out_spec[1]] * output[numbers.out_spec[0]]
    )
    for axis in range(len(params["window_strides"])):
        length, factor = image[numbers.lhs_spec[2 + axis]], params["lhs_dilation"][axis]
        starts = np.arange(output[numbers.out_spec[2 + axis]]) * params["window_strides"][axis]
        offsets = np.arange(kernel[numbers.rhs_spec[2 + axis]]) * params["rhs_dilation"][axis]
        pixels, between = np.divmod(starts[:, None] + offsets - params["padding"][axis][0], factor)
        nominal *= pixels.size if factor == 1 else length * offsets.size
        inside *= int(((pixels >= 0) & (pixels < length) & (between == 0)).sum())
    return nominal, inside
