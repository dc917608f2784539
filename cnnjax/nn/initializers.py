"""Initialisers of weights. Biases start at zero everywhere.

Kernels have the shape [n_in, n_out] or [height, width, n_in, n_out] (HWIO). The plain normal forms
use the lecture's formulas literally. The truncated forms (at two standard deviations) and
the uniform forms have the same variance; jax's own `he_normal` and `glorot_normal` are truncated.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from cnnjax.config import ResolvedModel

Initializer = Callable[[Array, Sequence[int], Any], Array]
"""(key, shape, dtype) -> values."""

Factory = Callable[[ResolvedModel, int], Initializer]
"""(configuration, groups of the convolution) -> initialiser."""

TRUNCATED_SD = 0.87962566103423978
"""The standard deviation of a standard normal truncated at +-2."""


def fans(shape: Sequence[int], groups: int = 1) -> tuple[int, int]:
    """(fan in, fan out): the inputs of an output, and the outputs of an input.

    `shape` is [..., n_in, n_out] as flax stores it: the kernel of a convolution in groups is
    [height, width, n_in / groups, n_out], so that an input has n_out / groups outputs.
    """
    *window, n_in, n_out = shape
    area = math.prod(window)
    return area * n_in, area * n_out // groups


def lecun_sd(n_in: int, n_out: int) -> float:
    """1 / sqrt(n_in) (LeCun et al. 1998, "Efficient BackProp")."""
    return 1 / math.sqrt(n_in)


def xavier_sd(n_in: int, n_out: int) -> float:
    """sqrt(2) / sqrt(n_in + n_out) (Glorot and Bengio 2010)."""
    return math.sqrt(2) / math.sqrt(n_in + n_out)


def he_sd(n_in: int, n_out: int) -> float:
    """sqrt(2) / sqrt(n_in) (He et al. 2015, "Delving Deep into Rectifiers")."""
    return math.sqrt(2) / math.sqrt(n_in)


def normal(key: Array, shape: Sequence[int], dtype: Any, sd: float) -> Array:
    """Gaussian values of mean 0 and standard deviation `sd`."""
    return sd * jax.random.normal(key, tuple(shape), dtype)


def truncated_normal(key: Array, shape: Sequence[int], dtype: Any, sd: float) -> Array:
    """Gaussian values truncated at two deviations, of standard deviation `sd` after truncation."""
    return sd / TRUNCATED_SD * jax.random.truncated_normal(key, -2, 2, tuple(shape), dtype)


def uniform(key: Array, shape: Sequence[int], dtype: Any, sd: float) -> Array:
    """Uniform values within +-sqrt(3) sd: of standard deviation `sd`."""
    return math.sqrt(3) * sd * jax.random.uniform(key, tuple(shape), dtype, -1, 1)


def _scaled(draw: Callable[..., Array], sd: Callable[[int, int], float]) -> Factory:
    """An initialiser whose deviation follows from the fans."""

    def factory(model: ResolvedModel, groups: int) -> Initializer:
        return lambda key, shape, dtype: draw(key, shape, dtype, sd(*fans(shape, groups)))

    return factory


def _fixed_sd(draw: Callable[..., Array]) -> Factory:
    """An initialiser of the fixed deviation `model.initializer_sd`."""

    def factory(model: ResolvedModel, groups: int) -> Initializer:
        return lambda key, shape, dtype: draw(key, shape, dtype, model.initializer_sd)

    return factory


def _lenet_sd(n_in: int, n_out: int) -> float:
    """Of U(-2.4 / n_in, 2.4 / n_in) (LeCun et al. 1998, "Gradient-Based Learning", sec. III-C)."""
    return 2.4 / n_in / math.sqrt(3)


def _orthogonal(model: ResolvedModel, groups: int) -> Initializer:
    """Orthonormal rows or columns of the [inputs, outputs] matrix (Saxe et al. 2014), gain 1;
    each group of a convolution separately."""
    draw = jax.nn.initializers.orthogonal()

    def init(key: Array, shape: Sequence[int], dtype: Any) -> Array:
        group_shape = (*shape[:-1], shape[-1] // groups)
        return jnp.concatenate(
            [draw(k, group_shape, dtype) for k in jax.random.split(key, groups)], -1
        )

    return init


INITIALIZERS: dict[str, Factory] = {
    "zeros": lambda model, groups: jax.nn.initializers.zeros,
    "constant": lambda model, groups: jax.nn.initializers.constant(model.initializer_value),
    "small_normal": _fixed_sd(normal),
    "small_truncated_normal": _fixed_sd(truncated_normal),
    "lecun_normal": _scaled(normal, lecun_sd),
    "lecun_truncated_normal": _scaled(truncated_normal, lecun_sd),
    "lecun_uniform": _scaled(uniform, lecun_sd),
    "xavier_normal": _scaled(normal, xavier_sd),
    "xavier_truncated_normal": _scaled(truncated_normal, xavier_sd),
    "xavier_uniform": _scaled(uniform, xavier_sd),
    "he_normal": _scaled(normal, he_sd),
    "he_truncated_normal": _scaled(truncated_normal, he_sd),
    "he_uniform": _scaled(uniform, he_sd),
    "lenet_uniform": _scaled(uniform, _lenet_sd),
    "orthogonal": _orthogonal,
    "lsuv": _orthogonal,
}
"""`lsuv` starts orthogonal; `cnnjax.nn.lsuv.lsuv` then scales it on a batch of images."""
