"""Activations: functions of an array of any shape, and PReLU, which learns its slopes."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

Activation = Callable[[Array], Array]


def scaled_tanh(x: Array) -> Array:
    """1.7159 tanh(2x/3), so that f(1) = 1 and f(-1) = -1 nearly (LeCun et al. 1998, app. A)."""
    return 1.7159 * jnp.tanh(x * (2.0 / 3.0))


def leaky_relu(x: Array, slope: float = 0.01) -> Array:
    """x above zero, `slope` times x below (Maas et al. 2013). Slope 1 makes the network linear."""
    return jnp.where(x >= 0, x, slope * x)


def identity(x: Array) -> Array:
    """The input itself: a linear network."""
    return x


class PReLU(nn.Module):
    """Leaky ReLU with one learnt slope per channel, initially 0.25 (He et al. 2015,
    "Delving Deep into Rectifiers", sec. 2.1). The channels are the last axis."""

    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """x: [..., C] -> the same shape."""
        slope = self.param(
            "slope", nn.initializers.constant(0.25), (x.shape[-1],), self.param_dtype
        )
        return jnp.where(x >= 0, x, slope.astype(x.dtype) * x)


def exact_gelu(x: Array) -> Array:
    """x Phi(x) with the exact normal distribution function (Hendrycks and Gimpel 2016)."""
    return jax.nn.gelu(x, approximate=False)


ACTIVATIONS: dict[str, Activation | type[nn.Module]] = {
    "sigmoid": jax.nn.sigmoid,
    "tanh": jnp.tanh,
    "scaled_tanh": scaled_tanh,
    "relu": jax.nn.relu,
    "leaky_relu": leaky_relu,
    "prelu": PReLU,
    "elu": jax.nn.elu,
    "selu": jax.nn.selu,
    "gelu": exact_gelu,
    "silu": jax.nn.silu,
    "softplus": jax.nn.softplus,
    "identity": identity,
}

NON_DECREASING = (
    jax.nn.sigmoid,
    jnp.tanh,
    scaled_tanh,
    jax.nn.relu,
    jax.nn.elu,
    jax.nn.selu,
    jax.nn.softplus,
    identity,
)
"""The activations f with f(a) <= f(b) for all a <= b. Leaky ReLU and PReLU, whose slope may be
negative, GELU and SiLU are not."""
