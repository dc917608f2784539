"""Dropout whose probability may be a traced number."""

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array


class Dropout(nn.Module):
    """Keeps each unit with probability `keep_prob` (Srivastava et al. 2014).

    `inverted` divides the kept units by `keep_prob` in training; `classic`, the paper's form,
    multiplies by `keep_prob` at test time. `spatial` draws once per example and channel
    (Tompson et al. 2015); on a vector [B, C] both kinds are the same. A configured probability
    of 1 means that there is no dropout: neither a random key nor `keep_prob` is used.
    """

    keep_prob: float
    scaling: Literal["inverted", "classic"] = "inverted"
    kind: Literal["plain", "spatial"] = "plain"

    @nn.compact
    def __call__(self, x: Array, *, train: bool, keep_prob: Array | float | None = None) -> Array:
        """x is [B, ..., C]; `keep_prob` in (0, 1], possibly traced, replaces the configured one.
        In training the random stream `dropout` is used."""
        if self.keep_prob >= 1:
            return x
        keep = jnp.asarray(self.keep_prob if keep_prob is None else keep_prob)
        if not train:
            return x * keep.astype(x.dtype) if self.scaling == "classic" else x
        shape = x.shape
        if self.kind == "spatial":
            shape = (shape[0], *(1 for _ in shape[1:-1]), shape[-1])
        mask = jax.random.bernoulli(self.make_rng("dropout"), keep, shape)
        scale = (1 / keep).astype(x.dtype) if self.scaling == "inverted" else 1
        return jnp.where(mask, x * scale, jnp.zeros_like(x))


def drop_path(x: Array, survival: Array | float, key: Array) -> Array:
    """Keeps the examples of x, [B, ...], with probability `survival` and divides them by it; the
    others are zero (stochastic depth, Huang et al. 2016)."""
    mask = jax.random.bernoulli(key, survival, (x.shape[0],) + (1,) * (x.ndim - 1))
    return jnp.where(mask, x / survival, jnp.zeros_like(x))
