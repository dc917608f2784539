"""Batch normalisation whose sums over the batch are native on a CPU.

Two primitives, each the transpose of the other in its first argument: `sums(a, b, c)` is, for each
channel, the sum of a and that of a * (b - c), in one pass over both; `affine(w, x, c)` is w[0] +
w[1] * (x - c). The statistics of a batch are sums(x, x, 0), normalising is affine with the mean for
c, and the gradients of that are sums(gradient, x, c). XLA on a CPU reads the arrays once for each
of these sums. c is not differentiated.
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array, lax
from jax.interpreters import ad

from cnnjax.nn.native import lowering


def _accumulator(dtype: Any) -> Any:
    """The dtype of sums and statistics: float32 at least."""
    return jnp.promote_types(dtype, jnp.float32)


def _sums(a: Array, b: Array, c: Array) -> Array:
    axes = tuple(range(a.ndim - 1))
    first, second = a.astype(c.dtype), b.astype(c.dtype) - c
    return jnp.stack([first.sum(axes), (first * second).sum(axes)])


def _affine(w: Array, x: Array, c: Array) -> Array:
    return (w[0] + w[1] * (x.astype(c.dtype) - c)).astype(x.dtype)


_SUMS = lowering.primitive("sums", _sums, "sums")
_AFFINE = lowering.primitive("affine", _affine)

_SUMS.def_abstract_eval(
    lambda a, b, c: a.update(shape=(2, a.shape[-1]), dtype=c.dtype, weak_type=False)
)
_AFFINE.def_abstract_eval(lambda w, x, c: x.update(weak_type=False))


def _sums_of_second(tangent: Array, a: Array, b: Array, c: Array) -> Array:
    return _SUMS.bind(tangent, a, jnp.zeros_like(c)).at[0].set(0)


ad.deflinear2(_SUMS, lambda cotangent, a, b, c: (_AFFINE.bind(cotangent, b, c), None, None))
ad.deflinear2(_AFFINE, lambda cotangent, w, x, c: (_SUMS.bind(cotangent, x, c), None, None))
# `deflinear2` takes them for linear in all arguments; these are the derivatives.
ad.defjvp(_SUMS, lambda tangent, a, b, c: _SUMS.bind(tangent, b, c), _sums_of_second, None)
ad.defjvp(
    _AFFINE,
    lambda tangent, w, x, c: _AFFINE.bind(tangent, x, c),
    lambda tangent, w, x, c: (tangent * w[1]).astype(x.dtype),
    None,
)


class BatchNorm(nn.Module):
    """`flax.linen.BatchNorm` over all axes but the last, with the same fields and variables."""

    use_running_average: bool
    momentum: float
    epsilon: float
    axis_name: str | None = None
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    scale_init: Any = nn.initializers.ones

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x: [..., C] -> the same shape."""
        shape = (x.shape[-1],)
        statistics = _accumulator(self.param_dtype)
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape, statistics)
        var = self.variable("batch_stats", "var", jnp.ones, shape, statistics)
        scale = self.param("scale", self.scale_init, shape, self.param_dtype)
        bias = self.param("bias", nn.initializers.zeros, shape, self.param_dtype)
        x = x.astype(self.dtype)
        if self.use_running_average:
            centre, variance = mean.value, var.value
        else:
            zeros = jnp.zeros(shape, _accumulator(x.dtype))
            means = _SUMS.bind(x, x, zeros) * (1 / max(1, x.size // shape[0]))
            if self.axis_name is not None and not self.is_initializing():
                means = lax.pmean(means, self.axis_name)
            centre = means[0]
            variance = jnp.maximum(means[1] - centre * centre, 0)
            if not self.is_initializing():
                mean.value = self.momentum * mean.value + (1 - self.momentum) * centre
                var.value = self.momentum * var.value + (1 - self.momentum) * variance
        factor = scale * lax.rsqrt(variance + self.epsilon)
        constant = lax.stop_gradient(centre)  # a constant channel becomes its bias
        w = jnp.stack([bias - factor * (centre - constant), factor]).astype(_accumulator(x.dtype))
        return _AFFINE.bind(w, x, constant.astype(w.dtype))
