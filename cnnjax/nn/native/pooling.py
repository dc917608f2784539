"""Max pooling over 2x2 windows with stride 2, native on a CPU.

The pooling returns the largest elements and their indices in the windows. Its derivative gathers
the tangents at these indices, which is linear, and the transpose of that scatters them: three
primitives, with derivatives of every kind and order. On other backends they are plain slices.
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
    """`cnnjax.nn.pooling.max_pool`; native for windows of 2x2 with stride 2."""
    return _max(x)[0] if window == HALVE else pooling.max_pool(x, window)


def _largest(x: Array) -> tuple[Array, Array]:
    a, b, c, d = pooling.windows(x)
    largest, index = a, jnp.zeros(a.shape, jnp.uint8)
    for number, element in enumerate((b, c, d), start=1):
        keep = (largest >= element) | (largest != largest)
        largest = jnp.where(keep, largest, element)
        index = jnp.where(keep, index, jnp.uint8(number))
    return largest, index


def _take(x: Array, index: Array) -> Array:
    a, b, c, d = pooling.windows(x)
    odd = (index & 1).astype(bool)
    return jnp.where(index >= 2, jnp.where(odd, d, c), jnp.where(odd, b, a))


def _put(y: Array, index: Array, *, size: tuple[int, int]) -> Array:
    batch, _, _, channels = y.shape
    pooled_from = jax.ShapeDtypeStruct((batch, *size, channels), y.dtype)
    return jax.linear_transpose(lambda x: _take(x, index), pooled_from)(y)[0]


def _pooled_shape(x: Any) -> tuple[int, int, int, int]:
    batch, height, width, channels = x.shape
    return batch, height // 2, width // 2, channels


def _make(name: str, reference: Any, function: str, **options: Any) -> Primitive:
    primitive = lowering.primitive(name, reference, function, **options)

    def batch(operands: Any, axes: Any, **params: Any) -> Any:
        """Merges the mapped axis into that of the examples."""
        pairs = list(zip(operands, axes, strict=True))
        count = next(operand.shape[axis] for operand, axis in pairs if axis is not None)
        stacked = [batching.bdim_at_front(operand, axis, count) for operand, axis in pairs]
        merged = [array.reshape(count * array.shape[1], *array.shape[2:]) for array in stacked]
        results = primitive.bind(*merged, **params)
        split = jax.tree.map(
            lambda array: array.reshape(count, stacked[0].shape[1], *array.shape[1:]), results
        )
        return split, jax.tree.map(lambda _: 0, split)

    batching.primitive_batchers[primitive] = batch
    return primitive


_MAX = _make("max_pool", _largest, "pool_max", multiple_results=True)
_TAKE = _make("max_pool_take", _take, "pool_take")
_PUT = _make("max_pool_put", _put, "pool_put", static=("size",))

_MAX.def_abstract_eval(
    lambda x: [
        x.update(shape=_pooled_shape(x), weak_type=False),
        x.update(shape=_pooled_shape(x), dtype=jnp.dtype("uint8"), weak_type=False),
    ]
)
_TAKE.def_abstract_eval(lambda x, index: x.update(shape=index.shape, weak_type=False))
_PUT.def_abstract_eval(
    lambda y, index, size: y.update(shape=(y.shape[0], *size, y.shape[3]), weak_type=False)
)


@jax.custom_jvp
def _max(x: Array) -> tuple[Array, Array]:
    largest, index = _MAX.bind(x)
    return largest, index


@_max.defjvp
def _max_jvp(primals: tuple[Array], tangents: tuple[Array]) -> Any:
    largest, index = _max(*primals)
    no_tangent = np.zeros(index.shape, jax.dtypes.float0)
    return (largest, index), (_TAKE.bind(*tangents, index), no_tangent)


ad.deflinear2(
    _TAKE, lambda cotangent, x, index: (_PUT.bind(cotangent, index, size=x.aval.shape[1:3]), None)
)
ad.deflinear2(_PUT, lambda cotangent, y, index, size: (_TAKE.bind(cotangent, index), None))
# `deflinear2` takes them for linear in both arguments; these are the derivatives.
ad.defjvp(_TAKE, lambda tangent, x, index: _TAKE.bind(tangent, index), None)
ad.defjvp(_PUT, lambda tangent, y, index, size: _PUT.bind(tangent, index, size=size), None)
