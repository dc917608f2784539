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
Params = Mapping[str, Any]


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

    def whole(self, shape: Shape) -> "Side":
        """After an operation on all elements of its dimension, of an array of this shape."""
        length = 1 if self.dim is None else shape[self.dim]
        return Side(None, 0, self.low, self.high + self.stride * (length - 1))

    def moved(self, shape: Shape, dim: int | None) -> "Side":
        """After its dimension, of an array of this shape, became `dim`, or was reduced (None)."""
        return self.whole(shape) if dim is None else self._replace(dim=dim)


Field = tuple[Side, ...]
"""One `Side` for the height and one for the width; () if the image is not seen."""


def image() -> Field:
    """The field of the image [B, H, W, C] itself."""
    return Side(1, 1, 0, 0), Side(2, 1, 0, 0)


def merge(fields: Sequence[tuple[Field, Shape]]) -> Field:
    """The field of an elementwise operation on several arrays."""
    seen = [(field, shape) for field, shape in fields if field]
    if not seen:
        return ()
    merged = []
    for sides in zip(*(field for field, _ in seen), strict=True):
        if len({(side.dim, side.stride) for side in sides}) > 1:
            sides = tuple(side.whole(shape) for side, (_, shape) in zip(sides, seen, strict=True))
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
    name, params = equation.primitive.name, equation.params
    rule = _resize if params.get("name") in RESIZES else _SIDE_RULES.get(name)
    if rule is not None:
        return tuple(
            side if side.dim is None else rule(side, side.dim, params, shapes, out)
            for side in fields[0]
        )
    if name in _RULES:
        return _RULES[name](params, fields, shapes, out)
    seen = list(zip(fields, shapes, strict=True))
    if all(shape == out for field, shape in seen if field):
        return merge(seen)
    return merge([(_whole(field, shape), shape) for field, shape in seen])


def _concatenate(params: Params, fields: Any, shapes: Any, out: Shape) -> Field:
    """Along the channels as an elementwise operation; along a side of the image all of it is
    seen."""
    seen = list(zip(fields, shapes, strict=True))
    if any(side.dim == params["dimension"] for field in fields for side in field):
        seen = [(_whole(field, shape), shape) for field, shape in seen]
    return merge(seen)


def _whole(field: Field, shape: Shape) -> Field:
    """After an operation on all elements of the array."""
    return tuple(side.whole(shape) for side in field)


def _unpool(params: Params, fields: Any, shapes: Any, out: Shape) -> Field:
    """A window puts its value on one of its elements, which the operand chooses."""
    sides = []
    for side in fields[0]:
        size, stride = (params[name][side.dim] for name in ("window_dimensions", "window_strides"))
        before = params["padding"][side.dim][0]
        first, last = Fraction(before - size + 1, stride), Fraction(before, stride)
        sides.append(side.upsampled(stride, first, last))
    return merge([(tuple(sides), out), (fields[1], out)])


def _dot(params: Params, fields: Any, shapes: Any, out: Shape) -> Field:
    contracted, batched = params["dimension_numbers"]
    results, first = [], len(batched[0])
    for operand, (field, shape) in enumerate(zip(fields, shapes, strict=True)):
        free = [
            dim for dim in range(len(shape)) if dim not in (*contracted[operand], *batched[operand])
        ]
        dims: dict[int | None, int] = {dim: index for index, dim in enumerate(batched[operand])}
        dims |= {dim: first + index for index, dim in enumerate(free)}
        results.append((tuple(side.moved(shape, dims.get(side.dim)) for side in field), out))
        first += len(free)
    return merge(results)


_RULES: dict[str, Callable[..., Field]] = {
    "concatenate": _concatenate,
    "select_and_scatter_add": _unpool,
    "dot_general": _dot,
}
"""(parameters, fields and shapes of the operands, shape of the result) -> its field."""


def _convolve(side: Side, dim: int, params: Params, shapes: Any, out: Shape) -> Side:
    numbers = params["dimension_numbers"]
    if dim not in numbers.lhs_spec[2:]:
        return side
    axis = numbers.lhs_spec[2:].index(dim)
    size, before = shapes[1][numbers.rhs_spec[2 + axis]], params["padding"][axis][0]
    factor = params["lhs_dilation"][axis]
    if factor != 1:
        first, last = Fraction(-before, factor), Fraction(size - 1 - before, factor)
        return side.upsampled(factor, first, last)
    stride, dilation = params["window_strides"][axis], params["rhs_dilation"][axis]
    return side.windowed(numbers.out_spec[2 + axis], size, stride, before, dilation)


def _window(side: Side, dim: int, params: Params, shapes: Any, out: Shape) -> Side:
    size, stride = params["window_dimensions"][dim], params["window_strides"][dim]
    dilation = params.get("window_dilation", (1,) * len(out))[dim]
    return side.windowed(dim, size, stride, params["padding"][dim][0], dilation)


def _resize(side: Side, dim: int, params: Params, shapes: Any, out: Shape) -> Side:
    """A function of RESIZES, by the first and the last pixel of before that each sees."""
    length, new = shapes[0][dim], out[dim]
    factor = max(1, round(new / length))
    taps = [np.flatnonzero(row) for row in RESIZES[params["name"]](length, new)]
    first = min(int(seen[0]) - Fraction(p, factor) for p, seen in enumerate(taps))
    last = max(int(seen[-1]) - Fraction(p, factor) for p, seen in enumerate(taps))
    return side.upsampled(factor, first, last)


def _slice(side: Side, dim: int, params: Params, shapes: Any, out: Shape) -> Side:
    strides = params["strides"] or (1,) * len(out)
    return side.windowed(dim, 1, strides[dim], -params["start_indices"][dim])


def _pad(side: Side, dim: int, params: Params, shapes: Any, out: Shape) -> Side:
    return side.windowed(dim, 1, 1, params["padding_config"][dim][0])


def _reduce(side: Side, dim: int, params: Params, shapes: Any, out: Shape) -> Side:
    axes = params["axes"]
    return side.moved(shapes[0], None if dim in axes else dim - sum(axis < dim for axis in axes))


def _broadcast(side: Side, dim: int, params: Params, shapes: Any, out: Shape) -> Side:
    new_dim = params["broadcast_dimensions"][dim]
    return side.moved(shapes[0], new_dim if out[new_dim] == shapes[0][dim] else None)


def _transpose(side: Side, dim: int, params: Params, shapes: Any, out: Shape) -> Side:
    return side.moved(shapes[0], params["permutation"].index(dim))


def _reshape(side: Side, dim: int, params: Params, shapes: Any, out: Shape) -> Side:
    shape = shapes[0]
    before = math.prod(shape[:dim])
    same = (
        out_dim
        for out_dim, length in enumerate(out)
        if length == shape[dim] and math.prod(out[:out_dim]) == before
    )
    return side.moved(shape, next(same, None))


_SIDE_RULES: dict[str, Callable[..., Side]] = {
    "conv_general_dilated": _convolve,
    "reduce_window_max": _window,
    "reduce_window_sum": _window,
    "slice": _slice,
    "pad": _pad,
    "reduce_sum": _reduce,
    "reduce_max": _reduce,
    "broadcast_in_dim": _broadcast,
    "transpose": _transpose,
    "reshape": _reshape,
    "squeeze": _reshape,
}
"""(side of the first operand and its dimension, parameters, shapes of the operands, shape of the
result) -> its side."""
