"""Receptive fields of networks with any branches, by arithmetic on their jaxprs.

A unit at position p of a feature map sees, along one side of the image, the pixels from
stride * p + low to stride * p + high. Every operation changes these three numbers; where branches
meet, a unit sees what it sees through any of them. After upsampling the positions see differently
many pixels, and the numbers, fractions then, are bounds: no unit sees more.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from cnnjax.nn.upsampling import RESIZES

Shape = tuple[int, ...]


class Side(NamedTuple):
    """What a unit sees along one side of the image: by its position in dimension `dim` of
    its array, or with `dim` None (and stride 0) the same at all positions."""

    dim: int | None
    stride: int | Fraction
    low: int | Fraction
    high: int | Fraction

    @property
    def size(self) -> int:
        """The number of pixels; some may be outside the image."""
        return math.floor(self.high) - math.ceil(self.low) + 1

    def windowed(self, dim: int, size: int, stride: int, before: int, dilation: int = 1) -> "Side":
        """After a window of `size` elements (`dilation` apart), with `before` elements of
        padding."""
        size, stride, before, dilation = map(int, (size, stride, before, dilation))
        extent = self.stride * (size - 1) * dilation
        shift = self.stride * before
        return Side(dim, self.stride * stride, self.low - shift, self.high - shift + extent)

    def upsampled(self, factor: int, first: Fraction, last: Fraction) -> "Side":
        """After upsampling by a factor, where a unit at position p sees those at p / factor + first
        to p / factor + last of before."""
        low, high = self.low + self.stride * first, self.high + self.stride * last
        return Side(self.dim, Fraction(self.stride) / factor, low, high)

    def whole(self, length: int) -> "Side":
        """After an operation on all `length` elements of the dimension."""
        return Side(None, 0, self.low, self.high + self.stride * (length - 1))


Field = tuple[Side, ...]
"""One `Side` for the height and one for the width; () if the image is not seen."""


def image(batch_dims: int = 1) -> Field:
    """The field of the image [B, H, W, C] itself."""
    return tuple(Side(batch_dims + axis, 1, 0, 0) for axis in (0, 1))


def merge(fields: Sequence[tuple[Field, Shape]]) -> Field:
    """The field of an elementwise operation on several arrays."""
    seen = [(field, shape) for field, shape in fields if field]
    if not seen:
        return ()
    merged = []
    for sides in zip(*(field for field, _ in seen), strict=True):
        if len({(side.dim, side.stride) for side in sides}) > 1:
            sides = tuple(
                side if side.dim is None else side.whole(shape[side.dim])
                for side, (_, shape) in zip(sides, seen, strict=True)
            )
        low, high = min(side.low for side in sides), max(side.high for side in sides)
        merged.append(Side(sides[0].dim, sides[0].stride, low, high))
    return tuple(merged)


def after(equation: Any, fields: Sequence[Field]) -> Field:
    """The field of the result of an operation, from those of its operands. An unknown operation is
    assumed to depend on all elements, unless it keeps the shape."""
    if not any(fields):
        return ()
    shapes = [tuple(variable.aval.shape) for variable in equation.invars]
    out = tuple(equation.outvars[0].aval.shape)
    if equation.params.get("name") in RESIZES:
        return _resized(RESIZES[equation.params["name"]], fields[0], shapes[0], out)
    seen = list(zip(fields, shapes, strict=True))
    if rule := _RULES.get(equation.primitive.name):
        return rule(equation.params, fields, shapes, out)
    if all(shape == out for field, shape in seen if field):
        return merge(seen)
    return merge([(_whole(field, shape), shape) for field, shape in seen])


def _concatenate(params: Mapping[str, Any], fields: Any, shapes: Any, out: Shape) -> Field:
    """Along the channels as an elementwise operation; along a side of the image all of it is
    seen."""
    seen = list(zip(fields, shapes, strict=True))
    if any(side.dim == params["dimension"] for field in fields for side in field):
        seen = [(_whole(field, shape), shape) for field, shape in seen]
    return merge(seen)


def _whole(field: Field, shape: Shape) -> Field:
    """After an operation on all elements of the array."""
    return tuple(side if side.dim is None else side.whole(shape[side.dim]) for side in field)


def _permute(field: Field, shape: Shape, new_dim: Callable[[int], int | None]) -> Field:
    """The field after dimensions were moved, or reduced (None)."""
    sides = []
    for side in field:
        dim = None if side.dim is None else new_dim(side.dim)
        if side.dim is not None and dim is None:
            sides.append(side.whole(shape[side.dim]))
        else:
            sides.append(side._replace(dim=dim))
    return tuple(sides)


def _convolution(params: Mapping[str, Any], fields: Any, shapes: Any, out: Shape) -> Field:
    field, kernel = fields[0], shapes[1]
    numbers = params["dimension_numbers"]
    sides = []
    for side in field:
        if side.dim not in numbers.lhs_spec[2:]:
            sides.append(side)
            continue
        axis = numbers.lhs_spec[2:].index(side.dim)
        factor = params["lhs_dilation"][axis]
        if factor != 1:
            before, size = params["padding"][axis][0], kernel[numbers.rhs_spec[2 + axis]]
            first, last = Fraction(-before, factor), Fraction(size - 1 - before, factor)
            sides.append(side.upsampled(factor, first, last))
            continue
        sides.append(
            side.windowed(
                numbers.out_spec[2 + axis],
                kernel[numbers.rhs_spec[2 + axis]],
                params["window_strides"][axis],
                params["padding"][axis][0],
                params["rhs_dilation"][axis],
            )
        )
    return tuple(sides)


def _window(params: Mapping[str, Any], fields: Any, shapes: Any, out: Shape) -> Field:
    return tuple(
        side
        if side.dim is None
        else side.windowed(
            side.dim,
            params["window_dimensions"][side.dim],
            params["window_strides"][side.dim],
            params["padding"][side.dim][0],
            params.get("window_dilation", (1,) * len(out))[side.dim],
        )
        for side in fields[0]
    )


def _unpool(params: Mapping[str, Any], fields: Any, shapes: Any, out: Shape) -> Field:
    """A window puts its value on one of its elements, which the operand chooses."""
    sides = []
    for side in fields[0]:
        size, stride = (params[name][side.dim] for name in ("window_dimensions", "window_strides"))
        before = params["padding"][side.dim][0]
        first, last = Fraction(before - size + 1, stride), Fraction(before, stride)
        sides.append(side.upsampled(stride, first, last))
    return merge([(tuple(sides), out), (fields[1], out)])


def _resized(
    weights: Callable[[int, int], np.ndarray], field: Field, shape: Shape, out: Shape
) -> Field:
    """After a function of RESIZES, by the first and the last pixel of before that each sees."""
    sides = []
    for side in field:
        length, new = shape[side.dim or 0], out[side.dim or 0]
        factor = max(1, round(new / length))
        taps = [np.flatnonzero(row) for row in weights(length, new)]
        first = min(int(seen[0]) - Fraction(p, factor) for p, seen in enumerate(taps))
        last = max(int(seen[-1]) - Fraction(p, factor) for p, seen in enumerate(taps))
        sides.append(side.upsampled(factor, first, last))
    return tuple(sides)


def _slice(params: Mapping[str, Any], fields: Any, shapes: Any, out: Shape) -> Field:
    strides = params["strides"] or (1,) * len(out)
    return tuple(
        side
        if side.dim is None
        else side.windowed(side.dim, 1, strides[side.dim], -params["start_indices"][side.dim])
        for side in fields[0]
    )


def _pad(params: Mapping[str, Any], fields: Any, shapes: Any, out: Shape) -> Field:
    return tuple(
        side
        if side.dim is None
        else side.windowed(side.dim, 1, 1, params["padding_config"][side.dim][0])
        for side in fields[0]
    )


def _reduce(params: Mapping[str, Any], fields: Any, shapes: Any, out: Shape) -> Field:
    axes = params["axes"]

    def new_dim(dim: int) -> int | None:
        return None if dim in axes else dim - sum(axis < dim for axis in axes)

    return _permute(fields[0], shapes[0], new_dim)


def _broadcast(params: Mapping[str, Any], fields: Any, shapes: Any, out: Shape) -> Field:
    dims = params["broadcast_dimensions"]
    return _permute(
        fields[0],
        shapes[0],
        lambda dim: dims[dim] if out[dims[dim]] == shapes[0][dim] else None,
    )


def _transpose(params: Mapping[str, Any], fields: Any, shapes: Any, out: Shape) -> Field:
    return _permute(fields[0], shapes[0], params["permutation"].index)


def _reshape(params: Mapping[str, Any], fields: Any, shapes: Any, out: Shape) -> Field:
    shape = shapes[0]

    def new_dim(dim: int) -> int | None:
        before = math.prod(shape[:dim])
        return next(
            (
                out_dim
                for out_dim, length in enumerate(out)
                if length == shape[dim] and math.prod(out[:out_dim]) == before
            ),
            None,
        )

    return _permute(fields[0], shape, new_dim)


def _dot(params: Mapping[str, Any], fields: Any, shapes: Any, out: Shape) -> Field:
    contracted, batched = params["dimension_numbers"]
    results = []
    for operand, (field, shape) in enumerate(zip(fields, shapes, strict=True)):
        free = [
            dim for dim in range(len(shape)) if dim not in (*contracted[operand], *batched[operand])
        ]
        first = len(batched[0]) + (
            0 if operand == 0 else len(shapes[0]) - len(contracted[0]) - len(batched[0])
        )
        dims = {dim: index for index, dim in enumerate(batched[operand])}
        dims |= {dim: first + index for index, dim in enumerate(free)}
        results.append((_permute(field, shape, dims.get), out))
    return merge(results)


_RULES: dict[str, Callable[..., Field]] = {
    "conv_general_dilated": _convolution,
    "dot_general": _dot,
    "concatenate": _concatenate,
    "reduce_window_max": _window,
    "reduce_window_sum": _window,
    "select_and_scatter_add": _unpool,
    "slice": _slice,
    "pad": _pad,
    "reduce_sum": _reduce,
    "reduce_max": _reduce,
    "broadcast_in_dim": _broadcast,
    "transpose": _transpose,
    "reshape": _reshape,
    "squeeze": _reshape,
}
