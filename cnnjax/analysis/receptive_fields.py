"""Receptive fields by arithmetic on a network's program, whatever its branches.

A unit at place p of a feature map sees, along one side of the image, the pixels from
stride * p + low to stride * p + high. Every operation of the program says how these three numbers
change; where branches meet, a unit sees what it sees through either.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

Shape = tuple[int, ...]


class Side(NamedTuple):
    """What a unit sees along one side of the image: through the dimension `dim` of its array, or,
    with `dim` None (and stride 0), the same at all places."""

    dim: int | None
    stride: int
    low: int
    high: int

    @property
    def size(self) -> int:
        """The number of pixels; some may lie outside of the image."""
        return self.high - self.low + 1

    def windowed(self, dim: int, size: int, stride: int, before: int, dilation: int = 1) -> "Side":
        """After a window of `size` places (`dilation` apart), with `before` places added."""
        size, stride, before, dilation = map(int, (size, stride, before, dilation))
        reach = self.stride * (size - 1) * dilation
        moved = self.stride * before
        return Side(dim, self.stride * stride, self.low - moved, self.high - moved + reach)

    def whole(self, length: int) -> "Side":
        """After something that looks at all `length` places."""
        return Side(None, 0, self.low, self.high + self.stride * (length - 1))


Field = tuple[Side, ...]
"""One `Side` for the height and one for the width; () where the image is not seen."""


def image(batch_dims: int = 1) -> Field:
    """The field of the image [B, H, W, C] itself."""
    return tuple(Side(batch_dims + axis, 1, 0, 0) for axis in (0, 1))


def merge(fields: Sequence[tuple[Field, Shape]]) -> Field:
    """What is seen through any of several arrays that meet element by element."""
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
    """The field of what one operation of a program gives, from those of its operands. An operation
    that is not known is taken to look at everything, unless it keeps the shape."""
    if not any(fields):
        return ()
    shapes = [tuple(variable.aval.shape) for variable in equation.invars]
    out = tuple(equation.outvars[0].aval.shape)
    seen = list(zip(fields, shapes, strict=True))
    if rule := _RULES.get(equation.primitive.name):
        return rule(equation.params, fields, shapes, out)
    if all(shape == out for field, shape in seen if field):
        return merge(seen)
    return merge([(_collapsed(field, shape), shape) for field, shape in seen])


def _joined(params: Mapping[str, Any], fields: Any, shapes: Any, out: Shape) -> Field:
    """Side by side in a dimension: of the channels that is a merging, of a side of the image
    everything is seen."""
    seen = list(zip(fields, shapes, strict=True))
    if any(side.dim == params["dimension"] for field in fields for side in field):
        seen = [(_collapsed(field, shape), shape) for field, shape in seen]
    return merge(seen)


def _collapsed(field: Field, shape: Shape) -> Field:
    return tuple(side if side.dim is None else side.whole(shape[side.dim]) for side in field)


def _moved(field: Field, shape: Shape, to: Callable[[int], int | None]) -> Field:
    """The same field in an array whose dimensions lie elsewhere; a dimension that is gone (None)
    has been looked at as a whole."""
    moved = []
    for side in field:
        place = None if side.dim is None else to(side.dim)
        if side.dim is not None and place is None:
            moved.append(side.whole(shape[side.dim]))
        else:
            moved.append(side._replace(dim=place))
    return tuple(moved)


def _convolution(params: Mapping[str, Any], fields: Any, shapes: Any, out: Shape) -> Field:
    (field, *_), (shape, kernel) = fields, shapes
    numbers = params["dimension_numbers"]
    if any(dilation != 1 for dilation in params["lhs_dilation"]):
        return _collapsed(field, shape)
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

    def to(dim: int) -> int | None:
        return None if dim in axes else dim - sum(axis < dim for axis in axes)

    return _moved(fields[0], shapes[0], to)


def _broadcast(params: Mapping[str, Any], fields: Any, shapes: Any, out: Shape) -> Field:
    places = params["broadcast_dimensions"]
    return _moved(
        fields[0],
        shapes[0],
        lambda dim: places[dim] if out[places[dim]] == shapes[0][dim] else None,
    )


def _transpose(params: Mapping[str, Any], fields: Any, shapes: Any, out: Shape) -> Field:
    return _moved(fields[0], shapes[0], params["permutation"].index)


def _reshape(params: Mapping[str, Any], fields: Any, shapes: Any, out: Shape) -> Field:
    shape = shapes[0]

    def to(dim: int) -> int | None:
        before = math.prod(shape[:dim])
        return next(
            (
                place
                for place, length in enumerate(out)
                if length == shape[dim] and math.prod(out[:place]) == before
            ),
            None,
        )

    return _moved(fields[0], shape, to)


def _dot(params: Mapping[str, Any], fields: Any, shapes: Any, out: Shape) -> Field:
    contracted, batched = params["dimension_numbers"]
    placed = []
    for operand, (field, shape) in enumerate(zip(fields, shapes, strict=True)):
        free = [
            dim for dim in range(len(shape)) if dim not in (*contracted[operand], *batched[operand])
        ]
        first = len(batched[0]) + (
            0 if operand == 0 else len(shapes[0]) - len(contracted[0]) - len(batched[0])
        )
        order = {dim: place for place, dim in enumerate(batched[operand])}
        order |= {dim: first + place for place, dim in enumerate(free)}
        placed.append((_moved(field, shape, order.get), out))
    return merge(placed)


_RULES: dict[str, Callable[..., Field]] = {
    "conv_general_dilated": _convolution,
    "dot_general": _dot,
    "concatenate": _joined,
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
