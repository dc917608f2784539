"""Max pooling over 2x2 windows with stride 2, native on a CPU.

The pooling gives the largest elements and their places. Its derivative takes the tangents at these
places, which is linear, and the transpose of that puts numbers back to their places: three
primitives, with derivatives of every kind and order. Elsewhere they are slices and selections.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.extend.core import Primitive
from jax.interpreters import ad, batching

from cnnjax.nn import pooling
from cnnjax.nn.native import lowering
from cnnjax.nn.pooling import HALVE, Window


def max_pool(x: Array, window: Window = HALVE) -> Array:
    """`cnnjax.nn.pooling.max_pool`, which it is for windows other than 2x2 with stride 2."""
    return _max(x)[0] if window == HALVE else pooling.max_pool(x, window)


def _largest(x: Array) -> tuple[Array, Array]:
    a, b, c, d = pooling.windows(x)
    largest, place = a, jnp.zeros(a.shape, jnp.uint8)
    for number, other in enumerate((b, c, d), start=1):
        keep = (largest >= other) | (largest != largest)
        largest = jnp.where(keep, largest, other)
        place = jnp.where(keep, place, jnp.uint8(number))
    return largest, place


def _take(x: Array, place: Array) -> Array:
    a, b, c, d = pooling.windows(x)
    odd = (place & 1).astype(bool)
    return jnp.where(place >= 2, jnp.where(odd, d, c), jnp.where(odd, b, a))


def _put(y: Array, place: Array, *, size: tuple[int, int]) -> Array:
    batch, _, _, channels = y.shape
    unknown = jax.ShapeDtypeStruct((batch, *size, channels), y.dtype)
    return jax.linear_transpose(lambda x: _take(x, place), unknown)(y)[0]


def _small(x: Any) -> tuple[int, int, int, int]:
    batch, height, width, channels = x.shape
    return batch, height // 2, width // 2, channels


def _make(name: str, reference: Any, function: str, several: bool = False) -> Primitive:
    primitive = Primitive(f"native_{name}")
    primitive.multiple_results = several
    primitive.def_impl(jax.jit(primitive.bind, static_argnames=("size",)))
    lowering.register(primitive, function, reference, lowering.if_known)

    def batch(operands: Any, axes: Any, **params: Any) -> Any:
        """One more axis of examples is as many more examples."""
        pairs = list(zip(operands, axes, strict=True))
        count = next(operand.shape[axis] for operand, axis in pairs if axis is not None)
        stacked = [
            jnp.broadcast_to(operand, (count, *operand.shape))
            if axis is None
            else jnp.moveaxis(operand, axis, 0)
            for operand, axis in pairs
        ]
        joined = [one.reshape(count * one.shape[1], *one.shape[2:]) for one in stacked]
        found = primitive.bind(*joined, **params)
        split = jax.tree.map(
            lambda one: one.reshape(count, stacked[0].shape[1], *one.shape[1:]), found
        )
        return split, jax.tree.map(lambda _: 0, split)

    batching.primitive_batchers[primitive] = batch
    return primitive


_MAX = _make("max_pool", _largest, "pool_max", several=True)
_TAKE = _make("max_pool_take", _take, "pool_take")
_PUT = _make("max_pool_put", _put, "pool_put")

_MAX.def_abstract_eval(
    lambda x: [
        x.update(shape=_small(x), weak_type=False),
        x.update(shape=_small(x), dtype=jnp.dtype("uint8"), weak_type=False),
    ]
)
_TAKE.def_abstract_eval(lambda x, place: x.update(shape=place.shape, weak_type=False))
_PUT.def_abstract_eval(
    lambda y, place, size: y.update(shape=(y.shape[0], *size, y.shape[3]), weak_type=False)
)


@jax.custom_jvp
def _max(x: Array) -> tuple[Array, Array]:
    largest, place = _MAX.bind(x)
    return largest, place


@_max.defjvp
def _max_jvp(primals: tuple[Array], tangents: tuple[Array]) -> Any:
    largest, place = _max(*primals)
    nothing = np.zeros(place.shape, jax.dtypes.float0)
    return (largest, place), (_TAKE.bind(*tangents, place), nothing)


def _take_transpose(cotangent: Any, x: Any, place: Array) -> Any:
    if isinstance(cotangent, ad.Zero):
        return ad.Zero(x.aval), None
    return _PUT.bind(cotangent, place, size=x.aval.shape[1:3]), None


def _put_transpose(cotangent: Any, y: Any, place: Array, *, size: tuple[int, int]) -> Any:
    if isinstance(cotangent, ad.Zero):
        return ad.Zero(y.aval), None
    return _TAKE.bind(cotangent, place), None


ad.defjvp(_TAKE, lambda tangent, x, place: _TAKE.bind(tangent, place), None)
ad.defjvp(_PUT, lambda tangent, y, place, size: _PUT.bind(tangent, place, size=size), None)
ad.primitive_transposes[_TAKE] = _take_transpose
ad.primitive_transposes[_PUT] = _put_transpose
