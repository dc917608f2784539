"""`jax.lax.conv_general_dilated`, native on a CPU.

A convolution y = x * k is bilinear, so that <y, w> is linear in each of x, k and w: the output is
its gradient to w, and the other two gradients are the convolution's own. One primitive stands for
each of the three, named after what it computes. Differentiating one gives the others, in forward
and reverse mode and to any order, where `jax.custom_vjp` would give the first derivative in reverse
mode alone.

On a CPU they are computed by oneDNN. Everywhere else, under `jax.vmap`, on several devices, and for
what oneDNN does not know, they are XLA's convolution and its transposes.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array, lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching

from cnnjax.nn.native import library, lowering

ONE = (1, 1)
Pairs = Sequence[tuple[int, int]]
OUTPUT, INPUT, KERNEL = range(3)
TYPES = {"float32": 3, "bfloat16": 2}  # dnnl_data_type_t


class Window(NamedTuple):
    """Where the kernel is laid: all for (height, width)."""

    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    groups: int


class Shapes(NamedTuple):
    """Output [B, H', W', O], input [B, H, W, I] and kernel [h, w, I / groups, O]."""

    output: tuple[int, ...]
    input: tuple[int, ...]
    kernel: tuple[int, ...]


def output_of(x: Array, kernel: Array, window: Window) -> Array:
    """The convolution of x [B, H, W, I] and kernel [h, w, I / groups, O]: [B, H', W', O]."""
    shape = jax.eval_shape(functools.partial(_xla, window=window), x, kernel).shape
    shapes = Shapes(shape, x.shape, kernel.shape)
    return _PRIMITIVES[OUTPUT].bind(x, kernel, shapes=shapes, window=window)


def input_of(kernel: Array, output: Array, shape: tuple[int, ...], window: Window) -> Array:
    """The gradient of <conv(x, kernel), output> to x, which has this shape."""
    shapes = Shapes(output.shape, shape, kernel.shape)
    return _PRIMITIVES[INPUT].bind(kernel, output, shapes=shapes, window=window)


def _xla(x: Array, kernel: Array, window: Window) -> Array:
    return lax.conv_general_dilated(
        x,
        kernel,
        window.strides,
        window.padding,
        rhs_dilation=window.dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=window.groups,
    )


def _reference(first: Array, second: Array, *, role: int, shapes: Shapes, window: Window) -> Array:
    """The same by XLA's convolution."""
    if role == OUTPUT:
        return _xla(first, second, window)
    if role == INPUT:
        linear = functools.partial(_xla, kernel=first, window=window)
    else:
        linear = functools.partial(_xla, first, window=window)
    unknown = jax.ShapeDtypeStruct(shapes[role], first.dtype)
    return jax.linear_transpose(linear, unknown)(second)[0]


def _operands(role: int) -> tuple[int, int]:
    """The roles of a primitive's operands: (input, kernel, output) without its own."""
    first, second = (other for other in (INPUT, KERNEL, OUTPUT) if other != role)
    return first, second


def _make(role: int) -> Primitive:
    primitive = Primitive(f"native_convolution_{('output', 'input', 'kernel')[role]}")
    primitive.def_impl(jax.jit(primitive.bind, static_argnames=("shapes", "window")))
    primitive.def_abstract_eval(
        lambda first, second, shapes, window: first.update(shape=shapes[role], weak_type=False)
    )
    reference = functools.partial(_reference, role=role)

    def batch(operands: Any, axes: Any, **params: Any) -> tuple[Array, int]:
        return jax.vmap(functools.partial(reference, **params), in_axes=axes)(*operands), 0

    batching.primitive_batchers[primitive] = batch
    lowering.register(primitive, "convolution", reference, functools.partial(_numbers, role))
    return primitive


def _transpose(role: int, unknown: int) -> Any:
    """The rule that carries a cotangent of primitive `role` to its operand `unknown`."""
    wanted = _operands(role)[unknown]

    def rule(cotangent: Array, first: Any, second: Any, **params: Any) -> Array:
        known = second if unknown == 0 else first
        values = {role: cotangent, _operands(role)[1 - unknown]: known}
        return _PRIMITIVES[wanted].bind(*(values[place] for place in _operands(wanted)), **params)

    return rule


def _numbers(
    role: int, first: Any, second: Any, *, shapes: Shapes, window: Window
) -> dict[str, np.ndarray] | None:
    """What the C++ side calls a key; None for what oneDNN does not know."""
    batch, height, width, inputs = shapes.input
    _, rows, columns, outputs = shapes.output
    sizes = (batch, height, width, inputs, rows, columns, outputs, *shapes.kernel[:2])
    padding = (*window.padding[0], *window.padding[1])
    places = (*window.strides, *window.dilation, *padding, window.groups)
    numbers = np.array([role, TYPES[str(first.dtype)], *sizes, *places], np.int64)
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
    precision: Any = None,
) -> Array:
    """`jax.lax.conv_general_dilated`, native where that exists and XLA's otherwise.

    Native: [B, H, W, I] with [h, w, I / groups, O] to [B, H', W', O], both operands float32 or both
    bfloat16. With `lhs_dilation`, as in a transposed convolution, the strides have to be 1.
    """
    strides, before = tuple(window_strides), tuple(lhs_dilation or ONE)
    if _fits(lhs, rhs, dimension_numbers) and (before == ONE or not isinstance(padding, str)):
        dilation = tuple(rhs_dilation or ONE)
        reach = tuple((size - 1) * gap + 1 for size, gap in zip(rhs.shape, dilation, strict=False))
        if isinstance(padding, str):
            padding = lax.padtype_to_pads(lhs.shape[1:3], reach, strides, padding)
        pairs = tuple((int(low), int(high)) for low, high in padding)
        if before == ONE and _not_negative(pairs):
            window = Window(strides, dilation, pairs, feature_group_count)
            return output_of(lhs, rhs, window)
        turned = tuple(
            (size - 1 - low, size - 1 - high)
            for size, (low, high) in zip(reach, pairs, strict=True)
        )
        if strides == ONE and _not_negative(turned):
            window = Window(before, dilation, turned, feature_group_count)
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
        precision=precision,
    )


def _transposed(
    x: Array, kernel: Array, reach: tuple[int, ...], padding: Pairs, window: Window
) -> Array:
    """The convolution whose input has gaps: the gradient to the input of the one with strides, with
    the kernel turned by 180 degrees and its channels exchanged."""
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


def _fits(lhs: Array, rhs: Array, dimension_numbers: Any) -> bool:
    if lhs.ndim != 4 or lhs.dtype != rhs.dtype or str(lhs.dtype) not in TYPES:
        return False
    usual = lax.conv_dimension_numbers(lhs.shape, rhs.shape, ("NHWC", "HWIO", "NHWC"))
    return lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers) == usual


def _not_negative(padding: Pairs) -> bool:
    return min(number for pair in padding for number in pair) >= 0
