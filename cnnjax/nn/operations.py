"""Operations with several implementations, and the choice of one.

XLA compiles the plain implementations well for GPUs and TPUs. On a CPU the gradient of a
convolution costs several times more than necessary, and that of a window reduction many times.
"""

from collections.abc import Callable
from dataclasses import dataclass

import flax.linen as nn
from jax import Array, lax

from cnnjax.nn import pooling, upsampling
from cnnjax.nn.convolution import Convolve
from cnnjax.nn.native import convolution as native_convolution
from cnnjax.nn.native import normalization as native_normalization
from cnnjax.nn.native import pooling as native_pooling


@dataclass(frozen=True)
class Operations:
    """Functions whose implementations agree except for rounding.

    Attributes:
      convolve: `jax.lax.conv_general_dilated`, or a function with the same signature.
      max_pool: the largest element of each window, see `cnnjax.nn.pooling.max_pool`.
      max_unpool: its transpose, see `cnnjax.nn.upsampling.max_unpool`; of slices also where pooling
        is native, whose maxima they find again faster.
      batch_norm: `flax.linen.BatchNorm`, or a module with the same arguments.
    """

    convolve: Convolve = lax.conv_general_dilated
    max_pool: Callable[..., Array] = pooling.reduce_window_max
    max_unpool: Callable[..., Array] = upsampling.scatter_max_unpool
    batch_norm: Callable[..., nn.Module] = nn.BatchNorm


PLAIN = Operations()
SLICED = Operations(max_pool=pooling.max_pool, max_unpool=upsampling.max_unpool)
NATIVE = Operations(
    native_convolution.conv_general_dilated,
    native_pooling.max_pool,
    upsampling.max_unpool,
    native_normalization.BatchNorm,
)


def choose(backend: str, convolution: str, *, deterministic: bool = False) -> Operations:
    """The implementations for a backend (`cpu`, `gpu`, `tpu`) and a convolution (`xla`, `native`).

    On GPUs XLA has no deterministic gradient of a maximum over windows, and fails to compile one
    if programs have to be `deterministic` (UNIMPLEMENTED, select-and-scatter)."""
    if convolution == "native":
        return NATIVE
    return SLICED if backend == "cpu" or (deterministic and backend == "gpu") else PLAIN
