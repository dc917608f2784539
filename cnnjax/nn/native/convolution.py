"""`jax.lax.conv_general_dilated`, native on a CPU.

A convolution y = x * k is bilinear, so <y, w> is linear in each of x, k and w: its gradient with
respect to w is the output, the other two are the gradients of the convolution. There is a primitive
for each of the three, named after what it computes. The derivatives of one are the others, in
forward and reverse mode and to any order; `jax.custom_vjp` would give the first derivative in
reverse mode only.

On a CPU they are computed by oneDNN. On other backends, under `jax.vmap`, on several devices, and
if oneDNN does not support them, they are XLA's convolution and its transposes.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array, lax
from jax.extend.core import Primitive
from jax.interpreters import ad

from cnnjax.nn.convolution import LAYOUT
from cnnjax.nn.native import library, lowering

ONE = (1, 1)
Pairs = Sequence[tuple[int, int]]
OUTPUT, INPUT, KERNEL = range(3)
TYPES = {"float32": 3, "bfloat16": 2}  # dnnl_data_type_t


class ConvWindow(NamedTuple):
    """Where the kernel is applied: all for (height, width)."""

    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    groups: int


class Shapes(NamedTuple):
    """Output [B, H', W', O], input [B, H, W, I] and kernel [h, w, I / groups, O]."""

    output: tuple[int, ...]
    input: tuple[int, ...]
    kernel: tuple[int, ...]


def output_of(x: Array, kernel: Array, window: ConvWindow) -> Array:
    """The convolution of x [B, H, W, I] and kernel [h, w, I / groups, O]: [B, H', W', O]."""
    shape = jax.eval_shape(functools.partial(_xla, window=window), x, kernel).shape
    shapes = Shapes(shape, x.shape, kernel.shape)
    return _PRIMITIVES[OUTPUT].bind(x, kernel, shapes=shapes, window=window)


def input_of(kernel: Array, output: Array, shape: tuple[int, ...], window: ConvWindow) -> Array:
    """The gradient of <conv(x, kernel), output> with respect to x, which has this shape."""
    shapes = Shapes(output.shape, shape, kernel.shape)
    return _PRIMITIVES[INPUT].bind(kernel, output, shapes=shapes, window=window)


def _xla(x: Array, kernel: Array, window: ConvWindow) -> Array:
    return lax.conv_general_dilated(
        x,
        kernel,
        window.strides,
        window.padding,
        rhs_dilation=window.dilation,
        dimension_numbers=LAYOUT,
        feature_group_count=window.groups,
    )


def _reference(
    first: Array, second: Array, *, role: int, shapes: Shapes, window: ConvWindow
) -> Array:
    """The primitive by XLA's convolution."""
    if role == OUTPUT:
        return _xla(first, second, window)
    if role == INPUT:
        linear = functools.partial(_xla, kernel=first, window=window)
    else:
        linear = functools.partial(_xla, first, window=window)
    result = jax.ShapeDtypeStruct(shapes[role], first.dtype)
    return jax.linear_transpose(linear, result)(second)[0]


def _operands(role: int) -> tuple[int, int]:
    """The roles of a primitive's operands: (input, kernel, output) without its own."""
    first, second = (operand for operand in (INPUT, KERNEL, OUTPUT) if operand != role)
    return first, second


def _make(role: int) -> Primitive:
    primitive = lowering.primitive(
        f"convolution_{('output', 'input', 'kernel')[role]}",
        functools.partial(_reference, role=role),
        "convolution",
        functools.partial(_numbers, role),
        static=("shapes", "window"),
    )
    primitive.def_abstract_eval(
        lambda first, second, shapes, window: first.update(shape=shapes[role], weak_type=False)
    )
    return primitive


def _transpose(role: int, index: int) -> Any:
    """The transpose of primitive `role` in its operand number `index`."""
    target = _operands(role)[index]

    def rule(cotangent: Array, first: Any, second: Any, **params: Any) -> Array:
        constant = second if index == 0 else first
        values = {role: cotangent, _operands(role)[1 - index]: constant}
        return _PRIMITIVES[target].bind(
            *(values[operand] for operand in _operands(target)), **params
        )

    return rule


def _numbers(
    role: int, first: Any, second: Any, *, shapes: Shapes, window: ConvWindow
) -> dict[str, np.ndarray] | None:
    """The `Key` of the C++ code; None if oneDNN does not support the convolution."""
    batch, height, width, inputs = shapes.input
    _, rows, columns, outputs = shapes.output
    sizes = (batch, height, width, inputs, rows, columns, outputs, *shapes.kernel[:2])
    padding = (*window.padding[0], *window.padding[1])
    position = (*window.strides, *window.dilation, *padding, window.groups)
    numbers = np.array([role, TYPES[str(first.dtype)], *sizes, *position], np.int64)
    return {"numbers": numbers} if library.supports(numbers) else None


_PRIMITIVES = [_make(role) for role in range(3)]
for _role in range(3):
    ad.defbilinear(_PRIMITIVES[_role], _transpose(_role, 0), _transpose(_role, 1))


def conv_general_dilated(
    lhs: Array,
    rhs: Array,
    window_strides: Sequence[int],
    padding: str | Pairs,
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
) -> Array:
    """`jax.lax.conv_general_dilated`, native if that is supported and XLA's otherwise.

    Native: [B, H, W, I] with [h, w, I / groups, O] to [B, H', W', O], both operands float32 or both
    bfloat16. With `lhs_dilation`, as in a transposed convolution, the strides have to be 1.
    """
    strides, gaps = tuple(window_strides), tuple(lhs_dilation or ONE)
    if _supported(lhs, rhs, dimension_numbers) and (gaps == ONE or not isinstance(padding, str)):
        dilation = tuple(rhs_dilation or ONE)
        reach = tuple((size - 1) * gap + 1 for size, gap in zip(rhs.shape, dilation, strict=False))
        if isinstance(padding, str):
            padding = lax.padtype_to_pads(lhs.shape[1:3], reach, strides, padding)
        pairs = tuple((int(low), int(high)) for low, high in padding)
        if gaps == ONE and _not_negative(pairs):
            window = ConvWindow(strides, dilation, pairs, feature_group_count)
            return output_of(lhs, rhs, window)
        transposed_pairs = tuple(
            (size - 1 - low, size - 1 - high)
            for size, (low, high) in zip(reach, pairs, strict=True)
        )
        if strides == ONE and _not_negative(transposed_pairs):
            window = ConvWindow(gaps, dilation, transposed_pairs, feature_group_count)
            return _transposed(lhs, rhs, reach, pairs, window)
    return lax.conv_general_dilated(
        lhs,
        rhs,
        window_strides,
        padding,
        lhs_dilation,
        rhs_dilation,
        dimension_numbers,
        feature_group_count,
    )


def _transposed(
    x: Array, kernel: Array, reach: tuple[int, ...], padding: Pairs, window: ConvWindow
) -> Array:
    """A convolution with `lhs_dilation`: the gradient with respect to the input of one with
    strides, whose kernel is rotated by 180 degrees and has its channels exchanged."""
    batch, *spatial, _ = x.shape
    height, width, inputs, outputs = kernel.shape
    sizes = [
        (n - 1) * gap + 1 + low + high - size + 1
        for n, gap, size, (low, high) in zip(spatial, window.strides, reach, padding, strict=True)
    ]
    groups = window.groups
    kernel = kernel[::-1, ::-1].reshape(height, width, inputs, groups, outputs // groups)
    kernel = kernel.transpose(0, 1, 4, 3, 2).reshape(height, width, outputs // groups, -1)
    return input_of(kernel, x, (batch, *sizes, outputs), window)


def _supported(lhs: Array, rhs: Array, dimension_numbers: Any) -> bool:
    if lhs.ndim != 4 or lhs.dtype != rhs.dtype or str(lhs.dtype) not in TYPES:
        return False
    standard = lax.conv_dimension_numbers(lhs.shape, rhs.shape, LAYOUT)
    return lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers) == standard


def _not_negative(padding: Pairs) -> bool:
    return min(pixels for pair in padding for pixels in pair) >= 0
