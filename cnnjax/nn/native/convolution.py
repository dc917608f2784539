"""The native convolution in the form of `jax.lax.conv_general_dilated`."""

from collections.abc import Sequence
from typing import Any

from jax import Array, lax

from cnnjax.nn.native import primitives
from cnnjax.nn.native.primitives import Window

ONE = (1, 1)
Pairs = Sequence[tuple[int, int]]


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
            return primitives.output_of(lhs, rhs, window)
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
    return primitives.input_of(kernel, x, (batch, *sizes, outputs), window)


def _fits(lhs: Array, rhs: Array, dimension_numbers: Any) -> bool:
    if lhs.ndim != 4 or lhs.dtype != rhs.dtype or str(lhs.dtype) not in primitives.TYPES:
        return False
    usual = lax.conv_dimension_numbers(lhs.shape, rhs.shape, ("NHWC", "HWIO", "NHWC"))
    return lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers) == usual


def _not_negative(padding: Pairs) -> bool:
    return min(number for pair in padding for number in pair) >= 0
