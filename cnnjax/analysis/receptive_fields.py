"""Receptive fields of networks with any branches, by arithmetic on their jaxprs.

A unit at position p of a feature map sees, along one side of the image, the pixels from
stride * p + low to stride * p + high. Every operation changes these three numbers; where branches
meet, a unit sees what it sees through any of them.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

Shape = tuple[int, ...]


class Side(NamedTuple):
    """What a unit sees along one side of the image: by its position in dimension `dim` of
    its array, or with `dim` None (and stride 0) the same at all positions."""

    dim: int | None
    stride: int
    low: int
    high: int

    @property
    def size(self) -> int:
        """The number of pixels; some may be outside the image."""
        return self.high - self.low + 1

    def windowed(self, dim: int, size: int, stride: int, before: int, dilation: int = 1) -> "Side":
        """After a window of `size` elements (`dilation` apart), with `before` elements of
        padding."""
        size, stride, before, dilation = map(int, (size, stride, before, dilation))
        extent = self.stride * (size - 1) * dilation
        shift = self.stride * before
        return Side(dim, self.stride * stride, self.low - shift, self.high - shift + extent)

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
    (field, *_), (shape, kernel) = fields, shapes
    numbers = params["dimension_numbers"]
    if any(dilation != 1 for dilation in params["lhs_dilation"]):
        return _whole(field, shape)
    sides = []
    for side in field:
        if side.dim not in numbers.lhs_spec[2:]:
            sides.append(side)
            continue
        axis = numbers.lhs_spec[2:].index(side.dim)
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
    "slice": _slice,
    "pad": _pad,
    "reduce_sum": _reduce,
    "reduce_max": _reduce,
    "broadcast_in_dim": _broadcast,
    "transpose": _transpose,
    "reshape": _reshape,
    "squeeze": _reshape,
}
